"""Cones, gradients and pushes are what their formulas say, on networks for which everything is known."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from counterscan.errors import CounterscanError
from counterscan.priors.sampling import Noise, ancestral, ddim, dpm_solver, heun, posterior
from counterscan.priors.schedules import karras, linear
from counterscan.priors.steering import (
    Guided,
    Kept,
    Term,
    at_estimate,
    cone,
    distance,
    length,
    norm_of_mean,
    norm_of_noise,
    through_network,
    unit,
)

angles, seeds = st.floats(0, 89), st.integers(0, 10**6)


def drawn(seed, count=3, side=6):
    return torch.randn(count, 2, side, side, generator=torch.Generator().manual_seed(seed))


def between(first, second):
    """Angles in degrees `(b,)`, computed the way that is exact for small ones."""
    a, b = (x.double().flatten(1) for x in (first, second))
    a, b = (x / x.norm(dim=1, keepdim=True) for x in (a, b))
    return torch.rad2deg(2 * torch.atan2((a - b).norm(dim=1), (a + b).norm(dim=1)))


@settings(max_examples=25, deadline=None)
@given(seeds, angles, st.floats(-1, 1))
def test_no_answer_leaves_the_cone(seed, degrees, leaning):
    around, gradient = drawn(seed), drawn(seed + 1) + 5 * leaning * drawn(seed)
    for inside in ("axis", "kept"):
        answer = cone(gradient, around, degrees, inside=inside)
        assert (between(answer, around) <= degrees + 1e-3).all()
        torch.testing.assert_close(length(answer).flatten(), torch.ones(3))


@settings(max_examples=25, deadline=None)
@given(seeds, st.floats(1, 80))
def test_outside_it_is_the_nearest_ray_of_the_border(seed, degrees):
    around = drawn(seed)
    gradient = drawn(seed + 1) - around
    answer = cone(gradient, around, degrees)
    torch.testing.assert_close(between(answer, around), torch.full((3,), degrees).double(), atol=1e-3, rtol=0)
    rest = between(gradient, around) - degrees
    torch.testing.assert_close(between(answer, gradient), rest, atol=1e-3, rtol=0)


@settings(max_examples=30, deadline=None)
@given(seeds, st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
def test_only_directions_count(seed, one, other):
    around, gradient = drawn(seed), drawn(seed + 1)
    expected = cone(gradient, around, 30)
    torch.testing.assert_close(cone(one * gradient, other * around, 30), expected, atol=1e-5, rtol=0)


def test_inside_it_is_the_axis_as_published_or_the_gradient():
    around = drawn(0)
    gradient = around + 0.1 * drawn(1)
    assert (between(gradient, around) < 20).all()
    torch.testing.assert_close(cone(gradient, around, 30), unit(around))
    torch.testing.assert_close(cone(gradient, around, 30, inside="kept"), unit(gradient))


def test_the_narrowest_cone_is_the_axis():
    around = drawn(0)
    torch.testing.assert_close(cone(drawn(1), around, 0), unit(around))


@pytest.mark.parametrize("factor", [0.0, 3.0, -3.0, 1e-30, -1e30])
def test_gradients_without_a_direction_of_their_own_give_the_axis(factor):
    around = drawn(0)
    torch.testing.assert_close(cone(factor * around, around, 30), unit(around), atol=1e-6, rtol=0)


def test_nothing_to_be_around_gives_nothing():
    answer = cone(drawn(1), torch.zeros(3, 2, 6, 6), 30)
    assert torch.equal(answer, torch.zeros_like(answer))


@pytest.mark.parametrize("degrees", [-1, 90, float("nan")])
def test_a_cone_that_does_not_climb_is_refused(degrees):
    with pytest.raises(CounterscanError, match="less than 90"):
        cone(drawn(1), drawn(0), degrees)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e30])
def test_unit_has_length_one_however_small(scale):
    images = drawn(2) * scale
    images[1] = 0
    torch.testing.assert_close(length(unit(images)).flatten(), torch.tensor([1.0, 0.0, 1.0]))


class Tiny(nn.Module):
    """A denoiser with a derivative that is no multiple of the identity."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 2, 3, padding=1))
        self.asked = 0

    def forward(self, noisy, sigma):
        self.asked += 1
        level = sigma.view(-1, 1, 1, 1)
        return noisy / (1 + level.square()) + self.layers(noisy / (1 + level.square()).sqrt())


