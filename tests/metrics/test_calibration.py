from dataclasses import replace

import numpy as np
import pytest
import torch

from counterscan.errors import ManifestError
from counterscan.metrics.calibration import (
    LEVELS,
    calibrate,
    iou_curve,
    search,
    with_confidence,
    with_volume_confidence,
)
from counterscan.metrics.lesions import VolumeRule
from counterscan.metrics.masks import MaskRule

SMALL = {"blurs": (0.0, 1.0), "smallest": (0, 16)}


def lesions(n=40, side=64, noise=0.1, strength=0.6, seed=0):
    """Maps with a disc on every second image, and the discs; noise everywhere."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    truths = torch.zeros(n, 1, side, side, dtype=torch.bool)
    for index in range(0, n, 2):
        y, x = (torch.randint(16, 48, (1,), generator=generator).item() for _ in range(2))
        truths[index, 0] = (rows - y) ** 2 + (columns - x) ** 2 < 64
    heatmaps = torch.rand(n, 1, side, side, generator=generator) * noise
    return heatmaps + truths * strength * (0.5 + 0.5 * torch.rand(n, 1, 1, 1, generator=generator)), truths


def measure(rule, heatmaps, truths):
    masks, sick = rule(heatmaps).flatten(1), truths.flatten(1).any(1)
    truths = truths.flatten(1)
    iou = (masks & truths).sum(1) / (masks | truths).sum(1).clamp_min(1)
    return float(iou[sick].mean()), float(masks[~sick].any(1).float().mean())


def test_finds_a_rule_that_keeps_the_limit_and_reports_what_the_rule_then_does():
    heatmaps, truths = lesions()
    found = search(heatmaps, truths, 0.05, **SMALL)
    iou, share = measure(found.rule, heatmaps, truths)
    assert found.feasible
    assert found.iou == pytest.approx(iou, abs=1e-6)
    assert found.healthy_mask_share == pytest.approx(share)
    assert share <= 0.05
    assert iou > 0.95
    assert (found.n_lesion, found.n_healthy) == (20, 20)


def test_is_better_than_any_plain_threshold_within_the_limit():
    heatmaps, truths = lesions(noise=0.35, strength=0.5)
    found = search(heatmaps, truths, 0.05, **SMALL)
    plain = [measure(MaskRule(threshold), heatmaps, truths) for threshold in torch.linspace(0.05, 0.8, 60).tolist()]
    assert found.iou >= max(iou for iou, share in plain if share <= 0.05) - 0.01


def test_relative_rules_stay_silent_on_healthy_images():
    heatmaps, truths = lesions()
    found = search(heatmaps, truths, 0.0, relative=True, **SMALL)
    assert found.rule.relative
    assert found.rule.minimum > 0
    assert measure(found.rule, heatmaps, truths)[1] == 0


def test_says_so_when_the_limit_cannot_be_kept():
    heatmaps, truths = lesions(n=10)
    heatmaps[1::2] = heatmaps[0::2]  # healthy images look just like the diseased ones
    found = search(heatmaps, truths, 0.05, **SMALL)
    assert not found.feasible
    with pytest.warns(UserWarning, match="no mask rule keeps"):
        calibrate(heatmaps, truths, 0.05, **SMALL)


def test_without_healthy_images_there_is_no_limit_to_keep():
    heatmaps, truths = lesions(n=10)
    found = search(heatmaps[::2], truths[::2], **SMALL)
    assert found.feasible
    assert found.healthy_mask_share != found.healthy_mask_share


def test_without_lesions_there_is_nothing_to_calibrate_on():
    with pytest.raises(ManifestError, match="lesion mask"):
        calibrate(torch.zeros(3, 1, 16, 16), torch.zeros(3, 1, 16, 16, dtype=torch.bool))


def test_curve_equals_thresholding_one_by_one():
    heatmaps, truths = lesions(n=2)
    heat, mask = heatmaps[0, 0].numpy(), truths[0, 0].numpy()
    curve = iou_curve(heat, mask, relative=False)
    for index in range(200, 400, 20):
        above = heat > LEVELS[index]
        assert curve[index] == pytest.approx((above & mask).sum() / (above | mask).sum())


def test_maps_may_come_one_by_one():
    heatmaps, truths = lesions(n=10)
    whole = search(heatmaps, truths, **SMALL)
    assert search(list(heatmaps), list(truths), **SMALL) == whole


def strong_and_weak(n, seed=0):
    """Maps with one square each, whose level says how often it is a lesion: 0.2 at a half, 0.4 four times in five."""
    generator = np.random.default_rng(seed)
    heatmaps, truths = torch.zeros(n, 1, 32, 32), torch.zeros(n, 1, 32, 32, dtype=torch.bool)
    for index in range(n):
        level = generator.uniform(0.2, 0.8)
        heatmaps[index, 0, 8:16, 8:16] = level
        truths[index, 0, 10:12, 10:12] = generator.random() < 1 / (1 + (0.2 / level) ** 2)
    return heatmaps, truths


def test_confidence_is_learned_from_objects_and_nothing_else_of_the_rule_changes():
    rule = MaskRule(0.1, minimum=0.2)
    fitted = with_confidence(rule, *strong_and_weak(2000))
    assert replace(fitted, confidence_intercept=0.0, confidence_slope=0.0) == rule
    assert fitted.confidence([0.2, 0.4, 0.8]) == pytest.approx([0.5, 0.8, 16 / 17], abs=0.05)


def test_objects_that_part_perfectly_are_not_certain():
    heatmaps, truths = strong_and_weak(60)
    truths[:] = (heatmaps > 0.5) & (heatmaps > 0)
    fitted = with_confidence(MaskRule(0.1), heatmaps, truths)
    weak, strong = fitted.confidence([0.2, 0.8])
    assert 0 < weak < 0.1
    assert 0.9 < strong < 1
    every = with_confidence(MaskRule(0.1), heatmaps, heatmaps > 0)
    assert every.confidence([0.2, 0.8]) == pytest.approx([61 / 62, 61 / 62], abs=0.01)


def test_of_few_objects_nothing_is_learned():
    assert not with_confidence(MaskRule(0.1), *strong_and_weak(19)).confident
    assert with_confidence(MaskRule(0.1), *strong_and_weak(20)).confident


def test_the_confidence_of_volumes_is_learned_from_their_lesions_and_leaves_that_of_images():
    rule = with_confidence(MaskRule(0.1, minimum=0.2), *strong_and_weak(200))
    generator = np.random.default_rng(0)
    peaks = generator.uniform(0.2, 0.8, 2000)
    hits = (generator.random(2000) < 1 / (1 + 4 * (0.2 / peaks) ** 2)).astype(float)
    fitted = with_volume_confidence(rule, peaks.tolist(), hits.tolist())
    assert VolumeRule(fitted).confidence([0.2, 0.4, 0.8]) == pytest.approx([0.2, 0.5, 0.8], abs=0.06)
    assert replace(fitted, volume_intercept=0.0, volume_slope=0.0) == rule
    assert not VolumeRule(with_volume_confidence(rule, peaks[:19], hits[:19])).confident


def test_what_is_searched_has_a_confidence_too():
    heatmaps, truths = lesions()
    rule = search(heatmaps, truths, **SMALL).rule
    assert rule == with_confidence(rule, heatmaps, truths)
    assert rule.confident
