"""Pairs from one latent: the known direction is found, and only that tile of the image changes."""

import pytest
import torch

from counterscan.classifiers.wrappers import BlackBox, Fitted
from counterscan.core import Target
from counterscan.errors import CounterscanError, NeedsGradients, WeightsError
from counterscan.explainers.latent_optimisation import LatentOptimisation, distance, made

WITHOUT, WITH = Target(((0, 0.0),)), Target(((0, 1.0),))
QUICK = {"draws": 64, "inversion": 60, "steps": 40}


@pytest.fixture
def scans(tiles):
    """Images that the generator can make, of latents that the explainer does not know: 8, with the finding in some."""
    return made(tiles, tiles.draw(8, torch.Generator().manual_seed(11)))


def test_what_the_generator_can_make_is_found_again(tiles, bright, scans):
    explanation = LatentOptimisation(tiles, **QUICK)(bright(), scans, WITH)
    error = distance(explanation.reconstruction, scans)
    untouched = LatentOptimisation(tiles, **QUICK | {"inversion": 1})(bright(), scans, WITH).reconstruction
    assert error.max() < 0.03
    assert (error < distance(untouched, scans) / 5).all()
    cases = torch.tensor([case["inversion_error"] for case in explanation.meta["cases"]])
    assert torch.allclose(cases, (explanation.reconstruction - scans).abs().flatten(1).mean(1) / 2, atol=1e-3)


@pytest.mark.parametrize("target", [WITHOUT, WITH])
def test_a_pair_differs_where_the_finding_is_and_hardly_elsewhere(tiles, bright, scans, target):
    classifier = bright()
    asked = ~target.reached(classifier(scans))
    explanation = LatentOptimisation(tiles, **QUICK)(classifier, scans[asked], target)
    assert explanation.found.all()
    change = explanation.difference
    assert (change[:, :, :4, :4].mean((1, 2, 3)).sign() == (1 if target == WITH else -1)).all()
    inside, all_of_it = change[:, :, :4, :4].abs().sum((1, 2, 3)), change.abs().sum((1, 2, 3))
    assert (inside / all_of_it).min() > 0.6


def test_a_pull_to_the_start_keeps_what_cannot_be_reached_from_going_far(tiles, bright, scans):
    angles = []
    for near in (0.0, 200.0):
        explainer = LatentOptimisation(tiles, margin=50, near=near, **QUICK)
        angles.append([case["angle"] for case in explainer(bright(), scans, WITH).meta["cases"]])
    assert all(held < free / 2 for free, held in zip(*angles, strict=True))


def test_one_that_answers_as_asked_already_hardly_changes(tiles, bright, scans):
    classifier = bright()
    there = WITH.reached(classifier(scans))
    explanation = LatentOptimisation(tiles, margin=0.0, **QUICK)(classifier, scans[there], WITH)
    assert explanation.found.all()
    assert explanation.difference.abs().max() < 0.05


def test_what_the_inversion_alone_changed_is_not_found(tiles, bright):
    classifier = bright(bias=-40)  # no tile is bright enough for it

    class Shouting(type(tiles)):
        def __call__(self, latents):  # cannot make an image without the finding
            images = super().__call__(latents)
            return torch.cat([torch.ones_like(images[:, :, :4]), images[:, :, 4:]], dim=2)

    scans = torch.full((2, 1, 16, 16), 0.1)
    explainer = LatentOptimisation(Shouting(), **QUICK)
    assert not explainer(classifier, scans, WITH).found.any()
    seeing = bright(bias=-6)
    assert not WITH.reached(seeing(scans)).any()
    explanation = explainer(seeing, scans, WITH)
    assert WITH.reached(seeing(explanation.reconstruction)).all()
    assert all(case["reconstruction_flips"] for case in explanation.meta["cases"])
    assert not explanation.found.any()


def test_sizes_and_settings_that_do_not_fit_are_refused_with_the_cure(tiles, bright):
    with pytest.raises(WeightsError, match=r"images of shape \(1, 16, 16\), these are \(1, 8, 8\)"):
        LatentOptimisation(tiles)(Fitted(bright(), (1, 8, 8)), torch.zeros(1, 1, 8, 8), WITH)
    for wrong in ({"draws": 0}, {"near": -1.0}, {"steps": 0}, {"inversion": 0}, {"rate": 3.0}):
        with pytest.raises(CounterscanError):
            LatentOptimisation(tiles, **wrong)


def test_a_black_box_is_refused(tiles, bright):
    with pytest.raises(NeedsGradients):
        LatentOptimisation(tiles)(BlackBox(bright()), torch.zeros(1, 1, 16, 16), WITH)
