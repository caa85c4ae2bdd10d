"""What is pushed goes where it is asked to, no further than it must, and asks of its networks what it says."""

import pytest
import torch
from torch import nn

from counterscan.classifiers.torch import TorchClassifier
from counterscan.classifiers.wrappers import BlackBox
from counterscan.core import Card, Target
from counterscan.errors import ClassifierError, CounterscanError, NeedsGradients, WeightsError
from counterscan.explainers import diffusion_guidance
from counterscan.explainers.diffusion_guidance import (
    PRESETS,
    SHARES,
    DiffusionGuidance,
    _strongest,
    _strongest_columns,
    _weight,
)

SIDE = 16
CARD = Card(name="spot", shape=(1, SIDE, SIDE), classes=("spot", "rim"))
ABSENT, PRESENT, BOTH = Target(((0, 0.0),)), Target(((0, 1.0),)), Target(((0, 0.0), (1, 1.0)))


class Spot(nn.Module):
    """Log-odds of a bright spot in the middle and of a bright first row; slopes are the same everywhere."""

    def forward(self, images):
        middle = images[..., 6:10, 6:10].mean((1, 2, 3))
        return torch.stack([20 * (middle + 0.2), 20 * (images[..., :1, :].mean((1, 2, 3)) + 0.5)], 1)


class Flat:
    """The best denoiser of images that are -0.5 +- 0.5 in each pixel, all pixels apart; counts what it is asked."""

    def __init__(self, modality=""):
        self.card = Card(
            name="flat", kind="denoiser", shape=(1, SIDE, SIDE), classes=(), network="denoiser", modality=modality
        )
        self.asked, self.passed_back = 0, 0

    def __call__(self, noisy, sigma):
        self.asked += len(noisy)
        if noisy.requires_grad:
            noisy.register_hook(self._count)
        level = sigma.view(-1, 1, 1, 1).square()
        return (0.25 * noisy - 0.5 * level) / (0.25 + level)

    def _count(self, gradient):
        self.passed_back += len(gradient)


@pytest.fixture
def classifier():
    return TorchClassifier(Spot(), CARD)


@pytest.fixture
def spots():
    images = torch.full((3, 1, SIDE, SIDE), -0.6)
    images += 0.1 * torch.randn(images.shape, generator=torch.Generator().manual_seed(3))
    images[..., 6:10, 6:10] += 1.2
    return images.clamp(-1, 1)


def explain(classifier, images, target=ABSENT, prior=None, seed=0, **settings):
    return DiffusionGuidance(prior or Flat(), **settings)(classifier, images, target, seed=seed)


@pytest.mark.parametrize("settings", [{}, {"gradients": "network"}])
def test_what_was_there_goes(classifier, spots, settings):
    found = explain(classifier, spots, **settings)
    assert found.found.all()
    assert (found.counterfactual[..., 6:10, 6:10].mean((1, 2, 3)) < -0.2).all()


@pytest.mark.parametrize("preset", list(PRESETS))
def test_the_published_step_climbs(classifier, spots, preset, monkeypatch):
    pushed = explain(classifier, spots, exact=True, preset=preset).counterfactual
    monkeypatch.setattr(diffusion_guidance, "GUIDANCE", 0.0)
    change = pushed - explain(classifier, spots, exact=True, preset=preset).counterfactual
    assert change[..., 6:10, 6:10].mean() < -0.02
    assert change[..., :5, :].abs().mean() < 0.01


def test_what_was_not_there_comes(classifier, spots):
    found = explain(classifier, spots.clamp_max(-0.5), PRESENT)
    assert found.found.all()


def test_confined_leaves_most_of_the_image_as_it_was(classifier, spots):
    whole = explain(classifier, spots, confined=False).difference.abs()
    kept = explain(classifier, spots).difference.abs()
    assert (kept == 0).float().mean() > 0.6
    assert (whole == 0).float().mean() < 0.1
    assert kept[..., 6:10, 6:10].mean() > 0.5 * whole[..., 6:10, 6:10].mean()


def test_what_answers_as_asked_already_is_left_alone(classifier, spots):
    spots[1] = -0.6
    found = explain(classifier, spots)
    assert torch.equal(found.counterfactual[1], spots[1])
    assert not torch.equal(found.counterfactual[0], spots[0])


def test_more_guidance_is_tried_where_little_does_not_do(classifier, spots):
    shy = explain(classifier, spots, BOTH, guidance=[0.001])
    ladder = explain(classifier, spots, BOTH, guidance=[0.001, 3.0])
    assert not shy.found.all()
    assert ladder.found.all()
    used = [case["guidance"] for case in ladder.meta["cases"]]
    assert all(one == 3.0 for one, found in zip(used, shy.found, strict=True) if not found)


def test_what_is_out_of_reach_is_not_called_found(spots):
    class Stubborn(Spot):
        def forward(self, images):
            return super().forward(images) * 0 + 5

    found = explain(TorchClassifier(Stubborn(), CARD), spots)
    assert not found.found.any()
    assert found.counterfactual.isfinite().all()


