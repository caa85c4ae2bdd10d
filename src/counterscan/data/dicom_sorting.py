"""Which slices of a DICOM series are volumes together: what lies among them, missing, doubled or askew, is told.

What can be used is used: a series with a gap is two volumes, one with several phases a volume each, copies are left out
and localisers stand alone. Each of these is one line for the user.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom import Dataset

from counterscan.data.dicom_frames import ROUNDING, Plane, Stack, frame_count
from counterscan.errors import ScanError

PHASES = (  # what tells slices in one place apart
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "EchoTime",
    "DiffusionBValue",
    "ConvolutionKernel",
    "ImageType",
)
GAP = 1.5  # of the usual step: beyond it something is missing, or was never taken
SAME = ("Rows", "Columns", "PhotometricInterpretation", "Modality", "RescaleType")  # all slices of a volume agree
WANTED = (
    *SAME,
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "InstanceNumber",
    "NumberOfFrames",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "ImageType",
    "SOPInstanceUID",
    *PHASES,
    "PixelSpacing",
    "SliceThickness",
)


@dataclass(frozen=True, eq=False)
class Slice:
    """A file, and what its head says of where it belongs: series, number in it, and place in the patient.

    `single` is False for what holds no image or several frames.
    """

    path: Path
    head: Dataset
    series: str = ""
    number: int | None = None
    single: bool = False
    plane: Plane | None = None

    @classmethod
    def of(cls, path: Path) -> "Slice":
        """From a file's head; ScanError for one that is damaged."""
        try:
            head = pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=list(WANTED))
            list(head)  # an element is only decoded when it is looked at
            told = head.get("InstanceNumber")
            number = None if told is None else int(told)
            single = bool(head.get("Rows")) and frame_count(head) == 1
            return cls(path, head, str(head.get("SeriesInstanceUID") or ""), number, single, Plane.of(head))
        except Exception as error:  # a damaged head makes pydicom raise nearly anything
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ScanError(f"{path} is a damaged DICOM file ({reason}); copy it again from where it came") from error

    @property
    def localiser(self) -> bool:
        """Is it a survey picture, from which the slices were planned?"""
        return is_localiser(self.head)


def is_localiser(head: Any) -> bool:
    """Does a head say that its image is a localiser (PS3.3 C.8.2.1.1.1)?"""
    told = head.get("ImageType") or []
    return "LOCALIZER" in ([told] if isinstance(told, str) else [str(one) for one in told])


def proper(slices: list[Slice], where: Path) -> tuple[list[Slice], list[str]]:
    """The slices without localisers among them and without copies of others, and a line on what was left out."""
    notes: list[str] = []
    kept = [one for one in slices if not one.localiser]
    if kept and len(kept) < len(slices):
        names = _names(one for one in slices if one.localiser)
        notes.append(f"{where}: {names} left out (localiser, no slice of the volume)")
    slices = kept or slices
    kept = _without_copies(slices)
    if len(kept) < len(slices):
        names = _names(one for one in slices if one not in kept)
        notes.append(f"{where}: {names} left out (the same as another slice)")
    return kept, notes


def volumes(slices: list[Slice], volume_of: Callable[[list[Slice], Path], Any]) -> tuple[list[list[Slice]], list[str]]:
    """The slices of one series as the volumes they make, each other one by itself; and a line on each surprise."""
    where = slices[0].path.parent
    if len(slices) == 1 or all(one.plane is None for one in slices):
        return [[one] for one in slices], _unplaced(slices, where)
    placed = [one for one in slices if one.plane is not None and not one.localiser]
    alone = [[one] for one in slices if one.plane is None or one.localiser]
    notes = _unplaced([one for one in slices if one.plane is None and not one.localiser], where)
    placed, more = proper(placed, where) if placed else ([], [])
    notes += more
    groups = _by(placed, _kind)
    if len(groups) > 1:
        sizes = ", ".join(str(len(group)) for group in groups)
        notes.append(
            f"{where}: the slices differ in {_difference(groups)}, so groups of {sizes} files are cases of their own"
        )
    found: list[list[Slice]] = []
    for group in groups:
        parts, more = _stacks(group, where, volume_of)
        found += parts
        notes += more
    return found + alone, notes


def gaps(slices: list[Slice], stack: Stack) -> list[int]:
    """The numbers of the slices after which some are missing.

    A step much larger than the others is one, unless the slices' numbers say that there was never one between.
    """
    usual = float(np.median(stack.steps))
    found = []
    for number, (before, after, step) in enumerate(zip(slices, slices[1:], stack.steps, strict=False)):
        on = before.number is not None and after.number is not None and abs(after.number - before.number) == 1
        if step > GAP * usual and not on:
            found.append(number)
    return found


def told_gap(slices: list[Slice], stack: Stack, number: int) -> str:
    """What is missing after slice `number`, in words."""
    names = f"{slices[number].path.name} and {slices[number + 1].path.name}"
    usual = float(np.median(stack.steps))
    return f"lacks slices between {names} ({stack.steps[number]:g} mm apart, others {usual:g} mm)"


