"""Pixels that stay in their file until they are asked for, so that a volume takes no more memory than a few slices."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

ENOUGH = 24  # slices that a window is estimated from


class Slices:
    """What `Scan.pixels` is of a scan that `open_scan` opened: `(slices, c, h, w)` float32, read at each look.

    `read` answers slice number `index` as `(c, h, w)`; one slice after the other is the order that all files are
    quick in.
    """

    ndim = 4
    dtype = np.dtype(np.float32)

    def __init__(self, shape: tuple[int, int, int, int], read: Callable[[int], np.ndarray]):
        self.shape = shape
        self._read = read

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | slice) -> np.ndarray:
        """One slice `(c, h, w)`, or some `(n, c, h, w)`."""
        if not isinstance(index, slice):
            return np.asarray(self._read(range(len(self))[index]), np.float32)
        wanted = range(len(self))[index]
        pixels = np.empty((len(wanted), *self.shape[1:]), np.float32)
        for place, number in enumerate(wanted):
            pixels[place] = self._read(number)
        return pixels

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All of them, in memory."""
        pixels = self[:]
        return pixels if dtype is None else pixels.astype(dtype, copy=False)


@dataclass(frozen=True, eq=False)
class Planes:
    """Maps `(slices, h, w)` of one channel, each made when it is looked at: `read` answers number `index` `(h, w)`."""

    shape: tuple[int, int, int]
    read: Callable[[int], np.ndarray]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> np.ndarray:
        return np.asarray(self.read(range(len(self))[index]), np.float32)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All of them, in memory."""
        planes = np.stack([self[index] for index in range(len(self))])
        return planes if dtype is None else planes.astype(dtype, copy=False)


def sample(pixels: Any) -> np.ndarray:
    """The pixels themselves, or of those that are not in memory some slices from end to end."""
    if not isinstance(pixels, Slices):
        return pixels
    steps = -(-len(pixels) // ENOUGH)
    return pixels[steps // 2 :: steps]