def test_the_facts_of_an_image_go_with_it(classifier, spots):
    spots[1] = -0.6
    found = explain(classifier, spots)
    assert found.select(slice(1, 2)).meta["cases"] == [{"guidance": 0.0}]
    assert found.select(slice(2, 3)).meta["cases"] == found.meta["cases"][2:]


@pytest.mark.parametrize("settings", [{}, {"exact": True}])
def test_neither_batch_nor_order_matters_but_the_seed_does(classifier, spots, settings):
    together = explain(classifier, spots, **settings).counterfactual
    turned = explain(classifier, spots.flip(0), **settings).counterfactual.flip(0)
    torch.testing.assert_close(together, turned, atol=1e-5, rtol=0)
    other = explain(classifier, spots, seed=1, **settings).counterfactual
    assert (together - other).abs().max() > 1e-3


def test_exact_asks_the_network_once_a_step_and_comes_back_once_an_objective(classifier, spots):
    plain, steered = Flat(), Flat()
    explain(classifier, spots[:1], prior=plain, exact=True)
    assert plain.asked == 100
    explain(classifier, spots[:1], prior=steered, exact=True, robust=classifier)
    assert steered.asked == 100
    assert steered.passed_back == 99 * 3  # the robust score, the explained one and the distance; the last step has none


def test_the_default_never_comes_back_through_the_network(classifier, spots):
    prior = Flat()
    explain(classifier, spots, prior=prior, guidance=0.3, margin=-9)
    assert prior.asked == 8 * len(spots)
    assert prior.passed_back == 0


def test_no_gradient_of_parameters_is_computed(spots):
    class Weighted(Spot):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, images):
            return super().forward(images) * self.weight

    module = Weighted()
    explain(TorchClassifier(module, CARD), spots, exact=True)
    assert module.weight.grad is None


def test_the_preset_is_that_of_the_modality(classifier):
    assert DiffusionGuidance(Flat("fundus photograph"))._preset == PRESETS["fundus"]
    assert DiffusionGuidance(Flat("retinal OCT"))._preset == PRESETS["oct"]
    assert DiffusionGuidance(Flat("chest X-ray"))._preset == PRESETS["natural"]
    assert DiffusionGuidance(Flat("retinal OCT"), preset="fundus")._preset == PRESETS["fundus"]


def test_the_weight_lies_where_the_change_counts(classifier, spots):
    edited = spots - 0.3
    weight = _weight(spots, edited, [lambda images: ABSENT.score(classifier(images))])
    assert (weight[..., 6:10, 6:10] > 0).all()
    assert not weight[..., :3, :].any()


def test_columns_are_taken_whole_and_fade_out_sideways():
    weight = torch.zeros(2, 1, 64, 64)
    weight[0, :, 5:9, 30] = 1  # as much in one column of few pixels
    weight[1, :, :, 0] = 0.1  # as in a whole one at the border
    taken = _strongest_columns(weight, 0.02)
    assert (taken == taken[:, :, :1]).all()
    assert taken[0, 0, 0, [30, 34, 40]].tolist() == pytest.approx([1, 0.5, 0], abs=0.3)
    assert taken[1, 0, 0, 0] > 0.9


def test_an_oct_changes_by_the_same_share_all_along_a_column(classifier, spots):
    kept, whole = (
        explain(classifier, spots, preset="oct", start=1.0, margin=0.0, confined=one) for one in (True, False)
    )
    share = torch.where(whole.difference.abs() > 0.05, kept.difference / whole.difference, torch.nan)
    assert share.nanmean() < 0.95
    torch.testing.assert_close(share, share.nanmean(2, keepdim=True) + 0 * share, equal_nan=True, atol=1e-3, rtol=0)


@pytest.mark.parametrize("share", SHARES)
def test_the_strongest_share_is_about_that_share(share):
    weight = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0)).cumsum(2).cumsum(3)
    taken = (_strongest(weight, share) > 0.5).float().mean((1, 2, 3))
    assert ((taken >= 0.8 * share) & (taken <= 1.5 * share + 0.03)).all()


@pytest.mark.parametrize(
    ("settings", "cure"),
    [
        ({"preset": "fundas"}, "did you mean 'fundus'"),
        ({"gradients": "none"}, "network, estimate"),
        ({"steps": 0}, "steps >= 1"),
        ({"start": 0.0}, "start >"),
        ({"degrees": 90}, "0 <= degrees < 90"),
        ({"guidance": []}, "some guidance"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_once(settings, cure):
    with pytest.raises(CounterscanError, match=cure):
        DiffusionGuidance(Flat(), **settings)


def test_a_prior_of_another_shape_is_refused(classifier, spots):
    with pytest.raises(WeightsError, match=r"shape \(1, 16, 16\), these are \(1, 8, 8\)"):
        DiffusionGuidance(Flat()).run(classifier, spots[..., :8, :8], ABSENT)


def test_a_robust_classifier_of_other_classes_is_refused(classifier, spots):
    other = TorchClassifier(Spot(), CARD.model_copy(update={"classes": ("rim", "spot")}))
    with pytest.raises(ClassifierError, match="over rim, spot"):
        explain(classifier, spots, robust=other)


def test_a_robust_black_box_is_refused(classifier, spots):
    with pytest.raises(NeedsGradients, match="torch classifier"):
        explain(classifier, spots, robust=BlackBox(classifier))
