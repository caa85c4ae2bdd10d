"""Robust training, small and quick, of a softmax and of a multi-label classifier."""

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from counterscan.classifiers.load import load_classifier
from counterscan.core import Card
from counterscan.data.archive import write_phantoms
from counterscan.data.manifest import read_manifest
from counterscan.errors import ClassifierError, CounterscanError
from counterscan.registry import RECIPES
from counterscan.train import robustness
from counterscan.train.attack import PGD
from counterscan.train.recipes.robust_classifier import RobustTask, divergence, label_loss
from counterscan.weights.store import load_weights

SMALL = {"size": 32, "steps": 4, "batch": 4, "inner": 1, "measured": 4}


@pytest.fixture(scope="module", autouse=True)
def _quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(robustness, "STEPS", 2)
        patch.setattr(robustness, "MINIMUM_NORM_STEPS", 2)
        yield


@pytest.fixture(scope="module")
def oct_scans(tmp_path_factory):
    return read_manifest(write_phantoms("oct", 40, tmp_path_factory.mktemp("oct"), size=64))


@pytest.fixture(scope="module")
def abdomen(tmp_path_factory):
    return read_manifest(write_phantoms("abdomen", 40, tmp_path_factory.mktemp("abdomen"), size=64))


@pytest.fixture(scope="module")
def plain(oct_scans, tmp_path_factory):
    recipe = RECIPES["classifier"](size=32, steps=4, batch=4)
    return recipe.train(oct_scans, tmp_path_factory.mktemp("plain"), say=lambda _: None)


def test_its_card_says_how_accurate_it_is_under_which_attack_beside_a_plain_one(oct_scans, plain, tmp_path):
    recipe = RECIPES["robust-classifier"](radius=2.0, beside=str(plain), start=str(plain), **SMALL)
    card = load_classifier(str(recipe.train(oct_scans, tmp_path / "robust", say=lambda _: None, command="x"))).card
    assert (card.output, card.command, card.shape) == ("softmax", "x", (1, 32, 32))
    found = card.metrics
    assert {"auc_cnv", "ece_cnv", "accuracy", "attack", "training"} <= found.keys()
    assert "radius 2, 1 steps" in found["training"]
    for metrics in (found, found["beside"]):
        values = [
            metrics[name]["value"] for name in ("accuracy", *(f"accuracy_l2_{r}" for r in ("0.5", "1", "2", "4")))
        ]
        assert values == sorted(values, reverse=True)
    assert found["beside"]["name"] == str(plain)


@pytest.mark.parametrize("method", ["trades", "pgd"])
def test_it_resumes_to_the_same_weights(method, abdomen, tmp_path):
    recipe = RECIPES["robust-classifier"](method=method, norm="linf", radius=0.05, **SMALL)

    def stop(line):
        if "step 2/4" in line:
            raise KeyboardInterrupt

    whole = recipe.train(abdomen, tmp_path / "whole", say=lambda _: None)
    with pytest.raises(KeyboardInterrupt):
        recipe.train(abdomen, tmp_path / "cut", say=stop)
    resumed = recipe.train(abdomen, tmp_path / "cut", resume=True, say=lambda _: None)
    assert (resumed / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    rows = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    assert ("divergence" in rows[0]) == (method == "trades")
    assert rows[-1]["score"] == pytest.approx((rows[-1]["auc"] + rows[-1]["auc_attacked"]) / 2, abs=1e-4)


def test_it_starts_from_the_weights_that_it_is_given(oct_scans, plain, tmp_path, monkeypatch):
    seen = {}

    def watch(task, out, **settings):
        seen.update(task.plain.network.state_dict())
        raise KeyboardInterrupt

    monkeypatch.setattr("counterscan.train.recipes.robust_classifier.fit", watch)
    with pytest.raises(KeyboardInterrupt):
        RECIPES["robust-classifier"](start=str(plain), **SMALL).train(oct_scans, tmp_path / "out")
    for name, value in load_weights(plain)[0].state_dict().items():
        torch.testing.assert_close(seen[name], value)


def test_the_radius_grows_from_nothing(oct_scans):
    recipe = RECIPES["classifier"](size=32, batch=4)
    task = RobustTask(recipe.task(oct_scans, recipe.card(oct_scans, Path("x"), "")), PGD("linf", 0.4, 1), warm=4)
    seen = []
    task._worst = lambda attack, images, labels: seen.append(attack.radius) or images
    for step in range(6):
        torch.manual_seed(step)
        assert task.step(step)["divergence"] < 0.1, "the same image, once more through dropout"
    assert seen == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])


def test_the_divergence_weighs_beta_in_the_loss(oct_scans):
    recipe, losses = RECIPES["classifier"](size=32, batch=4), {}
    for beta in (0.0, 20.0):
        task = RobustTask(recipe.task(oct_scans, recipe.card(oct_scans, Path("x"), "")), PGD("l2", 1.0, 2), beta=beta)
        torch.manual_seed(0)
        losses[beta] = task.step(0)
    apart = losses[0.0]["divergence"]
    assert apart > 0
    assert losses[20.0]["loss"] - losses[0.0]["loss"] == pytest.approx(20 * apart, rel=1e-3)


def test_divergences_are_those_of_their_distributions():
    first, second = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0)) * 3
    kl = torch.distributions.kl_divergence
    categorical, bernoulli = torch.distributions.Categorical, torch.distributions.Bernoulli
    expected = kl(categorical(logits=first), categorical(logits=second))
    torch.testing.assert_close(divergence(first, second, "softmax"), expected, rtol=1e-4, atol=1e-6)
    expected = kl(bernoulli(logits=first), bernoulli(logits=second)).sum(1)
    torch.testing.assert_close(divergence(first, second, "multilabel"), expected, rtol=1e-4, atol=1e-6)


def test_an_unknown_label_has_no_loss():
    card = Card(name="toy", shape=(1, 8, 8), classes=("a", "b"))
    logits, labels = torch.tensor([[1.0, -2.0]]), torch.tensor([[1.0, torch.nan]])
    torch.testing.assert_close(label_loss(logits, labels, card), F.softplus(torch.tensor([-1.0])))


def test_what_does_not_fit_is_named_before_any_training(oct_scans, abdomen, plain, tmp_path):
    def train(manifest, **settings):
        RECIPES["robust-classifier"](**{**SMALL, **settings}).train(manifest, tmp_path / "out")

    with pytest.raises(CounterscanError, match="method is one of trades, pgd"):
        train(oct_scans, method="trade")
    with pytest.raises(CounterscanError, match="norm is one of"):
        train(oct_scans, norm="l1")
    with pytest.raises(CounterscanError, match="radius must be above 0"):
        train(oct_scans, radius=0.0)
    with pytest.raises(ClassifierError, match="trained with the same labels"):
        train(abdomen, beside=str(plain))
    with pytest.raises(CounterscanError, match="another network"):
        train(oct_scans, start=str(plain), network="vgg")
    assert not (tmp_path / "out" / "checkpoint.pt").exists()


def test_a_tiny_radius_is_warned_about(oct_scans, tmp_path):
    said = []
    recipe = RECIPES["robust-classifier"](**{**SMALL, "radius": 0.01, "steps": 1})
    recipe.train(oct_scans, tmp_path / "out", say=said.append)
    assert any("too small" in line for line in said)
