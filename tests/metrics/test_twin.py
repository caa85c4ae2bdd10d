import pytest
import torch

from counterscan.core import Explanation, Target
from counterscan.metrics.truth import Truth
from counterscan.metrics.twin import outside_inside_ratio, twin_ratio


def case():
    """An image with a lesion of 0.4 on a 4 x 4 square, and its twin without."""
    torch.manual_seed(0)
    twin = torch.rand(1, 1, 16, 16) * 0.5
    mask = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    mask[0, 0, 4:8, 4:8] = True
    return twin + 0.4 * mask, Truth(mask, twin)


def explain(images, counterfactual, reconstruction=None):
    n = len(images)
    return Explanation(
        images=images,
        target=Target(((0, 0.0),)),
        heatmap=images.abs().mean(1, keepdim=True),
        before=torch.ones(n, 1),
        after=-torch.ones(n, 1),
        found=torch.ones(n, dtype=torch.bool),
        counterfactual=counterfactual,
        reconstruction=reconstruction,
    )


def test_the_twin_itself_is_zero_and_doing_nothing_is_one():
    image, truth = case()
    assert float(twin_ratio(explain(image, truth.twin), truth=truth)) == 0
    assert float(twin_ratio(explain(image, image), truth=truth)) == pytest.approx(1)
    halfway = (image + truth.twin) / 2
    assert float(twin_ratio(explain(image, halfway), truth=truth)) == pytest.approx(0.5)


def test_changes_outside_the_influence_do_not_count():
    image, truth = case()
    elsewhere = truth.twin.clone()
    elsewhere[0, 0, 12:] = -1
    assert float(twin_ratio(explain(image, elsewhere), truth=truth)) == 0


def test_a_difference_below_one_percent_of_the_window_is_no_influence():
    image, truth = case()
    nearly = Truth(truth.mask, image + 0.019)
    assert twin_ratio(explain(image, image), truth=nearly).isnan().all()
    assert not twin_ratio(explain(image, image), truth=Truth(truth.mask, image + 0.021)).isnan().any()


def test_nan_without_lesion_twin_or_counterfactual():
    image, truth = case()
    assert twin_ratio(explain(image, image), truth=Truth(truth.mask, image)).isnan().all()
    assert twin_ratio(explain(image, image), truth=Truth(truth.mask)).isnan().all()
    assert twin_ratio(explain(image, None), truth=truth).isnan().all()
    assert twin_ratio(explain(image, image)).isnan().all()


def test_outside_over_inside():
    image, truth = case()
    change = torch.where(truth.mask, -0.4, -0.1)
    assert float(outside_inside_ratio(explain(image, image + change), truth=truth)) == pytest.approx(0.25, rel=1e-4)


def test_a_missed_lesion_is_bad_but_finite_and_no_change_is_undefined():
    image, truth = case()
    outside = image + torch.where(truth.mask, 0.0, -0.1)
    assert float(outside_inside_ratio(explain(image, outside), truth=truth)) == pytest.approx(50, rel=1e-3)
    assert outside_inside_ratio(explain(image, image), truth=truth).isnan().all()
    empty = Truth(torch.zeros_like(truth.mask), truth.twin)
    assert outside_inside_ratio(explain(image, outside), truth=empty).isnan().all()


def test_change_is_measured_from_the_reconstruction():
    image, truth = case()
    reconstruction = image - 0.2
    change = torch.where(truth.mask, -0.4, 0.0)
    explanation = explain(image, reconstruction + change, reconstruction)
    assert float(outside_inside_ratio(explanation, truth=truth)) == pytest.approx(0, abs=1e-6)
