"""The growing networks say what the plain ones of bench/growing_gan.py say, at every stage of their growth."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from counterscan.nets import build
from counterscan.nets.growing_gan import Conv, Dense, DownConv, UpConv, enlarged, halved, rectified, spread
from counterscan.train.growing import PRESETS, side_of, widths_of

SCRIPT = Path(__file__).parents[2] / "bench" / "growing_gan.py"


def plain_networks(known):
    spec = importlib.util.spec_from_file_location("plain_growing_gan", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Plain(known)


def network(seed=0, **settings):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = build("growing-gan", {"latents": 6, "widths": [8, 8, 6, 4], **settings})
        for name, value in made.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(value)  # fresh ones are zero, and would hide how they are scaled
    return made


def latents(n, d=6):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(1))


def images(n, side, channels=1):
    return torch.randn(n, channels, side, side, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("grown", [0, 0.3, 1, 1.75, 2, 2.5, 3])
def test_both_networks_are_the_plain_ones(grown):
    ours = network()
    plain = plain_networks(ours)
    made, scores = ours.generator(latents(8), grown), ours.discriminator(images(8, side_of(grown)), grown)
    assert made.shape == (8, 1, side_of(grown), side_of(grown))
    torch.testing.assert_close(made, plain.generator(latents(8), grown), atol=1e-4, rtol=1e-4)
    plain_scores = plain.discriminator(images(8, side_of(grown)), grown)
    torch.testing.assert_close(scores, plain_scores, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("whole", [0, 1, 2])
def test_a_new_block_starts_as_nothing_new(whole):
    ours, barely = network(), whole + 1e-6
    made = ours.generator(latents(4), barely)
    torch.testing.assert_close(made, enlarged(ours.generator(latents(4), whole)), atol=1e-4, rtol=0)
    seen = images(4, side_of(barely))
    scores = ours.discriminator(seen, barely)
    torch.testing.assert_close(scores, ours.discriminator(halved(seen), whole), atol=1e-4, rtol=0)


def test_a_faded_in_block_is_the_whole_block():
    ours = network()
    torch.testing.assert_close(ours.generator(latents(2), 2 - 1e-6), ours.generator(latents(2), 2), atol=1e-4, rtol=0)


def test_nothing_said_is_fully_grown_and_colour_is_as_easy_as_grey():
    colour = network(channels=3)
    made = colour.generator(latents(2))
    assert made.shape == (2, 3, 32, 32)
    torch.testing.assert_close(colour.discriminator(made), colour.discriminator(made, 3.0))


@pytest.mark.parametrize("layer", [Dense(300, 64), Conv(64, 64, 3), UpConv(64, 64, 3), DownConv(64, 64, 3)])
def test_fresh_weights_are_of_deviation_one_and_keep_the_size_of_signals(layer):
    torch.manual_seed(0)
    torch.nn.init.normal_(layer.weight)
    assert float(layer.weight.detach().std()) == pytest.approx(1, abs=0.05)
    x = torch.randn(64, layer.weight.shape[1], *([] if isinstance(layer, Dense) else [8, 8]))
    size = float(F.leaky_relu(layer(x), 0.2).detach().square().mean().sqrt())
    # what is averaged over 2 x 2 pixels shrinks, and copies of one pixel add up: both a little
    assert 0.4 < size < 2


def test_the_scale_is_on_the_weights_alone():
    layer = Conv(16, 4, 3)
    before = layer(images(2, 8, 16))
    layer.bias.data += 1
    torch.testing.assert_close(layer(images(2, 8, 16)), before + 1)


def test_pixels_have_length_one_after_the_rectifier():
    y = rectified(images(2, 4, 8) * 7)
    torch.testing.assert_close(y.square().mean(1).sqrt(), torch.ones(2, 4, 4))


def test_the_gradient_of_the_rectifier_and_norm():
    x = torch.randn(1, 5, 2, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(rectified, x)


def test_latents_count_by_their_direction():
    ours = network()
    torch.testing.assert_close(ours.generator(latents(3)), ours.generator(5 * latents(3)), atol=1e-4, rtol=1e-4)


def test_a_group_of_images_knows_how_alike_it_is_and_nothing_of_other_groups():
    features = torch.randn(8, 3, 4, 4)
    features[4:] = features[4]
    found = spread(features)
    assert found[:4].unique().numel() == 1
    assert float(found[0]) > 0.5
    torch.testing.assert_close(found[4:], torch.full((4, 1), 1e-4))
    torch.testing.assert_close(spread(features[:4]), found[:4])


def test_the_critic_scores_one_by_one():
    ours, seen = network(), images(5, 32)
    ours.discriminator.usual_spread.fill_(0.7)
    torch.testing.assert_close(ours.critic(seen)[3:4], ours.critic(seen[3:4]), atol=1e-5, rtol=1e-5)


def test_what_is_shipped_fits_into_10_mb():
    ours = build(
        "growing-gan", {"latents": PRESETS["small"].latents, "widths": widths_of(PRESETS["small"].resolutions)}
    )
    assert 2 * sum(value.numel() for value in ours.state_dict().values()) < 10e6
