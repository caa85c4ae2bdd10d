import numpy as np
import pytest
import torch

from counterscan.core import Explanation, Target
from counterscan.metrics.overlap import Overlaps, micro_dice, micro_iou, size_names, tertiles
from counterscan.metrics.truth import Truth


def explanation(heatmap, before=3.0):
    """A map whose mask is where it is above one half; the answer before is not as asked."""
    b = len(heatmap)
    images = torch.zeros(b, 1, *heatmap.shape[2:])
    asked = Target(((0, 0.0),))
    return Explanation(
        images, asked, heatmap, torch.full((b, 1), before), torch.zeros(b, dtype=torch.bool),
        meta={"mask_rule": {"threshold": 0.5}},
    )  # fmt: skip


def test_pixels_are_pooled_over_images_with_a_lesion_only():
    heat, lesion = torch.zeros(3, 1, 8, 8), torch.zeros(3, 1, 8, 8, dtype=torch.bool)
    heat[0, :, :2], lesion[0, :, 1:4] = 1, True  # 16 masked, 24 true, 8 of both
    heat[1, :, 0, 0], lesion[1, :, 0, 0:2] = 1, True  # 1, 2, 1
    heat[2] = 1  # a healthy image that is masked all over
    found = Overlaps()
    found.add(explanation(heat), Truth(lesion))
    assert micro_iou(found.hits, found.masked, found.lesion).value == pytest.approx(9 / (32 + 2))
    assert micro_dice(found.hits, found.masked, found.lesion).value == pytest.approx(18 / (40 + 3))
    assert micro_iou(found.hits, found.masked, found.lesion).n == 2


def test_an_image_already_there_has_no_mask_and_one_without_truth_no_part():
    heat, lesion = torch.ones(2, 1, 8, 8), torch.ones(2, 1, 8, 8, dtype=torch.bool)
    found = Overlaps()
    found.add(explanation(heat, before=-3.0), Truth(lesion))
    found.add(explanation(heat), Truth())
    assert found.masked[:2] == [0, 0]
    estimate = micro_iou(found.hits, found.masked, found.lesion)
    assert (estimate.value, estimate.n) == (0, 2)


def test_the_interval_is_by_patient():
    hits, masked, lesion = np.tile([10.0, 0.0], 20), np.full(40, 10.0), np.full(40, 10.0)
    pairs = [f"p{index // 2}" for index in range(40)]  # every patient has one hit and one miss
    by_patient, by_image = micro_iou(hits, masked, lesion, pairs), micro_iou(hits, masked, lesion)
    assert by_patient.low == by_patient.high == by_patient.value
    assert by_image.high - by_image.low > 0.1


def test_without_a_lesion_there_is_no_figure():
    assert np.isnan(micro_iou([0.0], [5.0], [0.0]).value)
    assert micro_iou([0.0], [5.0], [0.0]).n == 0
    assert np.isnan(tertiles([0.0, np.nan])).all()


def test_lesions_are_parted_in_thirds_by_area():
    areas = [0, np.nan, *range(1, 10)]
    names = size_names(areas, tertiles(areas))
    assert names[:2].tolist() == ["", ""]
    assert names[2:].tolist() == ["small"] * 3 + ["medium"] * 3 + ["large"] * 3
