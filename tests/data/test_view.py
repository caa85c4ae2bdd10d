"""Showing and putting back; test_nifti.py has the orientations."""

import itertools

import numpy as np
import pytest

from counterscan.data.view import View, steps

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("view", [View(*flags) for flags in itertools.product([False, True], repeat=3)])
def test_channels_stay_last_and_come_back(view):
    stored = RNG.normal(size=(6, 5, 4, 3))
    shown = view.shown(stored)
    assert shown.shape == ((4, 5, 6, 3) if view.swap else (4, 6, 5, 3))
    assert np.array_equal(view.stored(shown), stored)
    assert np.array_equal(shown[..., 1], view.shown(stored[..., 1]))


def test_an_affine_that_says_nothing_shows_columns_along_the_first_axis():
    assert View.of(np.zeros((4, 4))) == View(True, False, False)


def test_steps_are_those_of_row_column_and_slice():
    assert steps(np.diag([0.5, 0.7, 3.0, 1.0])) == (0.7, 0.5, 3.0)