def _stacks(group: list[Slice], where: Path, volume_of: Callable) -> tuple[list[list[Slice]], list[str]]:
    """The volumes in slices that lie parallel: one, or one a phase, or one on either side of a gap."""
    stack = Stack.of([one.plane for one in group], [one.number or 0 for one in group])
    if len(group) < 2 or stack is None:
        return [[one] for one in group], []
    if stack.repeats:
        return _phases(group, where, volume_of)
    ordered = [group[index] for index in stack.order]
    missing = gaps(ordered, stack)
    if missing:
        ends = [0, *(number + 1 for number in missing), len(ordered)]
        parts = [ordered[start:end] for start, end in pairwise(ends)]
        told = told_gap(ordered, stack, missing[0]) + (f", and {len(missing) - 1} more" if len(missing) > 1 else "")
        return parts, [f"{where} {told}; what lies on either side is a case of its own"]
    try:
        volume_of(group, where)
    except ScanError as error:
        return [[one] for one in group], [_apart(error, group)]
    return [group], []


def _phases(group: list[Slice], where: Path, volume_of: Callable) -> tuple[list[list[Slice]], list[str]]:
    """Slices that share places, told apart by what they say of phase or echo; else each by itself."""
    for keyword in PHASES:
        parts = _by(group, lambda one, keyword=keyword: str(one.head.get(keyword)))  # type: ignore[misc]
        stacks = [Stack.of([one.plane for one in part]) for part in parts]
        if len(parts) > 1 and not any(stack is None or stack.repeats for stack in stacks):
            found = [_stacks(part, where, volume_of) for part in parts]
            note = f"{where}: {len(parts)} volumes share their places and differ in {keyword}; each is a case"
            return [each for one, _ in found for each in one], [note, *(line for _, notes in found for line in notes)]
    try:
        volume_of(group, where)
    except ScanError as error:
        return [[one] for one in group], [_apart(error, group)]
    return [group], []


def _apart(error: ScanError, group: list[Slice]) -> str:
    return f"{error} - until then each of its {len(group)} files is a case of its own"


def _unplaced(slices: list[Slice], where: Path) -> list[str]:
    """A line on slices of a kind that lie in volumes but do not say where."""
    found = [one for one in slices if str(one.head.get("Modality")) in ("CT", "MR", "PT") and one.single]
    if len(slices) < 2 or not found:
        return []
    zero = "a pixel spacing of zero" if _zero_spacing(found[0].head) else "no place in the patient"
    return [f"{where}: {_names(found)} have {zero}, so each is a case of its own, and nothing is measured in mm"]


def _zero_spacing(head: Dataset) -> bool:
    told = head.get("PixelSpacing")
    return bool(told) and min(float(one) for one in told) <= 0


def _without_copies(slices: list[Slice]) -> list[Slice]:
    """The first of those that are the same instance, or the same pixels in the same place."""
    seen: dict[Hashable, list[Slice]] = defaultdict(list)
    kept = []
    for one in slices:
        twins = seen[_place(one)] if one.plane is not None else []
        if not any(_same(one, other) for other in twins):
            kept.append(one)
            twins.append(one)
    return kept


def _place(one: Slice) -> Hashable:
    plane = one.plane
    assert plane is not None, "only slices with a place are compared"
    place = np.concatenate([plane.position / (4 * ROUNDING), plane.along_row * 50, plane.along_column * 50])
    return tuple(np.round(place).tolist())


def _same(one: Slice, other: Slice) -> bool:
    uids = [item.head.get("SOPInstanceUID") for item in (one, other)]
    if uids[0] and uids[0] == uids[1]:
        return True
    pixels = [pydicom.dcmread(item.path, force=True).get("PixelData") for item in (one, other)]
    return pixels[0] is not None and pixels[0] == pixels[1]


def _kind(one: Slice) -> Hashable:
    """What the slices of a volume share."""
    plane = one.plane
    assert plane is not None, "only slices with a place are grouped"
    lie = np.concatenate([plane.along_row, plane.along_column, plane.spacing])
    directions = tuple((np.round(lie, 2) + 0.0).tolist())
    return (one.single, directions, *(str(one.head.get(keyword)) for keyword in SAME))


def _difference(groups: list[list[Slice]]) -> str:
    """In what the groups differ first."""
    kinds = [_kind(group[0]) for group in groups]
    names = ("number of frames", "orientation", *SAME)
    return next(name for name, values in zip(names, zip(*kinds, strict=True), strict=True) if len(set(values)) > 1)


def _by(slices: Iterable[Slice], key: Callable[[Slice], Hashable]) -> list[list[Slice]]:
    groups: dict[Hashable, list[Slice]] = defaultdict(list)
    for one in slices:
        groups[key(one)].append(one)
    return sorted(groups.values(), key=len, reverse=True)


def _names(slices: Iterable[Slice]) -> str:
    names = [one.path.name for one in slices]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
