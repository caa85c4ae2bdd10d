"""A DICOM series of one file a slice: found in a folder, sorted by where the slices lie, read and written as a volume.

What is refused, because a volume with it would be wrong and nobody would see it: two series, two slices in one place
(several echoes, phases or copies), slices that do not lie parallel, a gap where slices are missing. Uneven steps that
are no gap (the numbers of the slices run on) are told as a warning, and the volume has no affine.
"""

import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.uid import generate_uid

from counterscan.data import dicom, dicom_sorting
from counterscan.data.derived import LINKS, save, sop_instance
from counterscan.data.dicom_frames import ROUNDING, Plane, Stack
from counterscan.data.dicom_sorting import SAME, Slice
from counterscan.data.dicom_values import Values
from counterscan.data.files import format_of_content
from counterscan.data.lazy import Slices
from counterscan.data.limits import check_size
from counterscan.data.scans import Scan
from counterscan.data.window import Window
from counterscan.errors import ScanError


@dataclass(frozen=True)
class DicomSeries:
    """The files of a volume in the order of its slices; read again when a result is written.

    A result is a folder of derived files, one a slice; a mask is one file.
    """

    paths: tuple[Path, ...]
    windows: dict[str, Window] = field(default_factory=dict)
    has_unit: bool = True
    planes: tuple[Plane, ...] = ()

    @property
    def suffix(self) -> str:
        return ""

    @property
    def mask_suffix(self) -> str:
        return ".dcm"

    def rescaled(self, scan: Scan, slope: float, intercept: float) -> Scan:
        return scan

    def datasets(self) -> list[Dataset]:
        """The data sets of the slices without their pixels; of all but the first only what a result points to."""
        heads = [dicom.head_of(self.paths[0]), *(_link(path) for path in self.paths[1:])]
        for head in heads:
            _join(head, heads[0])
        return heads

    def as_stored(self, slices: np.ndarray) -> np.ndarray:
        """What belongs to the scan's slices `(slices, ...)`, in the order of `datasets`: as it is."""
        return slices

    def write(self, pixels: np.ndarray, path: Path) -> Path:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ScanError(f"{path} exists, and a series is written as a new folder; give another name")
        part = path.with_name(f"{path.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        first = dicom.head_of(self.paths[0])
        for number, (source, image) in enumerate(zip(self.paths, pixels, strict=True), 1):
            dataset = dicom.opened(source)
            _join(dataset, first)
            save(dicom.counterfactual(dataset, image[None]), part / f"{number:04}.dcm")
        os.replace(part, path)
        return path

    def write_mask(self, mask: np.ndarray, path: Path) -> Path:
        from counterscan.data.results import save_mask

        return save_mask(self.datasets(), mask, path)


def _link(path: Path) -> Dataset:
    return pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=list(LINKS))


def _join(dataset: Dataset, first: Dataset) -> None:
    """Give slices that lost their series or study (some archives empty the UIDs) one in common, made from the first."""
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
        if not dataset.get(keyword):
            setattr(dataset, keyword, generate_uid(entropy_srcs=[sop_instance(first), keyword]))


def read(source: Path | Sequence[Path], kind: str = "series") -> Scan:
    """Read the series in a folder, or that of some files, as one volume; ScanError says why it is none."""
    return _scan(source, _pixels)


def opened(source: Path | Sequence[Path]) -> Scan:
    """The volume that `read` reads, whose pixels stay in the files (`data/lazy.py`)."""
    return _scan(source, _waiting)


