from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from counterscan.core import Explanation, Target
from counterscan.metrics.masks import MaskRule


def heat(*blobs, side=128):
    """A map with square blobs (row, column, side, value)."""
    image = torch.zeros(1, 1, side, side)
    for row, column, size, value in blobs:
        image[0, 0, row : row + size, column : column + size] = value
    return image


def test_absolute_threshold_is_strict():
    mask = MaskRule(0.25)(heat((10, 10, 5, 0.25), (50, 50, 5, 0.26)))
    assert mask.dtype == torch.bool
    assert int(mask.sum()) == 25
    assert bool(mask[0, 0, 52, 52])


def test_relative_threshold_does_not_see_offset_and_gain():
    image = heat((10, 10, 5, 0.4), (50, 50, 5, 1.0))
    rule = MaskRule(0.5, relative=True)
    assert torch.equal(rule(image), rule(image * 7 + 3))
    assert int(rule(image).sum()) == 25


def test_flat_map_has_no_relative_mask():
    assert not MaskRule(0.5, relative=True)(torch.full((1, 1, 32, 32), 0.9)).any()


def test_minimum_silences_a_weak_map_but_keeps_the_weak_edge_of_a_strong_object():
    rule = MaskRule(0.1, minimum=0.5)
    weak, strong = heat((10, 10, 9, 0.4)), heat((10, 10, 9, 0.2), (12, 12, 3, 0.8))
    assert not rule(weak).any()
    assert int(rule(strong).sum()) == 81


def test_small_objects_go_and_sizes_scale_with_the_image():
    rule = MaskRule(0.5, smallest=20)
    assert int(rule(heat((10, 10, 4, 1.0), (60, 60, 5, 1.0))).sum()) == 25
    large = heat((20, 20, 8, 1.0), (120, 120, 10, 1.0), side=256)
    assert int(rule(large).sum()) == 100


def test_fill_equals_scipy():
    generator = np.random.default_rng(0)
    for _ in range(20):
        above = ndimage.gaussian_filter(generator.normal(size=(64, 64)), 2) > 0.02
        filled = MaskRule(0.5, fill=True)(torch.from_numpy(above.astype(np.float32))[None, None])
        assert np.array_equal(filled[0, 0].numpy(), ndimage.binary_fill_holes(above))


def test_opening_removes_lines():
    image = heat((10, 10, 9, 1.0))
    image[0, 0, 100] = 1.0
    assert not MaskRule(0.5, opening=1)(image)[0, 0, 100].any()
    assert MaskRule(0.5, opening=1)(image)[0, 0, 14, 14]


def test_volumes_are_masked_whole():
    volume = torch.zeros(1, 1, 16, 16, 16)
    volume[0, 0, 4:8, 4:8, 4:8] = 1
    assert int(MaskRule(0.5, fill=True)(volume).sum()) == 64


@pytest.mark.parametrize("rule", [MaskRule(0.1, True, 0.2, 1.0, 1.0, 30.0, True), MaskRule.published_difference()])
def test_dict_round_trip_is_plain_numbers(rule):
    values = rule.to_dict()
    assert all(type(value) is float for value in values.values())
    assert MaskRule.from_dict(values) == rule


def test_a_key_that_is_not_known_is_refused():
    with pytest.raises(TypeError):
        MaskRule.from_dict({"threshold": 0.2, "treshold": 0.1})


def test_the_rule_of_an_explanation():
    image = torch.zeros(1, 1, 8, 8)
    common = {"images": image, "target": Target(((0, 1.0),)), "heatmap": image, "before": torch.zeros(1, 1)}
    attribution = Explanation(**common, found=torch.zeros(1, dtype=torch.bool))
    assert MaskRule.of(attribution) == MaskRule.published_saliency()
    chosen = MaskRule(0.3, blur=2.0)
    told = Explanation(**common, found=torch.zeros(1, dtype=torch.bool), meta={"mask_rule": chosen.to_dict()})
    assert MaskRule.of(told) == chosen
    assert "blur=2" in chosen.describe()
    assert "fill" not in chosen.describe()


def test_the_confidence_of_an_object_grows_with_its_peak_and_is_not_made_up():
    rule = MaskRule(0.1, minimum=0.2, confidence_intercept=0.5, confidence_slope=2.0)
    weakest, stronger = rule.confidence([0.2, 0.4])
    assert weakest == pytest.approx(1 / (1 + np.exp(-0.5)))
    assert stronger == pytest.approx(1 / (1 + np.exp(-0.5 - 2 * np.log(2))))
    assert np.isnan(MaskRule(0.1, minimum=0.2).confidence([0.2, 0.4])).all()
    assert MaskRule.from_dict(rule.to_dict()) == rule
    unknown = ("confidence_intercept", "confidence_slope", "volume_intercept", "volume_slope")
    assert not set(unknown) & set(MaskRule(0.1).to_dict()), "what is not known is left out"
    assert not set(unknown[2:]) & set(rule.to_dict()), "as it is in cards from before"
    both = replace(rule, volume_slope=1.5)
    assert MaskRule.from_dict(both.to_dict()) == both


def test_the_objects_of_a_mask_are_numbered_with_their_sizes_and_peaks():
    image = heat((10, 10, 5, 0.3), (60, 60, 3, 0.9), (100, 100, 4, 0.6))
    rule = MaskRule(0.2, minimum=0.5)
    labels, sizes, peaks = rule.objects(image[0, 0].numpy())
    assert np.array_equal(labels > 0, rule(image)[0, 0].numpy())
    assert sizes.tolist() == [9, 16]
    assert peaks == pytest.approx([0.9, 0.6])
    assert (labels[61, 61], labels[101, 101], labels[11, 11]) == (1, 2, 0)
