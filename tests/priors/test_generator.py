"""A generator that was loaded: its latents, its images, and what its critic says of them."""

import pytest
import torch

from counterscan.core import Card
from counterscan.errors import CounterscanError, WeightsError
from counterscan.nets import build
from counterscan.priors.generator import load_generator
from counterscan.weights.store import save_weights

QUANTILES = [k / 10 for k in range(11)]


def saved(folder, **changes):
    settings = {"channels": 1, "latents": 6, "widths": [8, 8, 4], "critic_quantiles": QUANTILES}
    told = {"kind": "generator", "network": "growing-gan", "shape": (1, 16, 16), "settings": settings, **changes}
    card = Card(name="chest/tiny", classes=(), **told)
    torch.manual_seed(0)
    return save_weights(folder, build(card.network, card.settings), card)


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    return load_generator(saved(tmp_path_factory.mktemp("generator")))


def draws(seed):
    return torch.Generator().manual_seed(seed)


def test_draws_lie_on_the_sphere_and_replay(generator):
    z = generator.draw(7, draws(3))
    assert z.shape == (7, 6)
    torch.testing.assert_close(z.norm(dim=1), torch.full((7,), 6**0.5))
    assert torch.equal(z, generator.draw(7, draws(3)))


def test_images_are_of_the_cards_shape_in_range_and_differentiable(generator):
    z = generator.draw(4, draws(0)).requires_grad_()
    images = generator(z)
    assert images.shape == (4, *generator.card.shape)
    assert images.dtype == torch.float32
    assert images.abs().max() <= 1
    generator.critic(images).sum().backward()
    assert z.grad.abs().sum() > 0
    assert all(p.grad is None for p in generator.module.parameters())


def test_the_critic_scores_each_image_alone(generator):
    with torch.no_grad():
        images = generator(generator.draw(6, draws(0)))
        scores = generator.critic(images)
        assert scores.shape == (6,)
        torch.testing.assert_close(scores[2:3], generator.critic(images[2:3]), atol=0.02, rtol=0.02)


def test_quantiles_are_the_cards(generator):
    assert generator.critic_quantile(0.05) == pytest.approx(0.05)
    assert generator.critic_quantile(1) == 1


def test_wrong_shapes_are_named(generator):
    with pytest.raises(CounterscanError, match=r"takes latents \(n, 6\), these are \(2, 5\)"):
        generator(torch.zeros(2, 5))
    with pytest.raises(CounterscanError, match=r"scores images of shape \(1, 16, 16\), these are \(1, 32, 32\)"):
        generator.critic(torch.zeros(2, 1, 32, 32))


def test_what_is_no_generator_is_refused(tmp_path):
    settings = {"channels": 1, "latents": 6, "widths": [8, 8, 4]}
    with pytest.raises(WeightsError, match="lacks the setting 'critic_quantiles'"):
        load_generator(saved(tmp_path / "a", settings=settings))
    with pytest.raises(WeightsError, match="kind denoiser; generator is needed"):
        load_generator(saved(tmp_path / "b", kind="denoiser"))
    with pytest.raises(WeightsError, match="network 'resnet'; 'growing-gan' is needed"):
        load_generator(saved(tmp_path / "c", network="resnet", settings={"channels": 1, "outputs": 1}))
