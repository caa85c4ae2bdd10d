"""Whatever a network predicts and on which schedule it was trained: behind the convention it is one and the same."""

import pytest
import torch

from counterscan.core import Card
from counterscan.errors import WeightsError
from counterscan.nets import build
from counterscan.priors.denoiser import NetworkDenoiser, TimestepDenoiser, load_denoiser
from counterscan.priors.sampling import Noise, heun
from counterscan.priors.schedules import cosine, linear, scaled_linear
from counterscan.weights.store import save_weights

SETTINGS = {"channels": 1, "widths": [16, 16], "conditions": 8}
CARD = Card(name="tiny", kind="denoiser", shape=(1, 32, 32), classes=(), network="denoiser", settings=SETTINGS)
SCHEDULES = {"linear": linear(), "scaled_linear": scaled_linear(), "cosine": cosine()}
MEAN, SPREAD = 0.2, 0.4


def exact(noisy, sigma):
    """The best estimate of pixels that are normal."""
    noise = sigma.view(-1, 1, 1, 1).square()
    return (noise * MEAN + SPREAD**2 * noisy) / (noise + SPREAD**2)


def trained(schedule, predicts, *, more=0):
    """A DDPM's network that was trained to perfection on such pixels, answering `more` channels than it needs."""

    def model(scaled, timesteps):
        bar = schedule.alpha_bar.float()[timesteps].view(-1, 1, 1, 1)
        clean = exact(scaled / bar.sqrt(), (1 / bar - 1).sqrt())
        noise = (scaled - bar.sqrt() * clean) / (1 - bar).sqrt()
        answers = {"noise": noise, "clean": clean, "velocity": bar.sqrt() * noise - (1 - bar).sqrt() * clean}
        return torch.cat([answers[predicts], torch.full_like(scaled, torch.nan).repeat(1, more, 1, 1)], 1)

    return model


@pytest.mark.parametrize("predicts", ["noise", "velocity", "clean"])
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("more", [0, 1])
def test_every_kind_of_network_is_the_same_denoiser(predicts, name, more):
    schedule = SCHEDULES[name]
    denoiser = TimestepDenoiser(trained(schedule, predicts, more=more), CARD, schedule, predicts)
    sigma = schedule.sigmas[[5, 300, 900]].float()
    noisy = torch.rand(3, 1, 8, 8) + sigma.view(-1, 1, 1, 1) * torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(denoiser(noisy, sigma), exact(noisy, sigma), atol=2e-4, rtol=2e-3)


def test_between_two_timesteps_the_interpolated_one_is_told():
    seen = []

    def model(scaled, timesteps):
        seen.append(timesteps)
        return scaled

    sigma = (linear().sigmas[100:102].log().mean()).exp()[None].float()
    TimestepDenoiser(model, CARD, linear())(torch.zeros(1, 1, 4, 4), sigma)
    TimestepDenoiser(model, CARD, linear(), interpolated=True)(torch.zeros(1, 1, 4, 4), sigma)
    assert seen[0].dtype == torch.int64
    assert seen[1].item() == pytest.approx(100.5, abs=1e-2)


def test_a_network_of_other_intensities_is_told_by_its_card():
    """One trained on [0, 1] has the mean -1 and the deviation 2 in its card."""

    def unit(noisy, sigma):  # the exact denoiser of the same pixels in [0, 1]
        noise = sigma.view(-1, 1, 1, 1).square()
        return (noise * (MEAN + 1) / 2 + (SPREAD / 2) ** 2 * noisy) / (noise + (SPREAD / 2) ** 2)

    class Unit(torch.nn.Module):
        def forward(self, noisy, sigma):
            return unit(noisy.float(), sigma)

    denoiser = NetworkDenoiser(Unit(), CARD.model_copy(update={"mean": (-1.0,), "std": (2.0,)}))
    noisy, sigma = torch.randn(2, 1, 8, 8), torch.tensor([0.3, 2.0])
    torch.testing.assert_close(denoiser(noisy, sigma), exact(noisy, sigma), atol=1e-5, rtol=1e-4)


def test_a_sampler_runs_on_an_adapter():
    schedule = linear()
    denoiser = TimestepDenoiser(trained(schedule, "noise"), CARD, schedule)
    images = heun(
        denoiser, schedule.sigmas[-1].float() * Noise(range(4))(torch.zeros(4, 1, 32, 32)), schedule.levels(50)
    )
    assert images.mean().item() == pytest.approx(MEAN, abs=0.05)
    assert images.std().item() == pytest.approx(SPREAD, rel=0.05)


@pytest.fixture
def shaken():
    torch.manual_seed(0)
    module = build("denoiser", SETTINGS).eval()
    torch.nn.init.normal_(module.unet.head.weight, std=0.2)
    return module


def test_the_batch_does_not_matter_and_one_level_serves_all(shaken):
    denoiser, noisy = NetworkDenoiser(shaken, CARD), torch.randn(20, 1, 32, 32)
    together = denoiser(noisy, torch.tensor(0.7))
    torch.testing.assert_close(denoiser(noisy[18:], torch.full((2,), 0.7)), together[18:], atol=2e-2, rtol=0)


def test_gradients_reach_the_noisy_image(shaken):
    noisy = torch.randn(20, 1, 32, 32, requires_grad=True)
    NetworkDenoiser(shaken, CARD)(noisy, torch.full((20,), 0.7)).sum().backward()
    assert (noisy.grad.flatten(1).abs().sum(1) > 0).all()


def test_it_loads_from_its_folder(shaken, tmp_path):
    save_weights(tmp_path, shaken, CARD)
    noisy, sigma = torch.randn(2, 1, 32, 32), torch.tensor([0.1, 5.0])
    loaded = load_denoiser(tmp_path)
    assert loaded.card.shape == (1, 32, 32)
    torch.testing.assert_close(loaded(noisy, sigma), NetworkDenoiser(shaken, CARD)(noisy, sigma), atol=2e-2, rtol=0)


def test_what_is_no_denoiser_is_refused(shaken, tmp_path):
    with pytest.raises(WeightsError, match=r"no card\.json"):
        load_denoiser(tmp_path)
    torch.nn.init.constant_(shaken.unet.head.bias, torch.nan)
    save_weights(tmp_path / "nan", shaken, CARD)
    with pytest.raises(WeightsError, match="not finite"):
        load_denoiser(tmp_path / "nan")
    card = CARD.model_copy(update={"kind": "classifier", "network": "resnet", "settings": {"outputs": 1}})
    save_weights(tmp_path / "other", build("resnet", {"outputs": 1}), card)
    with pytest.raises(WeightsError, match="denoiser is needed"):
        load_denoiser(tmp_path / "other")