@pytest.fixture
def tiny():
    return Tiny().requires_grad_(False)


def judged(clean):
    return clean[:, 0].square().flatten(1).sum(1) - clean[:, 1].flatten(1).sum(1)


def brightness(clean):
    return clean.flatten(1).sum(1)


def test_the_gradient_through_the_network_is_autograds(tiny):
    noisy, sigma = drawn(3), torch.tensor([0.5, 1.0, 2.0])
    clean, (first, second) = through_network(tiny, noisy, sigma, [judged, brightness])
    assert tiny.asked == 1
    given_in = noisy.clone().requires_grad_()
    torch.testing.assert_close(first, torch.autograd.grad(judged(tiny(given_in, sigma)).sum(), given_in)[0])
    torch.testing.assert_close(second, torch.autograd.grad(brightness(tiny(given_in, sigma)).sum(), given_in)[0])
    torch.testing.assert_close(clean, tiny(noisy, sigma))
    assert not clean.requires_grad


def test_no_gradient_of_a_parameter_is_computed():
    network = Tiny()
    through_network(network, drawn(3), torch.ones(3), [judged])
    assert all(p.grad is None for p in network.parameters())


def test_the_gradient_at_the_estimate_is_the_objectives_own(tiny):
    noisy, sigma = drawn(3), torch.ones(3)
    clean, (found,) = at_estimate(tiny, noisy, sigma, [judged])
    expected = torch.stack([2 * clean[:, 0], -torch.ones_like(clean[:, 1])], 1)
    torch.testing.assert_close(found, expected)
    _, (through,) = through_network(tiny, noisy, sigma, [judged])
    assert (between(found, through) > 1).all()


def test_both_gradients_agree_where_the_network_changes_nothing():
    def nothing(noisy, sigma):
        return noisy * 1

    for x, y in zip(
        *(f(nothing, drawn(3), torch.ones(3), [judged]) for f in (through_network, at_estimate)), strict=True
    ):
        torch.testing.assert_close(x, y)


@pytest.mark.parametrize("p", [1, 2, 4])
def test_the_distance_is_a_mean_of_powers(p):
    images, clean = drawn(4), drawn(5)
    expected = [float((a - b).abs().pow(p).mean()) for a, b in zip(images, clean, strict=True)]
    assert distance(images, p)(clean).tolist() == pytest.approx(expected)


def test_without_terms_a_step_is_not_steered(tiny):
    levels = linear().levels(20)[8:]
    noisy = levels[0] * drawn(6)
    plain = ancestral(tiny, noisy, levels, Noise([1, 2, 3]))
    still = Guided(tiny, [Term(0.0, judged), Term(-0.0, distance(drawn(4), 2))], levels)
    torch.testing.assert_close(ancestral(still, noisy, levels, Noise([1, 2, 3])), plain)


@pytest.mark.parametrize("norm", ["mean", "noise"])
@pytest.mark.parametrize("index", [40, 99])
def test_an_ancestral_step_is_the_papers(tiny, norm, index):
    """In DDPM's coordinates: x = mean + variance * (w R g / |g| - v R d / |d|), the formula as the paper has it."""
    schedule = linear()
    timesteps = schedule.respaced(200)[[199 - index, 200 - index]]
    bar, under = schedule.alpha_bar[timesteps].float()
    levels = schedule.levels(200)[199 - index : 201 - index]
    image, scaled = drawn(7), drawn(8)
    beta = 1 - bar / under

    def clean_of(x):
        return tiny(x / bar.sqrt(), (1 / bar - 1).sqrt().expand(3))

    given_in = scaled.clone().requires_grad_()
    gradients = [
        torch.autograd.grad(value(clean_of(given_in)).sum(), given_in)[0]
        for value in (judged, brightness, distance(image, 2))
    ]
    clean = clean_of(scaled)
    mean = under.sqrt() * beta / (1 - bar) * clean + (bar / under).sqrt() * (1 - under) / (1 - bar) * scaled
    size = length(mean) if norm == "mean" else length((scaled - bar.sqrt() * clean) / (1 - bar).sqrt())
    push = 0.1 * size * cone(gradients[0], gradients[1], 30) - 0.5 * size * unit(gradients[2])
    expected = mean + beta * (1 - under) / (1 - bar) * push

    terms = [Term(0.1, judged, around=brightness, degrees=30), Term(-0.5, distance(image, 2))]
    guided = Guided(tiny, terms, schedule.levels(200), norm=norm)
    sigma, below = levels[0].expand(3), levels[1].expand(3)
    ours, _ = posterior(guided(scaled / bar.sqrt(), sigma), scaled / bar.sqrt(), sigma, below)
    torch.testing.assert_close(ours * under.sqrt(), expected, atol=2e-5, rtol=1e-4)


