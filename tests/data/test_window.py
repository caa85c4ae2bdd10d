import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from counterscan.data.window import Window, range_window
from counterscan.errors import ScanError

low = st.floats(-2000, 2000)
width = st.floats(1, 5000)


@settings(deadline=None)
@given(low, width, st.lists(st.floats(-4000, 4000, width=32), min_size=1, max_size=20))
def test_the_inverse_gives_the_pixels_back(low, width, values):
    window = Window(low, low + width, "HU")
    pixels = np.array(values, np.float64)
    back = window.from_unit(window.to_unit(pixels, clip=False))
    np.testing.assert_allclose(back, pixels, atol=1e-9 * (1 + np.abs(pixels).max() + abs(low)), rtol=1e-9)


def test_the_ends_of_the_window_are_black_and_white():
    window = Window(-160, 240, "HU")
    assert window.to_unit(np.array([-160.0, 40.0, 240.0])).tolist() == [-1, 0, 1]
    assert window.to_unit(np.array([-1000.0, 3000.0])).tolist() == [-1, 1]
    assert window.to_unit(np.array([440.0]), clip=False).tolist() == [2]


def test_tensors_go_through_like_arrays():
    window = Window(0, 10)
    assert window.to_unit(torch.tensor([0.0, 20.0])).tolist() == [-1, 1]
    assert window.from_unit(torch.tensor([-1.0, 1.0])).tolist() == [0, 10]


@settings(deadline=None)
@given(low, width, st.lists(st.floats(-4000, 4000, width=32), min_size=1, max_size=20))
def test_no_change_leaves_every_bit_also_outside_the_window(low, width, values):
    pixels = np.array(values, np.float32)
    restored = Window(low, low + width).restore(pixels, np.zeros_like(pixels))
    assert (restored == pixels).all()
    assert restored.dtype == np.float32


def test_a_change_of_two_is_the_whole_window():
    assert Window(-100, 300).restore(np.array([1000.0]), np.array([-2.0])).tolist() == [600]


@pytest.mark.parametrize(("low", "high"), [(1, 1), (2, 1), (float("nan"), 1), (0, float("inf"))])
def test_a_window_without_width_is_refused(low, high):
    with pytest.raises(ScanError, match="from a lower to a higher"):
        Window(low, high)


def test_hounsfield_units_mean_the_same_everywhere_and_intensities_do_not():
    assert Window(0, 1, "HU").physical
    assert not Window(0, 1).physical
    assert not Window(0, 1, "intensity").physical


def test_the_range_leaves_out_the_extremes():
    pixels = np.concatenate([np.linspace(0, 100, 1000), [1e6]])
    assert range_window(pixels).high < 101


def test_the_range_of_a_flat_or_nearly_flat_picture_is_a_window():
    assert range_window(np.full((4, 4), 7.0)).low == 7
    one = np.zeros(1000)
    one[0] = 5
    assert range_window(one).as_tuple() == (0, 5, "")
