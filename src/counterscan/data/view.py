"""How volumes are shown as on a light box, whatever the order and direction of their axes, and put back."""

from dataclasses import dataclass

import nibabel
import numpy as np


@dataclass(frozen=True)
class View:
    """How stored axes (i, j, k) become (slice, row, column): slices along k; patient's right, or front, on the left.

    Rows run from front to back in axial slices, from head to feet in others. All of it is swaps and flips, so that
    `stored(shown(x))` is x bit for bit. Further axes, such as channels, stay where they are.
    """

    swap: bool  # columns lie along i, not along j
    flip_rows: bool
    flip_columns: bool

    @classmethod
    def of(cls, affine: np.ndarray) -> "View":
        """The view that comes nearest to the standard for an affine to RAS+ (oblique ones too)."""
        axes = nibabel.io_orientation(affine)
        if np.isnan(axes).any():  # a flat affine says nothing
            return cls(True, False, False)
        columns, rows = (0, 1) if axes[0, 0] < axes[1, 0] else (1, 0)
        return cls(columns == 0, bool(axes[rows, 1] > 0), bool(axes[columns, 1] > 0))

    def shown(self, stored: np.ndarray) -> np.ndarray:
        """(i, j, k) to (slice, row, column)."""
        slices = np.moveaxis(stored, 2, 0)
        slices = slices.swapaxes(1, 2) if self.swap else slices
        return slices[:, :: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]

    def stored(self, shown: np.ndarray) -> np.ndarray:
        """(slice, row, column) to (i, j, k): the inverse of `shown`."""
        slices = shown[:, :: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]
        slices = slices.swapaxes(1, 2) if self.swap else slices
        return np.moveaxis(slices, 0, 2)

    def affine(self, affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The affine of (column, row, slice), for an affine of (i, j, k) and the stored shape."""
        columns, rows = (0, 1) if self.swap else (1, 0)
        step = np.zeros((4, 4))
        step[3, 3] = step[2, 2] = 1
        for shown, (axis, flip) in enumerate([(columns, self.flip_columns), (rows, self.flip_rows)]):
            step[axis, shown] = -1 if flip else 1
            step[axis, 3] = shape[axis] - 1 if flip else 0
        return affine @ step


def steps(affine: np.ndarray) -> tuple[float, float, float]:
    """The spacing (row, column, slice) of an affine of (column, row, slice)."""
    column, row, slice_ = (float(step) for step in np.linalg.norm(affine[:3, :3], axis=0))
    return row, column, slice_
