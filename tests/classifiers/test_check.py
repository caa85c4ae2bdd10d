import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from counterscan import cli
from counterscan.classifiers import check as door
from counterscan.classifiers.check import check_classifier
from counterscan.classifiers.function import FunctionClassifier
from counterscan.classifiers.service import Service
from counterscan.classifiers.torch import TorchClassifier
from counterscan.core import Card
from counterscan.data.manifest import find_cases


def card(**words) -> Card:
    return Card(**{"name": "toy", "shape": (1, 16, 16), "classes": ("a", "b")} | words)


def network(*last: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    body = (nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*body, nn.Linear(4, 2), *last)


class Scaled(nn.Module):
    def forward(self, scores):
        return scores * 30


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(door, "TIMED", 0.0)


def test_a_sound_network_has_nothing_to_mend():
    summary = check_classifier(TorchClassifier(network(Scaled()), card(window=(-160, 240, "HU"), temperature=(2.0,))))
    assert summary.ok, summary
    text = str(summary)
    for words in (
        "16 x 16, 1 channel (grey), in [-1, 1], where -1 is -160 and 1 is 240 HU",
        "multilabel, logits",
        "8 random images",
        "  a  ",
        "a second call answers exactly as the first",
        "values outside [-1, 1] are answered",
        "2 14x14 (default)",
        "images/s in batches of 8",
        "temperature  2",
        "nothing to mend",
    ):
        assert words in text, words


class Moody(nn.Module):
    def forward(self, scores):
        return scores * 30 + torch.randn_like(scores)


class OfTheBatch(nn.Module):
    def forward(self, scores):
        return scores * 30 - scores.mean(0) * 30


class Deaf(nn.Module):
    def forward(self, scores):
        return (scores * 30).detach() + scores * 0


FAULTS = {
    "constant": (lambda pixels: np.zeros((len(pixels), 2)), {}, r"the same answer for every image \(a, b\)"),
    "one class": (lambda p: np.stack([p.mean((1, 2, 3)), p[:, 0, 0, 0] * 0], 1), {}, r"for every image \(b\)"),
    "NaN": (lambda pixels: np.full((len(pixels), 2), np.nan), {}, "answered NaN or infinity"),
    "raises": (lambda pixels: pixels.nothing, {}, "failed on images"),
    "columns": (lambda pixels: np.zeros((len(pixels), 5)), {}, "where its card promises"),
    "sigmoid": (network(Scaled(), nn.Sigmoid()), {}, "looks like probabilities, .* say scale='probabilities'"),
    "softmax": (network(Scaled(), nn.Softmax(1)), {"output": "softmax"}, "looks like probabilities"),
    "logits": (network(Scaled()), {"scale": "probabilities"}, "not probabilities; say scale='logits'"),
    "random": (network(Moody()), {}, "two calls differ by .* log-odds: turn off dropout"),
    "batch": (network(OfTheBatch()), {}, "is answered otherwise in a batch"),
    "no gradient": (network(Deaf()), {}, "its gradients are nothing"),
}


@pytest.mark.parametrize(("thing", "words", "line"), FAULTS.values(), ids=FAULTS)
def test_what_looks_wrong_is_named_with_its_cure(thing, words, line):
    adapter = TorchClassifier if isinstance(thing, nn.Module) else FunctionClassifier
    summary = check_classifier(adapter(thing, card(**words)))
    assert not summary.ok
    assert any(__import__("re").search(line, fault) for fault in summary.faults), summary
    assert "to mend:" in str(summary)
    assert "\n\n  " not in str(summary)


@pytest.mark.parametrize(("output", "last"), [("softmax", Scaled()), ("multilabel", Scaled()), ("softmax", None)])
def test_logits_are_not_taken_for_probabilities(output, last):
    module = network(*([last] if last else []))
    assert check_classifier(TorchClassifier(module, card(output=output))).ok


def test_phantoms_are_asked_where_the_name_fits():
    def ask(pixels):
        return np.stack([pixels.mean((1, 2, 3)), pixels.std((1, 2, 3))], 1) * 9

    summary = check_classifier(FunctionClassifier(ask, card(name="chest/mine", shape=(3, 64, 64))))
    assert summary.facts["asked"] == "8 chest phantoms"
    assert summary.facts["gradients"].startswith("none (a black box)")
    assert summary.ok, summary


def test_pixels_that_leave_the_machine_unencrypted_are_said():
    note = door._promised(FunctionClassifier(Service("http://far.org/ask"), card()))["note"]
    assert "unencrypted" in note
    assert "note" not in door._promised(FunctionClassifier(Service("http://localhost/ask"), card()))


MODEL = """
import numpy as np
from counterscan.core import Card

def bright(images):
    return images.mean((1, 2, 3)) * 20

def broken(images):
    return np.zeros(len(images))
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "checked_model", raising=False)
    (tmp_path / "checked_model.py").write_text(MODEL)
    (tmp_path / "card.json").write_text(card(classes=("bright",)).model_dump_json())
    (tmp_path / "in").mkdir()
    for number in range(11):
        pixels = np.random.default_rng(number).integers(0, 20 * number + 9, (20, 20)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{number}.png")
    return tmp_path


def counterscan(*words: str):
    return CliRunner().invoke(cli.app, ["classifier", "check", *words])


def test_the_command_prints_it_and_leaves_with_0_3_or_1(place):
    good = counterscan("checked_model:bright", "--card", "card.json", "--data", "in")
    assert good.exit_code == 0, good.output
    assert f"8 images of {place / 'in'}" in good.stdout
    assert good.stdout.endswith("nothing to mend\n")
    bad = counterscan("checked_model:broken", "--card", "card.json")
    assert bad.exit_code == 3
    assert "the same answer for every image" in bad.stdout
    wrong = counterscan("checked_model:brihgt", "--card", "card.json")
    assert wrong.exit_code == 1
    assert "did you mean 'bright'?" in wrong.stderr
    nowhere = counterscan("checked_model:bright", "--card", "card.json", "--data", "nowhere")
    assert nowhere.exit_code == 1
    assert len(nowhere.stderr.splitlines()) == 1


def test_images_of_a_manifest_are_spread_over_it(place):
    asked, _ = door._images(card(), find_cases(place / "in"))
    assert asked.shape == (8, 1, 16, 16)
