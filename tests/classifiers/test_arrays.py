import io
import struct

import numpy as np
import pytest

from counterscan.classifiers.arrays import from_npy, to_npy


@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f8", "<i8", "|b1", "<f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_come_back_in_native_order_and_may_be_written(kind, order):
    array = np.asarray(np.arange(6).reshape(2, 3), kind, order=order)
    back = from_npy(to_npy(array))
    np.testing.assert_array_equal(back, array)
    assert back.dtype.isnative
    assert back.flags.writeable


def huge() -> bytes:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 9), }\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 64


def objects() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([{}], object), allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    "data", [huge(), objects(), to_npy(np.zeros(9))[:-1], to_npy(np.array(["x"])), b"\x93NUMPY", b"<html>", b""]
)
def test_what_is_not_as_it_says_is_a_value_error(data):
    with pytest.raises(ValueError):  # noqa: PT011 (numpy's own words)
        from_npy(data)
