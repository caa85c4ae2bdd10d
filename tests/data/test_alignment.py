import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterscan.data.alignment import Placed

AFFINE = np.array([[-0.8, 0.02, 0, 10], [0.02, -0.7, 0.1, 20], [0, 0.1, 3, -50], [0, 0, 0, 1.0]])
SCAN = Placed((20, 64, 48), (0.7, 0.8, 3.0), AFFINE)
COLUMN, ROW, SLICE = AFFINE[:3, :3].T


def moved(**changes):
    affine = AFFINE.copy()
    for name, value in changes.items():
        affine[:3, ["column", "row", "slice", "origin"].index(name)] = value
    return replace(SCAN, affine=affine)


def test_the_same_grid_is_the_same_also_out_of_json():
    assert SCAN.unlike(SCAN) == ""
    assert SCAN.unlike(Placed.from_dict(json.loads(json.dumps(SCAN.to_dict())))) == ""
    plain = Placed((1, 8, 9))
    assert Placed.from_dict(json.loads(json.dumps(plain.to_dict()))).unlike(plain) == ""


@given(st.sampled_from([COLUMN, ROW, SLICE]), st.floats(-0.49, 0.49), st.floats(0.51, 300))
def test_a_shift_counts_from_half_a_voxel_on(axis, little, much):
    assert SCAN.unlike(moved(origin=AFFINE[:3, 3] + little * axis)) == ""
    assert "voxels off" in SCAN.unlike(moved(origin=AFFINE[:3, 3] + much * axis))


def test_a_step_that_adds_up_to_more_than_half_a_voxel_is_told():
    assert SCAN.unlike(moved(slice=SLICE * (1 + 0.49 / 19))) == ""
    assert "up to 0.57 voxels off" in SCAN.unlike(moved(slice=SLICE * 1.03))


@pytest.mark.parametrize(("name", "axis", "count"), [("column", COLUMN, 48), ("row", ROW, 64), ("slice", SLICE, 20)])
def test_a_flipped_axis_is_told_by_its_name(name, axis, count):
    mirrored = moved(**{name: -axis, "origin": AFFINE[:3, 3] + axis * (count - 1)})
    assert f"flipped along the {name} axis" in SCAN.unlike(mirrored)


def test_other_sizes_are_told():
    assert SCAN.unlike(replace(SCAN, size=(20, 64, 47))) == "mask 47 x 64 x 20 does not fit image 48 x 64 x 20"
    assert Placed((1, 8, 9)).unlike(Placed((1, 9, 8))) == "mask 8 x 9 does not fit image 9 x 8"


def test_spacings_are_compared_where_no_place_is_known():
    image = Placed((1, 100, 100), (0.5, 0.5))
    assert image.unlike(Placed((1, 100, 100), (0.502, 0.5))) == ""
    assert "spacing of 0.51 mm" in image.unlike(Placed((1, 100, 100), (0.5, 0.51)))
    assert image.unlike(Placed((1, 100, 100))) == "", "a picture says nothing of it"


def test_a_flat_affine_says_nothing():
    flat = replace(SCAN, affine=np.diag([1.0, 1.0, 0.0, 1.0]))
    assert flat.unlike(SCAN) == ""
