"""Compressed pictures in a DICOM file: decoded only if what they claim of themselves is true.

A few bytes can claim 60,000 x 60,000 pixels: some decoders then take all memory, and some end the whole process. So the
claim is held against the DICOM header, which has been checked, before anything is decoded.
"""

import struct

import numpy as np
from pydicom import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels import pixel_array
from pydicom.pixels.utils import as_pixel_options
from pydicom.uid import JPEG2000TransferSyntaxes, JPEGBaseline8Bit, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes

from counterscan.data.decoder import decoded
from counterscan.data.decoding import decoded_apart
from counterscan.data.limits import MOST_SCANS, scans_of

START_JPEG, START_J2K, START_JP2 = b"\xff\xd8", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  "
SIZES = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})  # markers before height and width; F7 is JPEG-LS
STEADY = JPEGBaseline8Bit  # Pillow's, which ends no process and stalls over nothing but scans; decoded here
CHECKED = frozenset({*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes})


def decode(dataset: Dataset, number: int, frames: int) -> np.ndarray:
    """The stored values `(h, w)` or `(h, w, 3)` of one of a data set's frames; damaged ones raise nearly anything."""
    if dataset.file_meta.TransferSyntaxUID not in CHECKED:
        return pixel_array(dataset, index=number)
    stream = get_frame(dataset.PixelData, number, number_of_frames=frames)
    _check_claim(dataset, stream)
    options = {**as_pixel_options(dataset), "number_of_frames": 1}
    options["transfer_syntax_uid"] = dataset.file_meta.TransferSyntaxUID
    if options["transfer_syntax_uid"] != STEADY:
        return decoded_apart(stream, options)
    if (scans := scans_of(stream)) > MOST_SCANS:
        raise ValueError(f"it goes over its pixels {scans:,} times, more than {MOST_SCANS}")
    return decoded(stream, options)


def _check_claim(dataset: Dataset, stream: bytes) -> None:
    """Raise ValueError for a frame whose own header contradicts that of the file."""
    wanted = tuple(int(dataset.get(name) or 1) for name in ("Rows", "Columns", "SamplesPerPixel"))
    claimed = claim_of(stream)
    if claimed is None:
        raise ValueError(f"it holds no {dataset.file_meta.TransferSyntaxUID.name} picture")
    if claimed != wanted:
        told = " and ".join(f"{columns} x {rows} x {samples}" for rows, columns, samples in (wanted, claimed))
        raise ValueError(f"header and picture disagree: {told}")


def claim_of(stream: bytes) -> tuple[int, int, int] | None:
    """(height, width, samples) that a JPEG, JPEG-LS or JPEG 2000 stream claims, None where it is none of these."""
    try:
        return _jpeg(stream) if stream.startswith(START_JPEG) else _jpeg2000(stream)
    except (struct.error, IndexError):
        return None


def _jpeg(stream: bytes) -> tuple[int, int, int] | None:
    at = 2
    while at < len(stream):
        if stream[at] != 0xFF:
            return None
        marker = stream[at + 1]
        if marker in SIZES:
            height, width, samples = struct.unpack_from(">HHB", stream, at + 5)
            return height, width, samples
        at += 1 if marker == 0xFF else 2 + struct.unpack_from(">H", stream, at + 2)[0]  # FF before a marker is filling
    return None


def _jpeg2000(stream: bytes) -> tuple[int, int, int] | None:
    start = stream[:4096].find(START_J2K) if stream.startswith(START_JP2) else 0
    if start < 0 or not stream.startswith(START_J2K, start):
        return None
    right, bottom, left, top = struct.unpack_from(">IIII", stream, start + 8)
    (samples,) = struct.unpack_from(">H", stream, start + 40)
    return bottom - top, right - left, samples
