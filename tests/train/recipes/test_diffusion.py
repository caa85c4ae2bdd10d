"""The recipe `diffusion`, small and quick: it learns, resumes to the same weights, and what it writes is sampled."""

import json

import pytest
import torch

from counterscan.core import Card
from counterscan.data.archive import write_phantoms
from counterscan.data.manifest import read_manifest
from counterscan.nets import build
from counterscan.priors.denoiser import load_denoiser
from counterscan.priors.sampling import Noise, dpm_solver
from counterscan.priors.schedules import karras
from counterscan.registry import RECIPES
from counterscan.train.denoising import LEVELS, MIDDLE, WIDTH, DiffusionTask, drawn_levels
from counterscan.weights.store import load_card


@pytest.fixture(scope="module")
def trained(eyes, tmp_path_factory):
    recipe = RECIPES["diffusion"](size=32, steps=2, batch=4, name="fundus/tiny", flip=True)
    out = tmp_path_factory.mktemp("denoiser")
    return recipe.train(read_manifest(eyes), out, say=lambda _: None, command="as tested")


def test_what_it_writes_loads_and_can_be_sampled(trained):
    denoiser = load_denoiser(trained)
    card = denoiser.card
    assert (card.name, card.kind, card.shape, card.command) == ("fundus/tiny", "denoiser", (3, 32, 32), "as tested")
    assert 0.3 < card.settings["spread"] < 1
    assert set(card.metrics) == {f"test_error_at_{level:g}" for level in LEVELS}
    levels = karras(4)
    images = dpm_solver(denoiser, levels[0] * Noise([1, 2])(torch.zeros(2, 3, 32, 32)), levels)
    assert images.shape == (2, 3, 32, 32)
    assert images.isfinite().all()
    assert list(trained.glob("previews/*.png"))
    log = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert all(row["score"] < 1 and row["error_at_0.05"] < row["error_at_5"] for row in log)


def test_grey_images_have_one_channel(tmp_path):
    eyes = write_phantoms("oct", 20, tmp_path / "oct", size=64)
    recipe = RECIPES["diffusion"](size=32, steps=1, batch=2)
    assert load_card(recipe.train(read_manifest(eyes), tmp_path / "out", say=lambda _: None)).shape == (1, 32, 32)


def test_it_resumes_to_the_same_weights(eyes, trained, tmp_path):
    recipe = RECIPES["diffusion"](size=32, steps=2, batch=4, name="fundus/tiny", flip=True)

    def stop(line):
        if "step 1/2" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recipe.train(read_manifest(eyes), tmp_path, say=stop)
    resumed = recipe.train(read_manifest(eyes), tmp_path, resume=True, say=lambda _: None)
    first, second = (load_denoiser(folder).module.state_dict() for folder in (trained, resumed))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, atol=1e-6, rtol=0)


class Plain:
    """Images of one grey value each, as a store of images holds them."""

    def __init__(self, count=8, left=0.5, right=0.5):
        self.images = torch.full((count, 1, 16, 16), float(left))
        self.images[..., 8:] = right

    def __len__(self):
        return len(self.images)

    def batch(self, chosen):
        return self.images[chosen]


def task(flip=False, **grey):
    torch.manual_seed(0)
    settings = {"channels": 1, "spread": 0.5, "widths": [16, 16], "conditions": 16}
    card = Card(name="plain", kind="denoiser", shape=(1, 16, 16), classes=(), network="denoiser", settings=settings)
    images = {part: Plain(**grey) for part in ("train", "validation")}
    return DiffusionTask(build("denoiser", settings), images, card, batch=8, rate=5e-3, flip=flip)


def test_it_learns_what_images_look_like():
    learning = task()
    before = learning.validate(learning.network.eval())
    for step in range(25):
        torch.manual_seed(step)
        learning.step(step)
    after = learning.validate(learning.network.eval())
    assert after["score"] > before["score"] + 0.3
    assert after["error_at_1"] < 0.5 * before["error_at_1"]
    assert learning.validate(learning.network.eval()) == after, "the same noises each time"


def test_a_network_that_knows_nothing_has_the_error_one():
    ignorant = task()
    assert ignorant.validate(ignorant.network.eval())["score"] == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("flip", [False, True])
def test_images_are_mirrored_only_if_asked(flip):
    learning, seen = task(flip, left=-0.5), []
    learning.told = lambda network, card, clean: lambda noisy, sigma: seen.append(noisy) or network(noisy, sigma)
    for step in range(3):
        torch.manual_seed(step)
        learning.step(step)
    left = torch.cat([noisy[:, :, :, :8].mean((1, 2, 3)) - noisy[:, :, :, 8:].mean((1, 2, 3)) for noisy in seen])
    assert bool((left > 0.5).sum() > 4) is flip


def test_the_levels_are_drawn_as_stated():
    torch.manual_seed(0)
    drawn = torch.stack([drawn_levels(16).log() for _ in range(200)])
    assert drawn.mean().item() == pytest.approx(MIDDLE, abs=0.02)
    assert drawn.std().item() == pytest.approx(WIDTH, abs=0.03)
    assert (drawn.diff(dim=1) > 0).all(), "one from each part"
