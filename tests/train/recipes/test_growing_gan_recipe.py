"""The recipe `growing-gan`, small and quick: it grows, resumes in mid-fade to the same bits, stops on a collapse."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from counterscan.data.archive import write_phantoms
from counterscan.data.manifest import read_manifest
from counterscan.errors import CounterscanError, ManifestError
from counterscan.nets.growing_gan import GrowingGAN
from counterscan.priors.generator import load_generator
from counterscan.registry import RECIPES
from counterscan.train import growing
from counterscan.train.growing import Growth, Preset, Resolution
from counterscan.train.loop import fit
from counterscan.train.recipes import growing_gan
from counterscan.train.recipes.growing_gan import GrowingTask, diversity, loss_of

TINY = (Resolution(0, 16, 4, 8), Resolution(24, 12, 4, 8), Resolution(24, 16, 4, 4))


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    tiny = Preset(TINY, latents=6, loss="relativistic", rate=2e-3, average=0.9, falling=0.3)
    monkeypatch.setitem(growing.PRESETS, "small", tiny)
    monkeypatch.setattr(growing_gan, "SCORED", 32)
    monkeypatch.setattr(growing_gan, "TIMES", 8)
    monkeypatch.setattr(growing_gan, "ALIKE", 0.0)


@pytest.fixture(scope="module")
def chests(tmp_path_factory):
    return write_phantoms("chest", 30, tmp_path_factory.mktemp("chest"), size=64)


def train(manifest, out, say=lambda _: None, resume=False, **settings):
    recipe = RECIPES["growing-gan"](**{"size": 16, "name": "chest/tiny", **settings})
    return recipe.train(read_manifest(manifest), out, say=say, resume=resume, command="as tested")


def stop_at(part):
    def say(line):
        if part in line:
            raise KeyboardInterrupt

    return say


@pytest.mark.parametrize("loss", ["relativistic", "wgan-gp"])
def test_what_it_writes_loads_and_makes_images(chests, tmp_path, loss):
    generator = load_generator(train(chests, tmp_path, loss=loss))
    card = generator.card
    assert (card.name, card.kind, card.shape, card.command) == ("chest/tiny", "generator", (1, 16, 16), "as tested")
    images = generator(generator.draw(5, torch.Generator().manual_seed(0)))
    assert images.shape == (5, 1, 16, 16)
    low, high = generator.critic_quantile(0.05), generator.critic_quantile(0.95)
    assert low < high
    assert set(card.metrics) == {"test_patch_distance", "floor_patch_distance", "test_diversity", "test_images"}
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert (log[0]["grown"], log[-1]["grown"]) == (0, 2)
    previews = sorted((tmp_path / "previews").glob("*.png"))
    assert len(previews) == len(log)
    assert len({Image.open(path).size for path in previews}) == 1, "a film, whatever has grown"


def test_it_resumes_in_mid_fade_to_the_same_bits(chests, tmp_path):
    whole = train(chests, tmp_path / "whole")
    fading = next(
        f"step {int(row['step'])}/"
        for row in map(json.loads, (tmp_path / "whole/log.jsonl").read_text().splitlines())
        if 1.2 < row["grown"] < 1.8
    )
    with pytest.raises(KeyboardInterrupt):
        train(chests, tmp_path / "cut", say=stop_at(fading))
    resumed = train(chests, tmp_path / "cut", resume=True)
    assert (resumed / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    assert (tmp_path / "cut/log.jsonl").read_text() == (tmp_path / "whole/log.jsonl").read_text()


def made_task(chests, **changes):
    from counterscan.data.batches import open_images
    from counterscan.train.parts import parts

    images = {name: open_images(part, (1, 16, 16)) for name, part in parts(read_manifest(chests)).items()}
    torch.manual_seed(0)
    network = GrowingGAN(1, 6, (8, 8, 4))
    return GrowingTask(network, images, Growth(TINY), loss_of("relativistic", 1.0, 16), 2e-3, **changes)


def test_optimisers_forget_where_a_fade_begins_and_ends(chests):
    task = made_task(chests)
    kept = []
    for step in range(task.growth.steps):
        task.step(step)
        known = task.optimisers["discriminator"].state[task.discriminator.score.weight]
        kept.append(int(known["step"]))
    assert kept == [1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 1, 2, 3, 1, 2, 3, 4, 5, 6, 1, 2, 3, 4]


def test_the_average_holds_new_blocks_as_they_are(chests, tmp_path):
    task, seen = made_task(chests), []
    live = {name: value.clone() for name, value in task.generator.state_dict().items()}

    def validate(network):
        seen.append((task.grown, {name: value.clone() for name, value in network.state_dict().items()}))
        return {"score": 0.0}

    task.validate = validate
    task.preview = lambda network, path: None
    fit(task, tmp_path, steps=10, every=4, average=0.9, say=lambda _: None)
    (first, young), (second, older) = seen[:2]
    assert (first, second) == (0, pytest.approx(4 / 7))
    for name, value in live.items():
        assert torch.equal(young[name], value) == ("blocks" in name or "image.1" in name or "image.2" in name), name
        assert torch.equal(older[name], value) == ("blocks.1" in name or "image.2" in name), name


def test_a_collapsed_generator_stops_the_training(chests, monkeypatch):
    monkeypatch.setattr(growing_gan, "ALIKE", 0.2)
    task = made_task(chests, grown=2.0)
    torch.nn.init.zeros_(task.generator.dense.weight)  # all latents give one image
    with pytest.raises(CounterscanError, match=r"collapsed at 16 pixels: its images differ 0.00 times .* higher gamma"):
        task.validate(task.generator)
    task.grown = 0.5
    assert task.validate(task.generator)["diversity"] < 1e-3, "too young to be judged"


def test_diversity_is_one_for_other_images_of_the_kind():
    first, second = torch.randn(2, 40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert diversity(first, second) == pytest.approx(1, abs=0.05)
    assert diversity(0.5 * first, second) == pytest.approx(0.5, abs=0.05)


def with_an_odd_one(chests, folder, array):
    """A copy of the archive, in which the first image is another."""
    copy = folder / "chests"
    shutil.copytree(chests, copy)
    Image.fromarray(array).save(copy / "images" / "000000.png")
    return copy


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.zeros((32, 48), np.uint8),
            "images/000000.png is 48 x 32 pixels; growing-gan makes squares, .*stretched=true",
        ),
        (np.zeros((8, 8), np.uint8), "images/000000.png is 8 x 8 pixels, less than 16"),
        (np.arange(3072, dtype=np.uint8).reshape(32, 32, 3), "images/000000.png is in colour, but grey was promised"),
    ],
)
def test_images_that_it_cannot_learn_from_are_named(chests, tmp_path, array, message):
    with pytest.raises(ManifestError, match=message):
        train(with_an_odd_one(chests, tmp_path, array), tmp_path / "out", channels=1)


def test_stretched_images_are_taken_where_that_is_wanted(chests, tmp_path):
    wide = with_an_odd_one(chests, tmp_path, np.zeros((32, 48), np.uint8))
    assert load_generator(train(wide, tmp_path / "out", stretched=True))
