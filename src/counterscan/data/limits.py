"""What a file may ask for: bounds that keep memory and time in hand, whatever its header claims."""

import math
from pathlib import Path

import numpy as np

from counterscan.errors import ScanError

LARGEST = 1 << 29  # values in one scan: 512 x 512 x 2048, which is 2 GiB as float32
DEFLATE = 1040  # bytes that one compressed byte can become at most (zlib's format allows 1032)
MOST_SCANS = 200  # of a JPEG: a progressive one has about ten, but 14 bytes can ask for one more over all its pixels


def check_size(path: Path, shape: tuple[int, ...]) -> None:
    """Refuse a shape that is none, or that holds more than `LARGEST` values, before memory is asked for it."""
    told = " x ".join(map(str, shape))
    if min(shape, default=0) < 1:
        raise ScanError(f"{path} says that it holds {told or 'no'} values, which is no image; copy or export it again")
    if math.prod(shape) > LARGEST:
        raise ScanError(f"{path} says that it holds {told} values, more than can be opened safely; crop or scale it")


def check_length(path: Path, wanted: int, there: int, *, packed: bool) -> None:
    """Refuse pixels that take `wanted` bytes where only `there` bytes, `packed` or not, are left in the file."""
    if wanted > there * (DEFLATE if packed else 1):
        state = " packed" if packed else ""
        raise ScanError(
            f"{path} is damaged: its header claims {wanted:,} bytes of pixels, but only {there:,}{state} bytes follow; "
            "copy it again from where it came"
        )


def check_finite(path: Path, values: np.ndarray) -> None:
    """Refuse NaN and infinite values: any number put in their place would be an invention."""
    nan, infinite = int(np.isnan(values).sum()), int(np.isinf(values).sum())
    if nan or infinite:
        found = " and ".join(f"{count:,} {what}" for count, what in ((nan, "NaN"), (infinite, "infinite")) if count)
        raise ScanError(
            f"{path} holds {found} values ({(nan + infinite) / values.size:.2g} of all); replace them by numbers, "
            "for example with numpy.nan_to_num"
        )


def scans_of(jpeg: bytes) -> int:
    """How often a JPEG goes over its pixels, thumbnails with it; the marker's bytes stand nowhere else."""
    return jpeg.count(b"\xff\xda")
