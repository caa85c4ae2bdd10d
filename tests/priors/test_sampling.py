"""On images whose exact denoiser is known, samplers give back what they should, at their order, whatever the batch."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from counterscan.priors.sampling import Noise, ancestral, ddim, dpm_solver, heun, invert, posterior
from counterscan.priors.schedules import DiscreteSchedule, karras, linear

FLOWS = {"ddim": ddim, "heun": heun, "dpm_solver": dpm_solver}
every_flow = pytest.mark.parametrize("name", FLOWS)
MEAN = torch.linspace(-0.6, 0.6, 64).view(1, 1, 8, 8)
SPREAD = torch.linspace(0.1, 0.7, 64).flip(0).view(1, 1, 8, 8)


def exact(noisy, sigma):
    """The best estimate of pixels that are normal, each with a mean and a deviation of its own."""
    noise = sigma.view(-1, 1, 1, 1).square()
    return (noise * MEAN + SPREAD.square() * noisy) / (noise + SPREAD.square())


def flowed(noisy, start, end):
    """Where the probability flow of such pixels leads from one level to another, exactly."""
    return MEAN + (noisy - MEAN) * ((SPREAD.square() + end**2) / (SPREAD.square() + start**2)).sqrt()


def start(count=4, level=80.0):
    return level * Noise(range(count))(torch.zeros(count, 1, 8, 8))


@every_flow
def test_the_mean_and_the_variance_are_those_of_the_images(name):
    images = FLOWS[name](exact, start(400), karras(200))
    torch.testing.assert_close(images.mean(0, keepdim=True), MEAN, atol=0.12, rtol=0)
    torch.testing.assert_close(images.std(0, keepdim=True), SPREAD, atol=0, rtol=0.2)
    torch.testing.assert_close(images, flowed(start(400), 80.0, 0.0), atol=0.05 if name == "ddim" else 0.01, rtol=0)


def test_ancestral_draws_images_of_that_mean_and_variance():
    images = ancestral(exact, start(400), karras(200), Noise(range(1000, 1400)))
    torch.testing.assert_close(images.mean(0, keepdim=True), MEAN, atol=0.12, rtol=0)
    ratio = images.std(0, keepdim=True) / SPREAD
    assert ratio.mean().item() == pytest.approx(1, abs=0.03)
    assert (ratio - 1).abs().max() < 0.2


@pytest.mark.parametrize(("name", "order"), [("ddim", 1), ("heun", 2), ("dpm_solver", 2)])
def test_the_order_of_convergence(name, order):
    errors = []
    for steps in (32, 64, 128):
        levels = karras(steps + 1, lowest=0.1, highest=10.0)[:-1].double()
        noisy = start(2, 10.0).double()
        errors.append((FLOWS[name](exact, noisy, levels) - flowed(noisy, 10.0, 0.1)).abs().max().item())
    orders = [math.log2(errors[i] / errors[i + 1]) for i in range(2)]
    assert min(orders) > order - 0.25, (errors, orders)
    assert max(orders) < order + 0.6, (errors, orders)


def test_inverting_and_sampling_is_the_identity_the_more_steps_the_better():
    images = MEAN + SPREAD * Noise(range(3))(torch.zeros(3, 1, 8, 8))
    errors = []
    for steps in (25, 50, 100, 200):
        levels = karras(steps, lowest=0.5 / steps, highest=10.0)
        noisy = invert(exact, images, levels)
        errors.append((ddim(exact, noisy, levels) - images).abs().max().item())
    assert all(later < 0.7 * earlier for earlier, later in pairwise(errors)), errors
    assert errors[-1] < 0.03, errors


def test_inverted_images_are_noise():
    images = MEAN + SPREAD * Noise(range(300))(torch.zeros(300, 1, 8, 8))
    noisy = invert(exact, images, karras(200, highest=20.0))
    assert (noisy / 20).std().item() == pytest.approx(1, abs=0.05)


SAMPLERS = {
    **FLOWS,
    "invert": invert,
    "ancestral": lambda *words, **more: ancestral(*words, Noise.of(words[1]), **more),
}
every_sampler = pytest.mark.parametrize("name", SAMPLERS)


@every_sampler
def test_the_batch_does_not_matter(name):
    noisy, levels = start(5, 3.0), karras(12, highest=3.0)
    together = SAMPLERS[name](exact, noisy, levels)
    for order in ([3], [4, 0], [2, 1, 3]):
        assert torch.equal(SAMPLERS[name](exact, noisy[order], levels), together[order])


@every_sampler
def test_gradients_are_kept_only_if_asked_for(name):
    noisy = start(1, 3.0).requires_grad_()
    assert not SAMPLERS[name](exact, noisy, karras(4, highest=3.0)).requires_grad
    kept = SAMPLERS[name](exact, noisy, karras(4, highest=3.0), differentiable=True)
    assert torch.autograd.grad(kept.sum(), noisy)[0].abs().sum() > 0


@every_sampler
def test_a_sampler_leaves_what_it_gets_and_global_randomness_alone(name):
    noisy = start(2, 3.0)
    before, state = noisy.clone(), torch.get_rng_state()
    SAMPLERS[name](exact, noisy, karras(5, highest=3.0))
    assert torch.equal(noisy, before)
    assert torch.equal(torch.get_rng_state(), state)


@every_sampler
def test_what_it_asks_for(name):
    asked = []

    def counting(noisy, sigma):
        asked.append(sigma)
        return exact(noisy, sigma)

    SAMPLERS[name](counting, start(3, 3.0), karras(6, highest=3.0))
    assert len(asked) == (11 if name == "heun" else 6)
    assert all(sigma.shape == (3,) and (sigma > 0).all() for sigma in asked)


def test_noise_is_drawn_for_each_image_and_goes_on():
    images = torch.rand(3, 1, 8, 8)
    noise, again = Noise.of(images, 1), Noise.of(images.flip(0), 1)
    first, second = noise(images), noise(images)
    assert torch.equal(again(images), first.flip(0))
    assert torch.equal(again(images), second.flip(0))
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(Noise.of(images, 2)(images), first)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 998))
def test_a_step_is_ddpms(t):
    """Mean and variance of the textbook's posterior, for images scaled as DDPM has them."""
    bar, under = linear().alpha_bar[[t, t - 1]]
    beta = 1 - bar / under
    clean, noisy = (torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(t + i)).double() for i in (0, 1))
    mean = under.sqrt() * beta / (1 - bar) * clean + (bar / under).sqrt() * (1 - under) / (1 - bar) * noisy * bar.sqrt()
    sigma, below = ((1 / x - 1).sqrt().expand(2) for x in (bar, under))
    ours, variance = posterior(clean, noisy, sigma, below)
    torch.testing.assert_close(ours * under.sqrt(), mean)
    torch.testing.assert_close((variance * under)[0, 0, 0, 0], beta * (1 - under) / (1 - bar))


def test_ddim_is_monais():
    schedulers = pytest.importorskip("monai.networks.schedulers")
    theirs = schedulers.DDIMScheduler(num_train_timesteps=40, clip_sample=False)
    theirs.set_timesteps(40)
    schedule = DiscreteSchedule(theirs.alphas_cumprod.double())
    levels = schedule.levels(40)
    noisy = start(2, float(levels[0]))
    scaled = noisy * (1 + levels[0] ** 2).rsqrt()
    for t in theirs.timesteps:
        sigma = schedule.sigmas[t].float().expand(2)
        given_back = scaled * (1 + sigma[0] ** 2).sqrt()
        noise = (given_back - exact(given_back, sigma)) / sigma[0]
        scaled, _ = theirs.step(noise, t, scaled)
    torch.testing.assert_close(ddim(exact, noisy, levels), scaled, atol=2e-5, rtol=0)
