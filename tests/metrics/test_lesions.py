"""Lesions of a volume: joined across slices in millimetres, measured, and dropped where they are too thin or faint."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from counterscan.core import Explanation, Target
from counterscan.metrics.lesions import Grid, VolumeRule, diameter
from counterscan.metrics.masks import MaskRule, mask_of

PLAIN = VolumeRule(MaskRule(0.5), across=0, thinnest=0, smallest=0)


def grid(slices, step=2.0, pixel=(1.0, 1.0)):
    return Grid(pixel, np.arange(slices) * step)


def masks(found, slices):
    return np.stack([found.mask(index) for index in range(slices)])


def ball(radius, slices=30, side=40, step=2.0):
    z, y, x = np.indices((slices, side, side))
    far = np.sqrt(((z - slices // 2) * step) ** 2 + (y - side // 2) ** 2 + (x - side // 2) ** 2)
    return np.clip((radius - far) / 4 + 0.5, 0, 1).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.02, 0.4))
def test_objects_are_those_of_a_labelling_of_the_whole_volume(seed, share):
    heat = (np.random.default_rng(seed).random((6, 9, 8)) < share).astype(np.float32)
    found = PLAIN(heat, grid(6))
    labels, count = ndimage.label(heat > 0, np.ones((3, 3, 3)))
    assert len(found.lesions) == count
    sizes = sorted(np.bincount(labels.ravel())[1:] * 2 / 1000)
    assert np.allclose(sorted(lesion.ml for lesion in found.lesions), sizes)
    assert np.array_equal(masks(found, 6), heat > 0)
    numbered = np.stack([found.numbered(index) for index in range(6)])
    for number in range(1, count + 1):
        assert len(np.unique(labels[numbered == number])) == 1


def test_a_ball_is_measured_in_millimetres():
    found = PLAIN(ball(10), grid(30))
    (lesion,) = found.lesions
    assert lesion.ml == pytest.approx(4 / 3 * np.pi, rel=0.05)
    assert lesion.low < lesion.ml < lesion.high
    assert lesion.diameter_mm == pytest.approx(20, abs=1.5)
    assert (lesion.first, lesion.last, lesion.extent_mm) == (11, 19, 18)
    assert lesion.centre == pytest.approx((20, 20, 15), abs=0.1)


def test_the_interval_is_the_volume_at_other_thresholds():
    heat = ball(10)
    (lesion,) = VolumeRule(MaskRule(0.5), 0, 0, 0, widen=2)(heat, grid(30)).lesions
    assert lesion.low == pytest.approx((heat > 1.0).sum() * 2 / 1000)
    assert lesion.high == pytest.approx((heat > 0.25).sum() * 2 / 1000)


def test_two_lesions_share_what_they_have_in_common_at_the_lower_threshold():
    heat = np.zeros((4, 8, 30), np.float32)
    heat[:, 2:6, 2:28] = 0.4
    heat[:, 2:6, 2:8], heat[:, 2:6, 16:28] = 0.9, 0.9
    large, small = PLAIN(heat, grid(4)).lesions
    assert large.ml == pytest.approx(2 * small.ml)
    assert large.high == pytest.approx(2 * small.high)
    assert large.high + small.high == pytest.approx(4 * 4 * 26 * 2 / 1000)


def test_neighbours_vote_in_millimetres_not_in_slices():
    heat = np.zeros((41, 8, 8), np.float32)
    heat[20] = 1
    thin, thick = (Grid((1, 1), np.arange(41) * step).weights(20, 3.0) for step in (1.0, 6.0))
    assert len(thin[0]) == 19
    assert len(thick[0]) == 3
    assert thin[1].sum() == pytest.approx(1)
    assert thick[1].max() > 0.75 > 0.2 > thin[1].max()


def test_uneven_slices_stand_for_half_of_the_way_to_either_neighbour():
    assert np.allclose(Grid((1, 1), np.array([0, 1, 2, 6, 10])).steps, [1, 1, 2.5, 4, 4])
    falling = Grid((1, 1), np.array([10.0, 6, 2, 1, 0]))
    assert np.allclose(falling.steps, [4, 4, 2.5, 1, 1])


def test_what_stands_in_one_thin_slice_is_dropped_and_in_one_thick_slice_kept():
    heat = np.zeros((9, 30, 30), np.float32)
    heat[4, 5:20, 5:20] = 1
    rule = VolumeRule(MaskRule(0.5), across=0, thinnest=5)
    assert not rule(heat, grid(9, 1.0)).lesions
    assert not masks(rule(heat, grid(9, 1.0)), 9).any()
    assert len(rule(heat, grid(9, 5.0)).lesions) == 1


def test_a_slice_that_was_missed_is_bridged():
    heat = np.zeros((15, 20, 20), np.float32)
    heat[3:12, 5:15, 5:15] = 1
    heat[7] = 0
    assert len(PLAIN(heat, grid(15)).lesions) == 2
    bridged = VolumeRule(MaskRule(0.5), across=3.0)(heat, grid(15))
    assert len(bridged.lesions) == 1
    assert bridged.mask(7)[10, 10]


def test_an_object_needs_its_minimum_and_a_slice_that_was_attempted():
    heat = np.zeros((10, 20, 20), np.float32)
    heat[2:8, 5:15, 5:15] = 0.6
    rule = VolumeRule(MaskRule(0.5, minimum=0.55))
    assert len(rule(heat, grid(10)).lesions) == 1
    assert not VolumeRule(MaskRule(0.5, minimum=0.7))(heat, grid(10)).lesions
    tried = np.zeros(10, bool)
    assert not rule(heat, grid(10), tried).lesions
    tried[4] = True
    (lesion,) = rule(heat, grid(10), tried).lesions
    assert lesion.first < 4 < lesion.last, "what it is part of comes along"


def test_a_relative_rule_looks_at_the_whole_volume():
    heat = np.zeros((6, 10, 10), np.float32)
    heat[1, 2:5, 2:5], heat[4, 2:5, 2:5] = 8, 2
    found = VolumeRule(MaskRule(0.5, relative=True), 0, 0, 0)(heat, grid(6))
    assert [lesion.first for lesion in found.lesions] == [1]


def test_an_empty_volume_has_no_lesion():
    found = VolumeRule(MaskRule(0.5))(np.zeros((5, 8, 8), np.float32), grid(5))
    assert found.lesions == []
    assert not masks(found, 5).any()


def test_the_diameter_is_the_largest_width():
    inside = np.zeros((20, 30), bool)
    inside[4:7, 3:23] = True
    assert diameter(inside, (1.0, 1.0)) == pytest.approx(np.hypot(2, 19) + 1, abs=0.3)
    assert diameter(inside, (10.0, 1.0)) == pytest.approx(np.hypot(20, 19) + 10, rel=0.15)


def test_a_lesion_is_as_sure_as_volumes_taught_and_not_as_single_images_did():
    heat = np.zeros((8, 20, 20), np.float32)
    heat[2:6, 5:15, 5:15] = 0.8
    images = MaskRule(0.1, minimum=0.2, confidence_slope=3.0)
    volumes = dataclasses.replace(images, volume_intercept=-2 * np.log(2), volume_slope=2.0)
    (lesion,) = VolumeRule(volumes, across=0)(heat, grid(8)).lesions
    assert lesion.confidence == pytest.approx(0.8, abs=1e-6)
    (unknown,) = VolumeRule(images, across=0)(heat, grid(8)).lesions
    assert np.isnan(unknown.confidence)


def test_the_rule_goes_through_json_and_metrics_see_the_mask_that_was_written():
    rule = VolumeRule(MaskRule(0.3, minimum=0.2, volume_intercept=-1.0, volume_slope=2.0), across=2.0)
    assert VolumeRule.from_dict(rule.to_dict()) == rule
    heat = torch.from_numpy(ball(10, side=32))[:, None]
    heat[3, 0, 2:6, 2:6] = 1  # in one slice only
    place = grid(30)
    meta = {"volume": {"rule": rule.to_dict(), "pixel": place.pixel, "places": place.places.tolist()}}
    meta["mask_rule"] = rule.plane.to_dict()
    explanation = Explanation(
        images=heat, target=Target(((0, 0.0),)), heatmap=heat, before=torch.ones(30, 1), found=torch.ones(30), meta=meta
    )
    written = masks(rule(heat[:, 0].half().numpy(), place), 30)
    assert np.array_equal(mask_of(explanation)[:, 0].numpy(), written)
    assert not written[3].any()
    assert mask_of(explanation.select(slice(3, 4))).any(), "a slice by itself is an image"
