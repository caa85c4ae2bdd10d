"""Disease placed by a sentence, from the prompt to the table: what is asked, what is measured, what is refused."""

import csv

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from counterscan.cli import app
from counterscan.core import Card
from counterscan.data.archive import write_phantoms
from counterscan.errors import CounterscanError
from counterscan.induction import agreement, prepare_induction
from counterscan.metrics.placement import Placement
from counterscan.nets import build
from counterscan.prompts import Mention, vocabulary
from counterscan.weights.store import save_weights

CLASSES = ("consolidation", "effusion", "nodule", "pneumothorax", "cardiomegaly")
SMALL = {"channels": 1, "latents": 3, "widths": [16], "depth": 1, "centre": [0.0] * 3, "scale": [1.0] * 3}


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    """A prior that knows nothing: whatever it is told it draws something."""
    settings = {"autoencoder": SMALL, "vocabulary": list(vocabulary(CLASSES)), "widths": [32, 32], "tokens": 32}
    known = {"kind": "denoiser", "shape": (1, 64, 64), "classes": CLASSES, "network": "text-denoiser"}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build("text-denoiser", settings)
        for parameter in network.parameters():
            nn.init.normal_(parameter, 0, 0.1)
    return str(save_weights(tmp_path_factory.mktemp("prior"), network, Card(name="tiny", settings=settings, **known)))


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    return write_phantoms("chest", 2, tmp_path_factory.mktemp("films"), size=64)


def test_the_command_draws_measures_and_says_so(prior, films, tmp_path):
    words = ["induce", str(films), "--prompt", "tiny left pleural efusion", "--prior", prior]
    words += ["--out", str(tmp_path / "out")]
    asked = CliRunner().invoke(app, [*words, "--classifier", "chest/classifier", "--set", "draws=1"])
    assert asked.exit_code == 1
    assert "names none of" in asked.output
    assert "did you mean 'effusion'?" in asked.output
    words[3] = "smal left pleural effusion"
    told = CliRunner().invoke(app, [*words, "--classifier", "chest/classifier", "--set", "draws=1"])
    assert told.exit_code == 0, told.output
    assert "'smal' is not known and says nothing; did you mean 'small'?" in told.output
    assert "asked for: Left pleural effusion." in told.output
    rows = list(csv.DictReader((tmp_path / "out" / "placement.csv").open()))
    assert len(rows) == 2
    assert set(rows[0]) >= {"case", "found", "side", "zone", "area", "agrees"}
    assert f"{sum(int(row['agrees']) for row in rows)} of 2 lie where the prompt says" in told.output
    assert (tmp_path / "out" / "index.html").exists()


def test_a_scan_that_shows_it_already_keeps_its_picture_and_is_not_measured(prior, films, tmp_path):
    words = ["induce", str(films), "--prompt", "no pleural effusion", "--prior", prior, "--out", str(tmp_path / "out")]
    told = CliRunner().invoke(app, [*words, "--classifier", "chest/classifier", "--set", "draws=1"])
    assert told.exit_code == 0, told.output
    rows = list(csv.DictReader((tmp_path / "out" / "placement.csv").open()))
    already = [row for row in rows if row["already"] == "1"]
    assert already, "a phantom of the two has no effusion"
    assert all(set(row.values()) == {row["case"], "1", ""} for row in already)
    assert f"of {len(rows) - len(already)} lie where the prompt says" in told.output
    assert "there already and keep" in told.output


def test_what_is_asked_is_what_the_prompt_says(prior, films, tmp_path):
    words = {"prior": prior, "classifier": "chest/classifier", "out": tmp_path}
    induction = prepare_induction([films], "Large nodule in the RUL, no effusion", **words)
    card = induction.job.classifier.card
    assert induction.job.target.describe(card) == "nodule=1,effusion=0"
    assert induction.asked == "Large nodule in the right upper zone. No pleural effusion."
    assert induction.job.explainer.prompt == induction.asked
    with pytest.raises(CounterscanError, match="names none of consolidation"):
        prepare_induction([films], "a fractured rib", **words)


def test_agreement_asks_for_what_is_said_to_be_there():
    placed = Placement("left", "lower", 0.9, 0.7, 0.05, 0.01)
    assert agreement(placed, [Mention("effusion", side="left"), Mention("nodule", False)])
    assert not agreement(placed, [Mention("effusion", side="right")])
    assert not agreement(Placement("", "", 0.5, 0.5, 0.0, 0.0), [Mention("effusion")])