def test_the_size_of_a_push_is_its_weight_times_the_norm(tiny):
    levels = karras(10, highest=3.0)
    noisy, sigma, below = drawn(9), levels[4].expand(3), levels[5].expand(3)
    for scale in (1.0, 1000.0):  # the size of an objective does not matter
        guided = Guided(tiny, [Term(0.25, lambda clean, s=scale: s * judged(clean))], levels)
        change = guided(noisy, sigma) - tiny(noisy, sigma)
        reach = levels[5] ** 2 / (1 + levels[5] ** 2).sqrt()
        expected = 0.25 * reach * norm_of_mean(tiny(noisy, sigma), noisy, sigma, below)
        torch.testing.assert_close(length(change), expected, atol=1e-5, rtol=1e-4)


def test_the_norm_of_noise_is_that_of_the_noise():
    clean, noise, sigma = drawn(1), drawn(2), torch.tensor([0.3, 1.0, 7.0])
    noisy = clean + sigma.view(-1, 1, 1, 1) * noise
    torch.testing.assert_close(norm_of_noise(clean, noisy, sigma), length(noise), atol=1e-4, rtol=1e-4)


def test_the_last_step_asks_for_no_gradient(tiny):
    def never(*_):
        raise AssertionError("the push of the last step reaches nobody")

    levels = karras(4)
    guided = Guided(tiny, [Term(1.0, judged)], levels, gradients=never)
    assert torch.equal(guided(drawn(1), levels[3].expand(3)), tiny(drawn(1), levels[3].expand(3)))


@pytest.mark.parametrize("gradients", [through_network, at_estimate])
def test_guidance_reaches_what_it_is_for_and_an_anchor_holds(gradients):
    def denoiser(noisy, sigma):
        level = sigma.view(-1, 1, 1, 1).square()
        return 0.25 * noisy / (level + 0.25)

    levels, image = linear().levels(50)[25:], 0.3 * drawn(1)
    noisy = image + levels[0] * Noise([0, 1, 2])(image)

    def sampled(*terms):
        return ancestral(Guided(denoiser, terms, levels, gradients=gradients), noisy, levels, Noise([3, 4, 5]))

    free = sampled(Term(0.0, brightness))
    assert (brightness(sampled(Term(0.3, brightness))) > brightness(free) + 5).all()
    held = sampled(Term(-0.5, distance(image, 2)))
    assert (distance(image, 2)(held) < 0.7 * distance(image, 2)(free)).all()


def test_the_batch_does_not_matter_to_a_steered_sampler(tiny):
    levels, image = linear().levels(12)[4:], drawn(1)
    noisy = image + levels[0] * Noise.of(image)(image)

    def sampled(chosen):
        terms = [Term(0.2, judged, around=brightness), Term(-0.5, distance(image[chosen], 1))]
        return ancestral(Guided(tiny, terms, levels), noisy[chosen], levels, Noise.of(image[chosen], 1))

    torch.testing.assert_close(sampled([2]), sampled([0, 1, 2])[2:], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("sampler", [ddim, heun, dpm_solver, lambda *a: ancestral(*a, Noise([1, 2, 3]))])
def test_outside_the_mask_not_a_bit_changes(tiny, sampler):
    images, mask = drawn(1), torch.zeros(3, 1, 6, 6, dtype=torch.bool)
    mask[:, :, 2:4, 1:5] = True
    levels = karras(6, highest=3.0)
    answer = sampler(Kept(tiny, images, mask), images + levels[0] * drawn(2), levels)
    outside = ~mask.expand_as(images)
    assert torch.equal(answer[outside], images[outside])
    assert not torch.equal(answer[~outside], images[~outside])


def test_a_cone_of_30_degrees_always_climbs():
    around = drawn(0)
    climbs = (cone(-around + 0.3 * drawn(1), around, 30) * unit(around)).flatten(1).sum(1)
    torch.testing.assert_close(climbs, torch.full((3,), math.cos(math.radians(30))))
