import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from counterscan.core import Explanation, Target
from counterscan.metrics.localisation import auprc, dice, healthy_mask_share, iou, pointing_game
from counterscan.metrics.masks import MaskRule
from counterscan.metrics.truth import Truth


def explain(heatmap, rule=MaskRule(0.5)):  # noqa: B008
    n = len(heatmap)
    return Explanation(
        images=torch.zeros_like(heatmap),
        target=Target(((0, 1.0),)),
        heatmap=heatmap,
        before=torch.zeros(n, 1),
        found=torch.zeros(n, dtype=torch.bool),
        meta={"mask_rule": rule.to_dict()},
    )


def boxes(*boxes, side=16):
    masks = torch.zeros(len(boxes), 1, side, side, dtype=torch.bool)
    for mask, box in zip(masks, boxes, strict=True):
        if box:
            row, column, size = box
            mask[0, row : row + size, column : column + size] = True
    return masks


def test_overlap_of_known_boxes_and_nan_without_a_lesion():
    predicted = boxes((0, 0, 4), (8, 8, 4), None, (0, 0, 4), None)
    truth = Truth(boxes((0, 0, 4), (0, 0, 4), (0, 0, 4), (2, 0, 4), None))
    explanation = explain(predicted.float())
    assert iou(explanation, truth=truth)[:4].tolist() == pytest.approx([1, 0, 0, 8 / 24])
    assert dice(explanation, truth=truth)[:4].tolist() == pytest.approx([1, 0, 0, 16 / 32])
    assert iou(explanation, truth=truth)[4].isnan()


def test_every_metric_is_nan_without_truth():
    explanation = explain(torch.rand(3, 1, 16, 16))
    for metric in (iou, dice, auprc, pointing_game, healthy_mask_share):
        assert metric(explanation).isnan().all()
        assert metric(explanation, truth=Truth(patients=("a", "b", "c"))).isnan().all()


@pytest.mark.parametrize("decimals", [6, 1, 0])
def test_auprc_equals_scikit_learn_with_and_without_ties(decimals):
    torch.manual_seed(decimals)
    heatmap = torch.rand(4, 1, 16, 16).round(decimals=decimals)
    mask = torch.rand(4, 1, 16, 16) < 0.1
    ours = auprc(explain(heatmap), truth=Truth(mask))
    for index in range(4):
        oracle = average_precision_score(mask[index].flatten().numpy(), heatmap[index].flatten().numpy())
        assert float(ours[index]) == pytest.approx(oracle, abs=1e-6)


def test_a_flat_map_points_as_often_as_chance():
    truth = Truth(boxes((0, 0, 4), None))
    hits = pointing_game(explain(torch.full((2, 1, 16, 16), 0.3)), truth=truth)
    assert float(hits[0]) == pytest.approx(16 / 256)
    assert hits[1].isnan()


def test_pointing_game_shares_tied_maxima():
    heatmap = torch.zeros(3, 1, 16, 16)
    heatmap[0, 0, 1, 1] = heatmap[0, 0, 10, 10] = 1
    heatmap[1, 0, 1, 1] = heatmap[2, 0, 10, 10] = 1
    assert pointing_game(explain(heatmap), truth=Truth(boxes(*[(0, 0, 4)] * 3))).tolist() == [0.5, 1, 0]


def test_healthy_share_counts_healthy_images_only():
    truth = Truth(boxes(None, None, (0, 0, 4)))
    share = healthy_mask_share(explain(boxes((3, 3, 2), None, (0, 0, 4)).float()), truth=truth)
    assert share[:2].tolist() == [1, 0]
    assert share[2].isnan()


def test_the_truth_of_some_images():
    truth = Truth(boxes(None, (0, 0, 4)), torch.zeros(2, 1, 16, 16), ("a", "b")).select(slice(1, 2))
    assert truth.patients == ("b",)
    assert truth.diseased.tolist() == [True]
    assert np.shape(truth.twin) == (1, 1, 16, 16)
