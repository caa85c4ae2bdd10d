"""There and back through both codes: exact where everything is known, near where little was learned, and refused."""

import json
from itertools import pairwise

import pytest
import torch
from torch import nn

from counterscan.core import Card
from counterscan.errors import CounterscanError, WeightsError
from counterscan.nets import build
from counterscan.priors.codec import HIGHEST, LOWEST, NETWORK, DiffusionCodec, load_codec
from counterscan.priors.sampling import Noise, ddim, invert
from counterscan.priors.schedules import linear
from counterscan.train.denoising import DiffusionTask
from counterscan.train.recipes.diffusion_autoencoder import told_the_image
from counterscan.weights.store import save_weights

SPREAD = torch.logspace(-2, 0, 256).view(1, 1, 16, 16)  # of each pixel
STATISTICS = {"centre": [0.0] * 6, "scale": [1.0] * 6}
SMALL = {"channels": 1, "spread": 0.5, "latents": 6, "places": 4, "widths": [32, 32], "seeing": [16, 16]}


class Known(nn.Module):
    """Images whose pixels are normal about one mean, which is their row: encoder and denoiser are exact."""

    def encode(self, images):
        return images.mean((1, 2, 3))[:, None]

    def forward(self, noisy, sigma, rows):
        noise, mean = sigma.view(-1, 1, 1, 1).square(), rows.view(-1, 1, 1, 1)
        return (noise * mean + SPREAD.square() * noisy) / (noise + SPREAD.square())


def card(channels=1, side=16, **words):
    words = {"kind": "codec", "network": NETWORK, "settings": {**SMALL, "channels": channels, **STATISTICS}, **words}
    return Card(name="toy", shape=(channels, side, side), classes=(), **words)


def known(steps=20):
    return DiffusionCodec(Known(), card(), steps)


@pytest.fixture
def images():
    return 0.3 + SPREAD * 0.3 * Noise(range(4))(torch.zeros(4, 1, 16, 16))


def test_there_and_back_is_the_identity_the_more_steps_the_better(images):
    errors = [(known(steps).round_trip(images) - images).abs().mean().item() for steps in (5, 10, 20, 40, 80)]
    assert all(later < 0.75 * earlier for earlier, later in pairwise(errors)), errors
    assert errors[2] < 2e-3, errors
    assert errors[4] < 1e-4, errors


def test_it_is_nearer_than_what_was_published_in_a_fifth_of_the_evaluations():
    """Mean errors on pixels that are normal with deviation 0.5, there / back with DDIM on a linear schedule."""

    def half(noisy, sigma):
        return noisy * (0.25 / (0.25 + sigma.view(-1, 1, 1, 1).square()))

    class Half(Known):
        def forward(self, noisy, sigma, rows):
            return half(noisy, sigma)

    images = 0.5 * Noise(range(8))(torch.zeros(8, 1, 16, 16)).clamp(-2, 2)
    published = {}
    for there, back in ((250, 100), (100, 100), (50, 50)):
        above, below = linear().levels(there), linear().levels(back)
        returned = ddim(half, invert(half, images, above) * below[0] / above[0], below)
        published[there, back] = (returned - images).abs().mean().item()
    assert published == pytest.approx({(250, 100): 0.015, (100, 100): 0.022, (50, 50): 0.042}, rel=0.1)
    codec = DiffusionCodec(Half(), card())
    assert 2 * codec.evaluations <= 350 / 5
    assert (codec.round_trip(images) - images).abs().mean() < published[250, 100] / 3


def test_the_noise_is_where_the_flow_leads_and_an_image_of_another_row_is_at_the_same_place(images):
    codec = known(200)
    rows = codec.encode(images)
    noise, mean = codec.invert(images, rows), rows.view(-1, 1, 1, 1)
    widened = ((SPREAD.square() + HIGHEST**2) / (SPREAD.square() + LOWEST**2)).sqrt()
    torch.testing.assert_close(noise, (mean + (images - mean) * widened) / HIGHEST, atol=2e-3, rtol=2e-3)
    # what moves is the mean, less what the noise at the highest level held of it
    moved = codec.decode(rows - 0.4, noise) - codec.decode(rows, noise)
    torch.testing.assert_close(moved, (-0.4 * (1 - 1 / widened)).expand_as(moved), atol=5e-3, rtol=0)


def test_a_denoiser_that_knows_the_image_leads_back_in_any_number_of_steps(images):
    class Told(Known):
        def forward(self, noisy, sigma, rows):
            return images

    for steps in (1, 2, 3, 7):
        codec = DiffusionCodec(Told(), card(), steps)
        torch.testing.assert_close(codec.round_trip(images), images, atol=1e-2 + LOWEST, rtol=0)


def test_it_asks_as_often_as_it_says(images):
    asked = []

    class Counted(Known):
        def forward(self, noisy, sigma, rows):
            asked.append(sigma)
            return super().forward(noisy, sigma, rows)

    codec = DiffusionCodec(Counted(), card(), 7)
    codec.round_trip(images)
    assert len(asked) == 2 * codec.evaluations == 14
    assert all((sigma >= LOWEST * 0.999).all() for sigma in asked)


def test_without_noise_all_get_the_same():
    decoded = known().decode(torch.tensor([[0.2], [0.2], [-0.2]]))
    assert torch.equal(decoded[0], decoded[1])
    assert (decoded[0] - decoded[2]).mean() == pytest.approx(0.4, abs=0.05)


def test_images_stay_in_range_and_no_gradient_is_kept(images):
    codec = known(4)
    rows = codec.encode(images.requires_grad_())
    noise = codec.invert(images, rows)
    decoded = codec.decode(rows + 3, noise)
    assert decoded.abs().max() == 1
    assert not any(x.requires_grad for x in (rows, noise, decoded))


