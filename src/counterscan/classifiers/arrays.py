"""Arrays as bytes in numpy's .npy format, read without trusting who wrote them."""

import io

import numpy as np

LIMIT = 1 << 24  # bytes of one answer: the scores of thousands of images; what is larger is something else
MAGIC = b"\x93NUMPY"
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def to_npy(array: np.ndarray) -> bytes:
    """The array as the content of an .npy file."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def from_npy(data: bytes) -> np.ndarray:
    """The array of numbers in `data`; ValueError for what is no such file, or is not as long as it says it is.

    `np.load` would first make room for whatever shape the header names.
    """
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"npy format {version} is not 1.0 or 2.0")
    shape, columns_first, kind = _HEADERS[version](file)
    if kind.kind not in "fiub":
        raise ValueError(f"an array of {kind}, not of numbers")
    array = np.frombuffer(data, kind, offset=file.tell())
    array = array.reshape(shape, order="F" if columns_first else "C")
    return array.astype(kind.newbyteorder("="))  # torch takes no other order, and wants to write
