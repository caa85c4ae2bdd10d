"""Losses and penalties are those of the plain version in bench/growing_gan.py, and reach whom they are for."""

import importlib.util
from pathlib import Path

import pytest
import torch

from counterscan.errors import CounterscanError
from counterscan.nets.growing_gan import GrowingGAN
from counterscan.train.adversarial import LAZY, WGANGP, Relativistic, descend_both, optimisers_of
from counterscan.train.recipes.growing_gan import loss_of

SCRIPT = Path(__file__).parents[2] / "bench" / "growing_gan.py"
SPEC = importlib.util.spec_from_file_location("plain_growing_gan", SCRIPT)
PLAIN = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(PLAIN)
GROWN = 1.4


@pytest.fixture
def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return GrowingGAN(1, 6, (8, 8, 6))


@pytest.fixture
def draws():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, 1, 16, 16, generator=generator), torch.randn(8, 6, generator=generator)


def slopes(module):
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def same(ours, plain):
    assert ours.keys() == plain.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, plain[name], atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(("kind", "step"), [("relativistic", 0), ("relativistic", 1), ("wgan-gp", 1)])
def test_losses_and_gradients_are_those_of_the_plain_version(network, draws, kind, step):
    plain, (real, z) = PLAIN.Plain(network), draws
    fake = network.generator(z, GROWN)
    torch.manual_seed(5)
    loss = Relativistic(PLAIN.GAMMA, PLAIN.SIDE) if kind == "relativistic" else WGANGP()
    losses, on_real = loss.discriminator(lambda images: network.discriminator(images, GROWN), real, fake, step)
    total = sum(losses.values())
    torch.manual_seed(5)
    fake_plain = plain.generator(z, GROWN)
    told = (real, fake_plain, GROWN)
    expected, on_real_plain = plain.relativistic(*told, step) if kind == "relativistic" else plain.wgan_gp(*told)
    torch.testing.assert_close(total, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(on_real, on_real_plain, atol=1e-5, rtol=1e-4)
    total.backward()
    expected.backward()
    same(slopes(network.discriminator), slopes(plain.discriminator))
    ours = loss.generator(network.discriminator(fake, GROWN), on_real)
    on_fake = plain.discriminator(fake_plain, GROWN)
    theirs = torch.nn.functional.softplus(on_real - on_fake).mean() if kind == "relativistic" else -on_fake.mean()
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    ours.backward()
    theirs.backward()
    same(slopes(network.generator), slopes(plain.generator))


@pytest.mark.parametrize("loss", [Relativistic(1.0, 16), WGANGP()])
def test_what_the_discriminator_learns_does_not_reach_the_generator(network, draws, loss):
    real, z = draws
    losses, _ = loss.discriminator(network.discriminator.forward, real, network.generator(z), 0)
    sum(losses.values()).backward()
    assert slopes(network.discriminator)
    assert not slopes(network.generator)


def test_penalties_come_every_so_many_steps_with_as_many_times_the_weight(network, draws):
    real, z = draws
    fake = network.generator(z)
    losses = [Relativistic(1.0, 16).discriminator(network.discriminator.forward, real, fake, k)[0] for k in range(9)]
    assert ["penalty" in one for one in losses] == [True, *[False] * 7, True]
    wider = Relativistic(1.0, 32).discriminator(network.discriminator.forward, real, fake, LAZY)[0]
    torch.testing.assert_close(losses[0]["penalty"], 4 * wider["penalty"])


@pytest.mark.parametrize("loss", [Relativistic(1.0, 16), WGANGP()])
def test_one_step_moves_both_networks_and_only_the_blocks_in_use(network, draws, loss):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    values = descend_both(network, optimisers_of(network, 1e-3), loss, draws[0][..., ::2, ::2], draws[1], 1.0, 0)
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert {"generator.first.weight", "generator.blocks.0.1.weight", "discriminator.last.weight"} <= moved
    assert not [name for name in moved if ".blocks.1." in name or "image.2" in name or "image.0" in name]
    assert all(p.requires_grad for p in network.parameters())
    assert all(torch.isfinite(torch.tensor(value)) for value in values.values())


def test_another_loss_is_answered_with_the_nearest():
    with pytest.raises(CounterscanError, match="did you mean 'wgan-gp'"):
        loss_of("wgan", 1.0, 128)