@pytest.mark.parametrize("ask", ["encode", "invert", "decode"])
def test_images_of_another_shape_are_refused(ask, images):
    codec, rows, wrong = known(), torch.zeros(4, 1), images[..., :8]
    calls = {"encode": (wrong,), "invert": (wrong, rows), "decode": (rows, wrong)}
    with pytest.raises(CounterscanError, match=r"takes images of shape \(1, 16, 16\), these are \(1, 16, 8\)"):
        getattr(codec, ask)(*calls[ask])


def test_no_steps_are_refused():
    with pytest.raises(CounterscanError, match="0 steps of toy cannot be"):
        known(0)


def squares(count):
    """Dim images with a bright square left (even) or right (odd), and noise that the code need not tell."""
    images = -0.6 + 0.1 * torch.randn(count, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    images[::2, :, 4:12, 1:7] += 1.2
    images[1::2, :, 4:12, 9:15] += 1.2
    return images.clamp(-1, 1)


class Held:
    """Images as a store of images holds them."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def batch(self, chosen):
        return self.images[chosen]


@pytest.fixture(scope="module")
def learned():
    torch.manual_seed(0)
    told = card()
    network = build(NETWORK, told.settings)
    task = DiffusionTask(network, {"train": Held(squares(512))}, told, 16, 4e-3, told=told_the_image)
    for step in range(80):
        torch.manual_seed(step)
        task.step(step)
    return DiffusionCodec(network.eval(), told)


def test_a_little_learned_one_returns_the_image(learned):
    images = squares(8)
    rows = learned.encode(images)
    errors = (learned.round_trip(images) - images).square().mean((1, 2, 3)).sqrt()
    assert errors.max() < 0.05, errors
    assert (learned.decode(rows, learned.invert(images, rows.roll(1, 0))) - images).square().mean() > errors.max() ** 2


def test_an_image_follows_the_row_and_not_the_noise(learned):
    """With its own noise and another's row the square is where the other's is."""
    images = squares(8)
    rows = learned.encode(images)
    swapped = learned.decode(rows.roll(1, 0), learned.invert(images, rows))
    to_the_left = swapped[:, :, 4:12, 1:7].mean((1, 2, 3)) - swapped[:, :, 4:12, 9:15].mean((1, 2, 3))
    assert (to_the_left[::2] < -0.5).all()
    assert (to_the_left[1::2] > 0.5).all()


def test_an_image_is_the_same_alone_and_among_others(learned):
    images = squares(20)
    together, alone = (learned.encode(images)[17:18], learned.encode(images[17:18]))
    torch.testing.assert_close(together, alone, atol=0.02, rtol=0.02)
    noise = learned.invert(images, learned.encode(images))
    torch.testing.assert_close(noise[17:18], learned.invert(images[17:18], alone), atol=0.05, rtol=0.05)
    torch.testing.assert_close(learned.round_trip(images)[17:18], learned.round_trip(images[17:18]), atol=0.03, rtol=0)


def written(folder, **words):
    told = card(side=32, **words)
    return save_weights(folder, build(NETWORK, {**SMALL, **STATISTICS}), told)


def test_it_loads_with_statistics_as_exact_as_they_were_measured(tmp_path):
    exact = {"centre": [1 / 3, 1e-7, -2.5, 1e4, 0.1, 0.0], "scale": [1 / 7, 1e-5, 3.0, 1.0, 1e3, 2.0]}
    codec = load_codec(written(tmp_path, settings={**SMALL, **exact}), steps=3)
    assert codec.network.module.centre.dtype == torch.float32
    assert codec.network.module.centre.flatten().tolist() == torch.tensor(exact["centre"]).tolist()
    assert codec.network.module.scale.flatten().tolist() == torch.tensor(exact["scale"]).tolist()
    assert codec.round_trip(torch.zeros(2, 1, 32, 32)).isfinite().all()


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({}, "lacks the setting 'centre'"),
        ({"centre": [0.0] * 6}, "lacks the setting 'scale'"),
        ({"centre": [0.0] * 6, "scale": [1.0] * 7}, "scale holds 7 numbers; 6"),
        ({"centre": [0.0] * 6, "scale": [-1.0] * 6}, "not positive"),
    ],
)
def test_a_card_without_statistics_is_refused_in_one_line(tmp_path, settings, match):
    folder = written(tmp_path, settings={**SMALL, **settings})
    with pytest.raises(WeightsError, match=match) as error:
        load_codec(folder)
    assert "\n" not in str(error.value)


def test_other_priors_and_broken_weights_are_refused_in_one_line(tmp_path):
    settings = {"channels": 1, "widths": [16, 16]}
    of_another_kind = Card(
        name="d", kind="denoiser", shape=(1, 32, 32), classes=(), network="denoiser", settings=settings
    )
    folder = save_weights(tmp_path / "denoiser", build("denoiser", settings), of_another_kind)
    with pytest.raises(WeightsError, match="is of kind denoiser; codec is needed"):
        load_codec(folder)
    told = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**told, "kind": "codec"}))
    with pytest.raises(WeightsError, match="the network 'denoiser'; 'diffusion-autoencoder' is needed"):
        load_codec(folder)
    broken = build(NETWORK, {**SMALL, **STATISTICS})
    nn.init.constant_(broken.encoder.head.bias, float("nan"))
    with pytest.raises(WeightsError, match="not finite"):
        load_codec(save_weights(tmp_path / "broken", broken, card(side=32)))
