"""Windows: which physical values are shown from black (-1) to white (1), and back."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from counterscan.errors import ScanError

ARBITRARY = ("", "intensity", "a.u.")  # units that mean something within one dataset only


@dataclass(frozen=True)
class Window:
    """The linear map that takes `low` to -1 and `high` to 1; `unit` is that of both, `""` where there is none.

    Numpy arrays and torch tensors go through alike.
    """

    low: float
    high: float
    unit: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ScanError(f"a window goes from a lower to a higher value, not from {self.low} to {self.high}")

    @property
    def physical(self) -> bool:
        """Is the unit one that means the same in every file, as Hounsfield units do?"""
        return self.unit not in ARBITRARY

    @property
    def scale(self) -> float:
        """Physical units per unit of the image: half of the window's width."""
        return (self.high - self.low) / 2

    def to_unit(self, pixels: Any, *, clip: bool = True) -> Any:
        """Physical values to [-1, 1]; with `clip=False` what lies outside the window goes beyond."""
        unit = (pixels - self.low) / self.scale - 1
        return unit.clip(-1, 1) if clip else unit

    def from_unit(self, images: Any) -> Any:
        """The inverse of `to_unit(..., clip=False)`."""
        return (images + 1) * self.scale + self.low

    def restore(self, pixels: Any, change: Any) -> Any:
        """Physical values after a `change` in image units.

        What is not changed stays as it was bit for bit, also outside the window, where `to_unit` cannot be undone.
        """
        return pixels + change * self.scale

    def as_tuple(self) -> tuple[float, float, str]:
        """`(low, high, unit)`, as cards and `dataset.toml` hold it."""
        return (self.low, self.high, self.unit)


def range_window(pixels: np.ndarray, unit: str = "", share: float = 0.005) -> Window:
    """The window that leaves out `share` of the values at either end: for scans that name none themselves."""
    low, high = (float(value) for value in np.quantile(pixels, [share, 1 - share]))
    if low == high:
        low, high = float(pixels.min()), float(pixels.max())
    return Window(low, high if high > low else low + 1, unit)