def _scan(source: Path | Sequence[Path], pixels_of: Callable[[Sequence[Path], Any], tuple[Any, str]]) -> Scan:
    where = source if isinstance(source, Path) else source[0].parent
    slices, notes = dicom_sorting.proper(slices_in(source), where)
    for note in notes:
        warnings.warn(note, stacklevel=5)
    if not slices:
        raise ScanError(f"{where} holds no DICOM images; name an image, or a folder with the slices of one series")
    if len(slices) == 1:
        return dicom.read(slices[0].path)
    slices, stack = volume_of(slices, where)
    if not stack.even:
        steps = f"{min(stack.steps):g} to {max(stack.steps):g} mm"
        warnings.warn(f"{where}: slices lie unevenly ({steps}), so the volume has no affine", stacklevel=5)
    head, paths = slices[0].head, tuple(one.path for one in slices)
    pixels, stored = pixels_of(paths, head)
    unit, window, windows = dicom.shown(dicom.head_of(paths[len(paths) // 2]), pixels)
    return Scan(
        pixels,
        window,
        where if isinstance(source, Path) else source[0],
        "dicom",
        stored,
        DicomSeries(paths, windows, planes=stack.planes),
        unit=unit,
        modality=str(head.get("Modality") or ""),
        spacing=stack.spacing,
        affine=stack.affine(float(head.get("SliceThickness") or 1)),
    )


def slices_in(source: Path | Iterable[Path]) -> list[Slice]:
    """The DICOM images among some files, or in a folder and those in it; what is no picture (SEG, SR, ...) is not."""
    if isinstance(source, Path):
        inside = (path for path in source.rglob("*") if not _hidden(path.relative_to(source)))
        source = sorted(path for path in inside if path.is_file() and format_of_content(path) == "dicom")
    slices = [Slice.of(path) for path in source]
    return [one for one in slices if one.head.get("Rows") and str(one.head.get("Modality")) not in dicom.NO_IMAGES]


def _hidden(path: Path) -> bool:
    return path.suffix == ".part" or any(part.startswith(".") for part in path.parts)


def grouped(files: Sequence[Path]) -> list[tuple[Path, ...]]:
    """DICOM files as the images they are: those of a series that is a volume together, each other by itself.

    Files that hold no picture are left out, files that cannot be read stay, so that reading them says why. A series of
    slices that makes no volume is told as a warning.
    """
    series: dict[str, list[Slice]] = {}
    for path in files:
        try:
            slices = slices_in([path])
        except Exception:  # pydicom raises nearly anything over a damaged value, and only when it is looked at
            series[str(path)] = [Slice(path, Dataset())]
            continue
        for one in slices:
            key = (one.series or str(path.parent)) if one.single else str(path)
            series.setdefault(key, []).append(one)
    return sorted(group for slices in series.values() for group in _split(slices))


def _split(slices: list[Slice]) -> list[tuple[Path, ...]]:
    groups, notes = dicom_sorting.volumes(slices, volume_of)
    for note in notes:
        warnings.warn(note, stacklevel=5)
    return [tuple(one.path for one in group) for group in groups]


def volume_of(slices: list[Slice], where: Path) -> tuple[list[Slice], Stack]:
    """The slices in order along their normal; ScanError where they are no volume."""
    _check_one_series(slices, where)
    _check_alike(slices, where)
    planes = [one.plane for one in slices]
    if None in planes:
        name = slices[planes.index(None)].path.name
        raise ScanError(f"{where}: {name} does not say where in the patient it lies; name the files one by one")
    stack = Stack.of(planes, [one.number or 0 for one in slices])
    if stack is None:
        raise ScanError(f"{where}: its slices do not lie parallel (a localiser?); name the files one by one")
    slices = [slices[index] for index in stack.order]
    _check_repeats(slices, stack, where)
    _check_gaps(slices, stack, where)
    return slices, stack


def _check_one_series(slices: list[Slice], where: Path) -> None:
    series: dict[str, list[Slice]] = {}
    for one in slices:
        series.setdefault(one.series, []).append(one)
    if len(series) > 1:
        told = "; ".join(_told(members, where) for members in list(series.values())[:4])
        more = f"; and {len(series) - 4} more" if len(series) > 4 else ""
        raise ScanError(f"{where} holds {len(series)} series ({told}{more}); name a folder with the files of one")


def _told(slices: list[Slice], where: Path) -> str:
    """A series without the texts that may name a patient: number, modality, and where its files are."""
    head = slices[0].head
    folders = sorted({one.path.parent for one in slices})
    place = f"in {os.path.relpath(folders[0], where)}" if folders != [where] else f"from {slices[0].path.name} on"
    number = head.get("SeriesNumber")
    name = f"number {number}" if number is not None else "without a number"
    return f"{name}, {head.get('Modality') or 'no modality'}, {len(slices)} files {place}"


def _check_alike(slices: list[Slice], where: Path) -> None:
    for one in slices:
        if not one.single:
            raise ScanError(f"{where}: {one.path.name} is a volume of its own; name that file")
        for keyword in SAME:
            values = [str(item.head.get(keyword)) for item in (slices[0], one)]
            if values[0] != values[1]:
                names = f"{slices[0].path.name} and {one.path.name}"
                raise ScanError(f"{where}: {names} differ in {keyword} ({' and '.join(values)}); take the odd ones out")


def _check_repeats(slices: list[Slice], stack: Stack, where: Path) -> None:
    if stack.repeats:
        at = next(number for number, step in enumerate(stack.steps) if step <= ROUNDING)
        places = 1 + sum(step > ROUNDING for step in stack.steps)
        names = f"{slices[at].path.name} and {slices[at + 1].path.name}"
        raise ScanError(
            f"{where}: {names} lie in the same place ({len(slices)} slices in {places} places: copies, echoes or "
            "phases?); put one slice a place into a folder"
        )


def _check_gaps(slices: list[Slice], stack: Stack, where: Path) -> None:
    for number in dicom_sorting.gaps(slices, stack):
        told = dicom_sorting.told_gap(slices, stack, number)
        raise ScanError(f"{where} {told}; copy the series again, or name its files one by one")


def _pixels(paths: Sequence[Path], head: Any) -> tuple[np.ndarray, str]:
    """All slices as float32 `(slices, c, h, w)`, decoded one after the other, and the type they are stored in."""
    waiting, stored = _waiting(paths, head)
    return waiting[:], stored


def _waiting(paths: Sequence[Path], head: Any) -> tuple[Slices, str]:
    """All slices, decoded when they are asked for, and the type that the first is stored in."""
    shape = (len(paths), dicom.channels(head), int(head.Rows), int(head.Columns))
    check_size(paths[0].parent, shape)
    first = next(dicom.decoded(dicom.opened(paths[0]), paths[0]))
    return Slices(shape, lambda index: _physical(paths[index])), str(first.dtype)


def _physical(path: Path) -> np.ndarray:
    dataset = dicom.opened(path)
    (frame,) = dicom.decoded(dataset, path)
    return Values.of(dataset).physical(frame)
