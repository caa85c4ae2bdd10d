"""The published loss terms, against numbers worked out by hand."""

import math

import pytest
import torch

from counterscan.train.terms import answering, closeness, desired, pleasing, telling, variation


def test_a_generator_pays_cross_entropy_with_real_or_minus_the_mean():
    scores = torch.tensor([[0.0, math.log(3)]])  # probabilities a half and three quarters
    assert float(pleasing(scores)) == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)
    assert float(pleasing(scores, hinge=True)) == pytest.approx(-math.log(3) / 2)


def test_a_discriminator_pays_half_of_both():
    real, fake = torch.tensor([math.log(3)]), torch.tensor([0.0, math.log(3)])
    on_real, on_fake = math.log(4 / 3), (math.log(2) + math.log(4)) / 2
    assert float(telling(real, fake)) == pytest.approx((on_real + on_fake) / 2)
    real, fake = torch.tensor([0.25, 3.0]), torch.tensor([-2.0, 0.5])
    assert float(telling(real, fake, hinge=True)) == pytest.approx((0.75 / 2 + 1.5 / 2) / 2)


def test_what_is_seen_is_to_vanish_and_what_is_not_to_stay():
    asked = desired(torch.tensor([[2.0, -2.0], [0.0, -9.0]]))
    assert asked[0, 0] == asked[1, 0] == pytest.approx(1e-6)
    assert asked[0, 1] == pytest.approx(1 / (1 + math.exp(2)))


def test_the_divergence_is_summed_over_findings_and_clamped():
    p, q = torch.tensor([[0.2, 0.5]]), torch.tensor([[0.6, 0.5]])
    first = 0.2 * math.log(0.2 / 0.6) + 0.8 * math.log(0.8 / 0.4)
    assert float(answering(p, q.logit())) == pytest.approx(first, rel=1e-5)
    both = answering(torch.cat([p, q]), torch.cat([q, q]).logit())
    assert float(both) == pytest.approx(first / 2, rel=1e-5), "the mean of the batch"
    worst = answering(torch.tensor([[1e-6]]), torch.tensor([[50.0]]))
    assert float(worst) == pytest.approx((1 - 1e-5) * math.log((1 - 1e-5) / 1e-5) + 1e-5 * math.log(1e-5), rel=1e-3)
    assert float(answering(torch.tensor([[1e-6]]), torch.tensor([[-50.0]]))) == pytest.approx(0, abs=1e-6)


def test_closeness_is_the_mean_difference():
    assert float(closeness(torch.tensor([0.5, -1.0]), torch.tensor([0.0, 1.0]))) == 1.25


def test_the_variation_is_of_squares_in_grey_levels():
    images, edited = torch.zeros(1, 1, 2, 3), torch.zeros(1, 1, 2, 3)
    edited[0, 0, 0, 1] = -2 / 255  # one grey level
    # across: 2 of 4 differences are 1; down: 1 of 3
    assert float(variation(images, edited)) == pytest.approx(2 / 4 + 1 / 3)
    assert float(variation(images, edited * 3)) == pytest.approx(9 * (2 / 4 + 1 / 3))
    assert float(variation(images, images + 0.7)) == pytest.approx(0, abs=1e-6)
