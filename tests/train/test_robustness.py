import math

import pytest
import torch
from torch import nn

from counterscan.classifiers.torch import TorchClassifier
from counterscan.core import Card
from counterscan.train import robustness as module
from counterscan.train.robustness import margin, robustness

SIDE = 4


class Linear(nn.Module):
    """Log-odds that are linear in the image, so that the distance to the other side is known."""

    def __init__(self, weights, bias):
        super().__init__()
        self.weights, self.bias = nn.Parameter(weights), nn.Parameter(bias)

    def forward(self, images):
        return images.flatten(1) @ self.weights + self.bias


def classifier(output="multilabel", classes=2):
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(SIDE * SIDE, classes, generator=generator)
    card = Card(name="linear", shape=(1, SIDE, SIDE), classes=tuple("abc"[:classes]), output=output)
    return TorchClassifier(Linear(weights, torch.zeros(classes)), card), weights


def images(n=40):
    return torch.randn(n, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 0.2


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "STEPS", 20)
    monkeypatch.setattr(module, "MINIMUM_NORM_STEPS", 30)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_linear_classifier_falls_exactly_where_its_distance_ends(norm):
    model, weights = classifier()
    x = images()
    log_odds = model(x)
    labels = (log_odds > 0).float()
    labels[:5] = 1 - labels[:5]
    dual = weights.norm(dim=0) if norm == "l2" else weights.abs().sum(0)
    distance = log_odds.abs() / dual
    radii = (float(distance.median()) * 0.5, float(distance.median()))
    found = robustness(model, x, labels, norm=norm, radii=radii)
    assert found["accuracy"]["value"] == pytest.approx(35 / 40)
    for radius in radii:
        stands = (distance[5:] > radius).float().sum() / 80
        assert found[f"accuracy_{norm}_{radius:g}"]["value"] == pytest.approx(float(stands), abs=0.04)
    assert "margin" in found["attack"]


def test_unknown_labels_are_not_asked_and_patients_widen_the_interval():
    model, _ = classifier()
    x, labels = images(), (model(images()) > 0).float()
    labels[:10, 0] = math.nan
    labels[20:30] = 1 - labels[20:30]
    found = robustness(model, x, labels, radii=(0.01,))
    assert found["accuracy"]["n"] == 70
    assert found["accuracy"]["value"] == pytest.approx(50 / 70, abs=1e-4)
    grouped = robustness(model, x, labels, [str(index // 10) for index in range(40)], radii=(0.01,))
    assert grouped["accuracy"]["high"] - grouped["accuracy"]["low"] > 0.3


def test_one_of_three_is_one_question():
    model, _ = classifier("softmax", 3)
    x = images()
    labels = nn.functional.one_hot(model(x).argmax(1), 3).float()
    found = robustness(model, x, labels, radii=(0.05, 5.0))
    assert found["accuracy"] == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 40}
    assert found["accuracy_l2_5"]["value"] == 0
    assert 0 < found["accuracy_l2_0.05"]["value"] <= 1
    first = margin(torch.tensor([[2.0, -1.0, 0.5]]), torch.tensor([[0.0, 0.0, 1.0]]), model.card, 0)
    torch.testing.assert_close(first, torch.tensor([-1.5]))


def test_it_replays_and_leaves_the_random_state_alone():
    model, _ = classifier()
    x = images(12)
    labels, state = (model(x) > 0).float(), torch.get_rng_state()
    found = [robustness(model, x, labels, radii=(0.05,), seed=3) for _ in range(2)]
    assert found[0] == found[1]
    assert torch.equal(torch.get_rng_state(), state)


def test_without_foolbox_it_says_so(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    model, _ = classifier()
    found = robustness(model, images(4), torch.ones(4, 2), radii=(0.1,))
    assert "not installed" in found["attack"]
