"""The recipes `autoencoder` and `text-diffusion`, small and quick: what they write loads, and they resume."""

import random

import pytest
import torch

from counterscan.data.archive import write_phantoms
from counterscan.data.batches import open_images
from counterscan.data.manifest import read_manifest
from counterscan.errors import CounterscanError, ManifestError
from counterscan.priors.autoencoder import load_autoencoder
from counterscan.priors.text import load_text_prior, told
from counterscan.registry import RECIPES
from counterscan.train import wording
from counterscan.train.parts import parts
from counterscan.train.recipes.autoencoder import divergence, edges
from counterscan.train.recipes.text_diffusion import (
    LEVELS,
    SCHEDULE,
    SHOWING,
    Captions,
    TextDiffusionTask,
    drawn_levels,
    showing,
    weight,
)
from counterscan.train.starting import first_network
from counterscan.weights.store import WEIGHTS, load_card

SMALL = {"size": 32, "widths": (16,), "depth": 1, "latents": 3, "batch": 4, "name": "chest/tiny"}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    return write_phantoms("chest", 24, tmp_path_factory.mktemp("chest"), size=64)


@pytest.fixture(scope="module")
def autoencoder(films, tmp_path_factory):
    out = tmp_path_factory.mktemp("autoencoder")
    return RECIPES["autoencoder"](**SMALL, steps=3).train(read_manifest(films), out, say=lambda _: None)


def test_an_autoencoder_is_written_with_its_statistics(autoencoder, films):
    codec = load_autoencoder(autoencoder)
    assert codec.card.shape == (1, 32, 32)
    assert set(codec.card.metrics) == {"test_l1", "test_edges", "test_psnr", "test_ssim"}
    images = torch.rand(2, 1, 32, 32) * 2 - 1
    assert codec.encode(images).shape == (2, 3, 8, 8)
    assert list(autoencoder.glob("previews/*.png"))


def test_an_autoencoder_learns_and_a_discriminator_joins_in(films, tmp_path):
    lines = []
    recipe = RECIPES["autoencoder"](**SMALL, steps=24)
    recipe.train(read_manifest(films), tmp_path, say=lines.append)
    first, last = lines[0], lines[-1]
    assert "discriminator" not in first
    assert "discriminator" in last
    assert float(last.split("l1 ")[1].split()[0]) < float(first.split("l1 ")[1].split()[0])


def test_losses_are_what_they_say():
    error = torch.zeros(1, 1, 4, 4)
    error[..., 2:] = 1  # one step across: 4 of 12 differences
    assert float(edges(error)) == pytest.approx(1 / 3)
    assert float(divergence(torch.zeros(1, 2), torch.zeros(1, 2))) == 0
    assert float(divergence(torch.ones(1, 2), torch.zeros(1, 2))) == pytest.approx(0.5)


@pytest.fixture(scope="module", autouse=True)
def _briefly():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wording, "STEPS", 3)
        yield


@pytest.fixture(scope="module")
def trained(films, autoencoder, tmp_path_factory):
    recipe = RECIPES["text-diffusion"](str(autoencoder), widths=(32, 32), steps=2, batch=4, name="chest/tiny")
    return recipe.train(read_manifest(films), tmp_path_factory.mktemp("text"), say=lambda _: None, command="as tested")


def test_most_images_of_a_step_show_a_finding_each_as_often_as_any_other(films, trained):
    manifest = read_manifest(films)
    images = open_images(manifest, (1, 32, 32))
    found = showing(images)
    assert len(found) == int((images.labels == 1).any(0).sum())
    assert all((images.labels[numbers] == 1).any(1).all() for numbers in found)
    prior = load_text_prior(trained)
    network = first_network(prior.card, 0)
    task = TextDiffusionTask(network, {"train": images}, prior.card, Captions(manifest), batch=400)
    chosen = task._chosen()
    assert len(chosen) == 400
    assert (images.labels[chosen[: round(SHOWING * 400)]] == 1).any(1).all()
    rare = min(found, key=len)
    assert sum(int(one) in rare.tolist() for one in chosen) > 0.8 * SHOWING * 400 / len(found)
    assert set(chosen.tolist()) > set(chosen[: round(SHOWING * 400)].tolist())


def test_a_text_diffusion_loads_with_the_autoencoder_that_it_shares(trained, autoencoder):
    prior, card = load_text_prior(trained), load_card(trained)
    assert card.parts["autoencoder"][0] == str(autoencoder)
    assert set(card.metrics) == {*(f"test_error_at_{level:g}" for level in LEVELS), "test_untold_at_2"}
    images = torch.rand(1, 1, 32, 32) * 2 - 1
    assert torch.equal(prior.codec.encode(images), load_autoencoder(autoencoder).encode(images))
    answer = told(prior, ["Small left pleural effusion."])(torch.randn(1, 3, 8, 8), torch.tensor([1.0]))
    assert answer.isfinite().all()
    assert not prior.text.unknown("There is a large right nodule in the lower zone.")
    assert prior.text.unknown("zygoma")
    assert (trained / WEIGHTS).stat().st_size < 1_000_000


def test_it_resumes_to_the_same_weights(films, autoencoder, trained, tmp_path):
    recipe = RECIPES["text-diffusion"](str(autoencoder), widths=(32, 32), steps=2, batch=4, name="chest/tiny")

    def stop(line):
        if "step 1/2" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recipe.train(read_manifest(films), tmp_path, say=stop)
    resumed = recipe.train(read_manifest(films), tmp_path, resume=True, say=lambda _: None)
    first, second = (load_text_prior(folder).module.state_dict() for folder in (trained, resumed))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, atol=1e-6, rtol=0)


def test_without_an_autoencoder_there_are_no_latents(films, tmp_path):
    with pytest.raises(CounterscanError, match="counterscan train autoencoder"):
        RECIPES["text-diffusion"]().train(read_manifest(films), tmp_path)


def test_captions_are_the_grammar_or_a_column(films):
    manifest = parts(read_manifest(films))["train"]
    case = next(case for case in manifest.cases if case.labels["effusion"] == 1)
    said = {Captions(manifest)(case, random.Random(seed)) for seed in range(20)}
    assert len(said) > 5
    assert all("effusion" in text.lower() for text in said)
    written = Captions(manifest, "report")
    assert written(case, random.Random(0)) == case.facts["report"]
    assert "effusion" in written.vocabulary
    with pytest.raises(ManifestError, match="no captions in a column 'reports'"):
        Captions(manifest, "reports")


def test_levels_are_those_of_the_schedule_and_weights_are_min_snr():
    levels = drawn_levels(64)
    assert levels.min() >= SCHEDULE.sigmas[0].float()
    assert levels.max() <= SCHEDULE.sigmas[-1].float()
    assert levels.log().sort().values.equal(levels.log())
    torch.testing.assert_close(weight(torch.tensor([0.1, 0.5, 4.0])), torch.tensor([5.0, 4.0, 1.0]))
