"""The diffusion autoencoder's network: told a code or not, and what the statistics of its codes do."""

import pytest
import torch
from torch.nn import functional as F

from counterscan.nets.denoiser import DenoisingUNet
from counterscan.nets.semantic_encoder import BLUR, DiffusionAutoencoder, SemanticEncoder

SMALL = {"latents": 6, "places": 4, "widths": (16, 16), "seeing": (16, 16)}
D = 6 * 4 * 4


def shaken(**settings):
    torch.manual_seed(0)
    net = DiffusionAutoencoder(**{**SMALL, **settings}).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn(p.shape))
    return net


def test_a_denoiser_without_a_code_is_the_one_it_was():
    """Names and first values are those of a denoiser that is told none, so that older weights and seeds still hold."""
    torch.manual_seed(0)
    net = DenoisingUNet(1, widths=(16, 16), conditions=8)
    torch.manual_seed(0)
    told = DenoisingUNet(1, widths=(16, 16), conditions=8, semantics=3).state_dict()
    assert told.keys() - net.state_dict().keys() == {"semantic.weight", "semantic.bias"}
    assert all(torch.equal(told[name], value) for name, value in net.state_dict().items())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [32, 64])
def test_rows_are_float32_and_estimates_keep_the_size(channels, size):
    net, images = shaken(channels=channels), torch.rand(2, channels, size, size)
    with torch.autocast("cpu", torch.bfloat16):
        rows = net.encode(images)
    assert rows.shape == (2, D)
    assert rows.dtype == torch.float32
    assert net(images, torch.tensor([0.1, 2.0]), rows).shape == images.shape


def test_the_estimate_depends_on_the_row_the_more_the_more_noise_there_is():
    net = shaken()
    noisy, rows = torch.randn(1, 1, 32, 32), torch.randn(2, D)
    moved = []
    for level in (0.01, 1.0):
        first, second = (net(noisy, torch.tensor([level]), row[None]) for row in rows)
        moved.append((first - second).abs().mean().item())
    assert moved[1] > 10 * moved[0] > 0


def test_what_is_seen_is_told_where_it_is():
    torch.manual_seed(0)
    encoder = SemanticEncoder(1, 3, 8, (16, 16)).eval()
    images = torch.full((2, 1, 64, 64), -1.0)
    images[1, :, 40:44, 8:12] = 1
    moved = (encoder(images)[1] - encoder(images)[0]).abs().amax(0)
    row, column = divmod(int(moved.argmax()), 8)
    assert (abs(row - 5), abs(column - 1)) <= (1, 1)
    assert moved[:2, 4:].max() < 1e-5, "what is far off is not told of"


def test_a_step_of_one_place_is_decoded_there():
    net = shaken()
    noisy, rows = torch.randn(1, 1, 64, 64), torch.zeros(2, D)
    rows[1].view(6, 4, 4)[:, 3, 0] = 1.0
    first, second = (net(noisy, torch.ones(1), row[None]) for row in rows)
    moved = F.avg_pool2d((first - second).abs(), 16)[0, 0]
    assert moved.argmax() == 12
    assert moved[0, 3] < 0.5 * moved[3, 0]


def test_codes_are_blurred_in_training_and_only_then():
    net = shaken()
    images = torch.rand(64, 1, 32, 32)
    assert torch.equal(net.encode(images), net.encode(images))
    assert net.train().encoder(images).std((0, 2, 3)).tolist() == pytest.approx([1.0] * 6, rel=0.01)
    blurred = [net.encode(images) for _ in range(2)]
    assert (blurred[0] - blurred[1]).std().item() == pytest.approx(BLUR * 2**0.5, rel=0.05)


def test_every_part_learns():
    net = shaken().train()
    clean, noise = torch.rand(4, 1, 32, 32), torch.randn(4, 1, 32, 32)
    answer = net(clean + noise, torch.ones(4), net.encode(clean))
    (answer - clean).square().mean().backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum()]


def test_rows_are_counted_in_deviations_and_mean_the_same():
    centre, scale = [0.5, -3.0, 0.0, 100.0, 1e-3, 2.0], [0.1, 1.0, 3.0, 7.0, 1e-4, 50.0]
    plain, counted = shaken(), shaken(centre=centre, scale=scale)
    images, sigma = torch.rand(3, 1, 32, 32), torch.ones(3)
    rows = counted.encode(images)
    maps = rows.view(3, 6, 16) * torch.tensor(scale)[:, None] + torch.tensor(centre)[:, None]
    torch.testing.assert_close(maps.flatten(1), plain.encode(images), rtol=1e-5, atol=1e-5)
    estimate = plain(images, sigma, plain.encode(images))
    torch.testing.assert_close(counted(images, sigma, rows), estimate, rtol=1e-4, atol=1e-4)
    assert plain.state_dict().keys() == counted.state_dict().keys(), "statistics are not among the weights"


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"centre": [0.0] * 5}, "centre holds 5 numbers; 6"),
        ({"scale": [1.0] * 5 + [float("nan")]}, "scale holds"),
        ({"scale": [1.0] * 5 + [0.0]}, "not positive"),
    ],
)
def test_statistics_that_are_none_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        DiffusionAutoencoder(**SMALL, **settings)


def test_it_is_small_enough_to_ship():
    assert sum(p.numel() for p in DiffusionAutoencoder(3).parameters()) * 2 < 8e6
