"""The denoiser of ours is preconditioned as it says, and is told the level."""

import pytest
import torch

from counterscan.nets.denoiser import DenoisingUNet


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [32, 64, 128])
def test_it_keeps_the_size_and_starts_as_the_best_linear_estimate(channels, size):
    net = DenoisingUNet(channels, spread=0.4)
    noisy, sigma = torch.randn(2, channels, size, size), torch.tensor([0.01, 80.0])
    clean = net(noisy, sigma)
    torch.testing.assert_close(clean, noisy * (0.16 / (0.16 + sigma.square())).view(-1, 1, 1, 1))


@pytest.fixture
def shaken():
    torch.manual_seed(0)
    net = DenoisingUNet(1, spread=0.4, widths=(16, 16))
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.1)
    return net


def test_little_noise_is_hardly_touched_and_much_is_hardly_believed(shaken):
    """What the network adds is at most as large as the level, and as the spread of images."""
    noisy = torch.randn(1, 1, 16, 16)
    added = []
    for level in (1e-4, 1e4):
        sigma = torch.tensor([level])
        clean = shaken(noisy * (level**2 + 0.16) ** 0.5, sigma)
        added.append((clean - noisy * 0.16 / (level**2 + 0.16) ** 0.5).abs().max().item())
    assert added[0] < 1e-4 * 50
    assert 0.01 < added[1] < 0.4 * 50


def test_it_sees_the_level(shaken):
    noisy = torch.randn(1, 1, 16, 16)
    answers = [shaken.unet(noisy, shaken.embed(shaken._told(torch.tensor([level])))) for level in (0.1, 0.11, 3.0)]
    assert not torch.allclose(answers[0], answers[2], rtol=1e-2)
    assert (answers[0] - answers[1]).abs().max() < 0.3 * (answers[0] - answers[2]).abs().max()


def test_the_level_is_told_in_float32_under_autocast(shaken):
    """Levels that bfloat16 cannot tell apart are told apart."""
    with torch.autocast("cpu", torch.bfloat16):
        near, nearer = (shaken._told(torch.tensor([level])) for level in (1.0, 1.001))
    assert near.dtype == torch.float32
    assert (near - nearer).abs().max() > 1e-3


def test_it_is_small_enough_to_ship():
    assert sum(p.numel() for p in DenoisingUNet(3).parameters()) * 2 < 10e6
