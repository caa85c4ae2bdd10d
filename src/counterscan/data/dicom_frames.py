"""The frames of a DICOM file, each with a head of its own, and where they lie in the patient."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom import Dataset

from counterscan.data.codestream import decode
from counterscan.data.dicom_values import cleaned

MACROS = {  # what a functional group of an enhanced file says (PS3.3 C.7.6.16.2), and where it says it
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "RescaleType": "PixelValueTransformationSequence",
    "WindowCenter": "FrameVOILUTSequence",
    "WindowWidth": "FrameVOILUTSequence",
    "WindowCenterWidthExplanation": "FrameVOILUTSequence",
    "VOILUTFunction": "FrameVOILUTSequence",
}
ROUNDING = 0.01  # mm: what positions written as decimal text may be off
UNEVEN = 0.05  # of a step that a slice may lie off the even grid
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # DICOM counts to the left and to the back


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame's head: its own functional groups first, then the shared ones, then the data set."""

    dataset: Dataset
    groups: tuple[Dataset, ...]

    def get(self, keyword: str, default: Any = None) -> Any:
        """The value of `keyword` for this frame."""
        if keyword == "filename":
            return self.dataset.filename
        macro = MACROS.get(keyword)
        for group in self.groups:
            items = group.get(macro) if macro else None
            if items and keyword in items[0]:
                return items[0].get(keyword)
        return self.dataset.get(keyword, default)


def frame_count(dataset: Dataset) -> int:
    """How many frames a data set promises."""
    return int(dataset.get("NumberOfFrames") or 1)


def heads_of(dataset: Dataset) -> list[Any]:
    """A head for each frame of a data set, in the order of the file."""
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    each = dataset.get("PerFrameFunctionalGroupsSequence") or []
    count = frame_count(dataset)
    if not shared and len(each) != count:
        return [dataset] * count
    own = [(group,) for group in each] if len(each) == count else [()] * count
    return [Frame(dataset, (*group, *shared[:1])) for group in own]


def frames_of(dataset: Dataset) -> Iterator[np.ndarray]:
    """The stored values `(h, w)` or `(h, w, 3)` of each frame, decoded one by one, only the stored bits kept."""
    frames = frame_count(dataset)
    for number in range(frames):
        yield cleaned(decode(dataset, number, frames), dataset)


@dataclass(frozen=True, eq=False)
class Plane:
    """Where a slice lies: its first pixel, the directions of rows and columns, and (row, column) spacing, in mm LPS."""

    position: np.ndarray
    along_row: np.ndarray
    along_column: np.ndarray
    spacing: tuple[float, float]

    @classmethod
    def of(cls, head: Any) -> "Plane | None":
        """From a head; None where it does not say where the patient lay."""
        position, orientation, spacing = (
            head.get(name) for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
        )
        if not (position and orientation and spacing):
            return None
        if (len(position), len(orientation), len(spacing)) != (3, 6, 2):
            return None
        row, column = float(spacing[0]), float(spacing[1])
        numbers = np.array([*position, *orientation], float)
        if not np.isfinite(numbers).all() or min(row, column) <= 0:
            return None
        return cls(numbers[:3], numbers[3:6], numbers[6:], (row, column))

    @property
    def normal(self) -> np.ndarray:
        """The direction across the slice, right-handed."""
        return np.cross(self.along_row, self.along_column)

    def parallel(self, other: "Plane") -> bool:
        """Do both lie in the same directions, with the same spacing?"""
        mine, others = (np.r_[one.along_row, one.along_column, one.spacing] for one in (self, other))
        return bool(np.allclose(mine, others, atol=1e-3))


@dataclass(frozen=True, eq=False)
class Stack:
    """Parallel planes in order along their normal.

    `order` holds the index of each; `steps` the distances between neighbours in mm; `even` whether a single step vector
    leads from each to the next.
    """

    planes: tuple[Plane, ...]
    order: tuple[int, ...]
    steps: tuple[float, ...]
    even: bool

    @classmethod
    def of(cls, planes: Sequence[Plane | None], ties: Sequence[float] | None = None) -> "Stack | None":
        """Sorted planes (equal positions by `ties`), or None where one is missing or they are not parallel."""
        known = [plane for plane in planes if plane is not None]
        if len(known) != len(planes) or not all(known[0].parallel(plane) for plane in known):
            return None
        along = np.array([plane.position @ known[0].normal for plane in known])
        later = np.arange(len(known)) if ties is None else np.array(ties)
        order = np.lexsort((later, np.round(along / ROUNDING)))
        ordered = tuple(known[index] for index in order)
        steps = np.diff(along[order])
        return cls(ordered, tuple(int(index) for index in order), tuple(steps.tolist()), _even(ordered, steps))

    @property
    def repeats(self) -> bool:
        """Do several slices lie in the same place?"""
        return any(step <= ROUNDING for step in self.steps)

    def affine(self, thickness: float) -> np.ndarray | None:
        """(column, row, slice) to RAS+ millimetres (PS3.3 C.7.6.2.1.1); None where one matrix cannot say it."""
        if not self.even:
            return None
        first, last = self.planes[0], self.planes[-1]
        matrix = np.eye(4)
        matrix[:3, 0] = first.along_row * first.spacing[1]
        matrix[:3, 1] = first.along_column * first.spacing[0]
        count = len(self.planes) - 1
        matrix[:3, 2] = (last.position - first.position) / count if count else first.normal * thickness
        matrix[:3, 3] = first.position
        return LPS_TO_RAS @ matrix

    @property
    def spacing(self) -> tuple[float, ...]:
        """(row, column) of a slice, (row, column, slice) of an even stack."""
        if len(self.planes) == 1 or not self.even:
            return self.planes[0].spacing
        return (*self.planes[0].spacing, round(float(np.mean(self.steps)), 6))


def _even(planes: Sequence[Plane], steps: np.ndarray) -> bool:
    """Do the slices lie on an even grid, but for rounding (a tilted gantry shifts each by the same)?"""
    if len(planes) < 3:
        return len(planes) == 1 or bool(steps[0] > ROUNDING)
    positions = np.array([plane.position for plane in planes])
    grid = np.linspace(positions[0], positions[-1], len(planes))
    off = np.linalg.norm(positions - grid, axis=1).max()
    return bool(off <= ROUNDING + UNEVEN * np.mean(steps) and steps.min() > ROUNDING)
