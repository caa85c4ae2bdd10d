from dataclasses import replace

import numpy as np
import pytest
import torch

from counterscan.core import Explanation, Target
from counterscan.metrics.confidence import Objects, numbered, of_largest, told
from counterscan.metrics.masks import MaskRule
from counterscan.metrics.truth import Truth

RULE = MaskRule(0.1, minimum=0.2, confidence_intercept=0.0, confidence_slope=2.0)


def explain(*images, rule=RULE, before=1.0):
    """Attributions whose maps hold squares (row, column, side, level)."""
    maps = torch.zeros(len(images), 1, 32, 32)
    for index, squares in enumerate(images):
        for row, column, side, level in squares:
            maps[index, 0, row : row + side, column : column + side] = level
    return Explanation(
        images=maps,
        target=Target(((0, 0.0),)),
        heatmap=maps,
        before=torch.full((len(images), 1), before),
        found=torch.zeros(len(images), dtype=torch.bool),
        meta={"mask_rule": rule.to_dict()},
    )


def truth(n, *places):
    mask = torch.zeros(n, 1, 32, 32, dtype=torch.bool)
    for index, row, column in places:
        mask[index, 0, row, column] = True
    return Truth(mask, patients=[f"p{index // 2}" for index in range(n)])


def test_each_object_is_told_with_its_confidence_its_hit_and_its_patient():
    objects = Objects()
    explanation = explain([(2, 2, 4, 0.2), (20, 20, 6, 0.4)], [], [(8, 8, 4, 0.8)])
    objects.add(explanation, truth(3, (0, 21, 21), (2, 30, 30)))
    assert objects.confidence == pytest.approx([0.5, 0.8, 16 / 17])
    assert objects.hits == [0, 1, 0]
    assert objects.patients == ["p0", "p0", "p1"]


@pytest.mark.parametrize(
    ("changes", "known"),
    [({"rule": MaskRule(0.1)}, truth(1)), ({"before": -1.0}, truth(1)), ({}, Truth())],
    ids=["no confidence", "already there", "no truth"],
)
def test_what_is_not_known_does_not_count(changes, known):
    objects = Objects()
    objects.add(explain([(2, 2, 4, 0.4)], **changes), known)
    assert objects == Objects()
    assert objects.error().n == 0


def test_the_error_is_none_where_confidence_is_the_share_of_hits_and_large_where_it_is_not():
    right = Objects([0.8] * 500, [1.0] * 400 + [0.0] * 100, [str(index) for index in range(500)])
    assert right.error().value == pytest.approx(0, abs=1e-6)
    wrong = replace(right, hits=[0.0] * 500)
    assert wrong.error().value == pytest.approx(0.8)
    (low, high, confidence, share), *more = wrong.table()
    assert not more
    assert low <= confidence <= high
    assert share.value == 0


def test_of_several_objects_the_largest_is_told():
    explanation = explain([(2, 2, 4, 0.8), (20, 20, 6, 0.4)])
    assert of_largest(explanation) == pytest.approx(0.8)
    assert np.isnan(of_largest(explain([])))
    assert np.isnan(of_largest(replace(explanation, meta={"mask_rule": MaskRule(0.1).to_dict()})))


def test_a_lesion_of_a_volume_is_one_object():
    squares = [(8, 8, 8, 0.4)]
    explanation = explain([], squares, squares, squares, [])
    rule = replace(RULE, volume_intercept=-2 * np.log(2), volume_slope=2.0)
    volume = {"rule": {"plane": RULE.to_dict(), "across": 0.0}, "pixel": [1.0, 1.0], "places": [0, 3, 6, 9, 12]}
    explanation = replace(explanation, meta={"mask_rule": rule.to_dict(), "volume": volume})
    ((rows, labels, confidence),) = numbered(explanation)
    assert rows == slice(0, 5)
    assert labels.max() == 1
    assert labels.any((1, 2)).tolist() == [False, True, True, True, False]
    objects = Objects()
    objects.add(explanation, truth(5, (2, 9, 9)))
    assert objects.confidence == pytest.approx([0.5], abs=1e-3)
    assert (objects.hits, confidence.shape) == ([1], (1,))
    unknown = Objects()
    unknown.add(replace(explanation, meta={"mask_rule": RULE.to_dict(), "volume": volume}), truth(5, (2, 9, 9)))
    assert unknown == Objects(), "what single images taught is not what volumes would"


def test_tables_never_say_certain():
    assert (told(float("nan")), told(0.12345), told(0.99999)) == ("", 0.123, 0.999)
