"""Masks of a volume a bit a pixel: what a segmentation object holds in the end, and an eighth of what they are."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np


@dataclass(frozen=True, eq=False)
class Bits:
    """Boolean masks `(slices, h, w)`: `packed` holds one row of bytes a slice, the first pixel in the lowest bit."""

    shape: tuple[int, int, int]
    packed: np.ndarray = field(repr=False)

    @classmethod
    def of(cls, masks: Iterable[np.ndarray], shape: tuple[int, int, int]) -> Self:
        """Pack masks `(h, w)` as they come; `shape` says how many there are, and how large."""
        packed = np.empty((shape[0], -(-shape[1] * shape[2] // 8)), np.uint8)
        for index, mask in enumerate(masks):
            packed[index] = np.packbits(np.asarray(mask, bool), bitorder="little")
        return cls(shape, packed)

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> np.ndarray:
        """The mask `(h, w)` of a slice."""
        _, height, width = self.shape
        flat = np.unpackbits(self.packed[index], count=height * width, bitorder="little")
        return flat.reshape(height, width).astype(bool)

    def sum(self) -> int:
        """How many pixels are in a mask."""
        return int(np.bitwise_count(self.packed).sum(dtype=np.int64))

    def any(self) -> bool:
        """Is any pixel in a mask?"""
        return bool(self.packed.any())

    def unpacked(self) -> np.ndarray:
        """All of them, `(slices, h, w)` bool."""
        return np.stack([self[index] for index in range(len(self))])

    def taken(self, order: Sequence[int] | np.ndarray) -> Self:
        """The masks in another order."""
        return type(self)(self.shape, self.packed[np.asarray(order)])

    def content(self) -> bytes:
        """All pixels one after the other, as DICOM stores frames of one bit: a frame need not begin with a byte."""
        whole = self.packed if not (self.shape[1] * self.shape[2]) % 8 else self._run_on()
        content = whole.tobytes()
        return content + bytes(len(content) % 2)

    def _run_on(self) -> np.ndarray:
        return np.packbits(self.unpacked().ravel(), bitorder="little")
