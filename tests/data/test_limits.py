from pathlib import Path

import numpy as np
import pytest

from counterscan.data.limits import LARGEST, check_finite, check_length, check_size
from counterscan.errors import ScanError

PATH = Path("a.nii")


@pytest.mark.parametrize("shape", [(512, 512, 2048), (1, 1), (7,)])
def test_what_scanners_make_is_let_in(shape):
    check_size(PATH, shape)


@pytest.mark.parametrize("shape", [(512, 512, 2049), (10**9, 10**9, 10**9), (LARGEST, 2)])
def test_more_than_fits_is_refused(shape):
    with pytest.raises(ScanError, match=f"{shape[0]} x {shape[1]}.*crop"):
        check_size(PATH, shape)


@pytest.mark.parametrize("shape", [(), (0, 5), (5, -1)])
def test_nothing_is_no_image(shape):
    with pytest.raises(ScanError, match="no image"):
        check_size(PATH, shape)


@pytest.mark.parametrize(("wanted", "packed", "fits"), [(10, False, True), (11, False, False), (10_000, True, True)])
def test_pixels_must_be_there(wanted, packed, fits):
    if fits:
        check_length(PATH, wanted, 10, packed=packed)
        return
    with pytest.raises(ScanError, match="claims 11 bytes of pixels, but only 10 bytes follow"):
        check_length(PATH, wanted, 10, packed=packed)


def test_what_is_no_number_is_counted():
    values = np.ones(8, np.float32)
    check_finite(PATH, values)
    values[:2] = np.nan, -np.inf
    with pytest.raises(ScanError, match=r"1 NaN and 1 infinite values \(0\.25 of all\)"):
        check_finite(PATH, values)
