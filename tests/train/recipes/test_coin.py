"""The published recipe: every term can be switched off, and what comes out is an editor like any other."""

from dataclasses import replace

import pytest
import torch

from counterscan.classifiers.torch import TorchClassifier
from counterscan.core import Card, Target
from counterscan.data.archive import write_phantoms
from counterscan.data.manifest import read_manifest
from counterscan.errors import CounterscanError
from counterscan.explainers.build import build_explainer
from counterscan.nets import build
from counterscan.train.editing import editor_card, editor_networks, open_parts
from counterscan.train.recipes.coin import PRESETS, CoinRecipe, CoinTask, Weights, shares
from counterscan.train.selection import Selection
from counterscan.weights.store import load_card, save_weights

TERMS = ("adversarial", "answer", "reconstruction", "variation")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return read_manifest(write_phantoms("abdomen", 40, tmp_path_factory.mktemp("abdomen"), size=64))


@pytest.fixture(scope="module")
def classifier(manifest):
    settings = {"outputs": 2, "widths": [8, 8, 8, 8], "depth": 1}
    window = manifest.window.as_tuple()
    shape, classes = (1, 64, 64), manifest.classes
    card = Card(name="t", shape=shape, classes=classes, window=window, network="resnet", settings=settings)
    torch.manual_seed(0)
    return TorchClassifier(build("resnet", settings).eval(), card)


def task(manifest, classifier, **settings):
    recipe = CoinRecipe(**{"batch": 4, **settings})
    card = editor_card("e", classifier.card, manifest, "", guided=False)
    images = open_parts(manifest, card, fold=0)
    torch.manual_seed(0)
    networks = editor_networks(card, classifier)
    return CoinTask(
        *networks, classifier, images["train"], [0], Selection(classifier, images["validation"], [0], card), recipe
    )


def test_the_presets_are_the_published_weights():
    assert CoinRecipe().weights == Weights(1.0, 5.0, 1.0, 0.05, balanced=False)
    assert CoinRecipe(preset="tuh").weights == Weights(1.0, 1.0, 1.0, 5e-5, balanced=True)
    changed = CoinRecipe(preset="tuh", variation=0, balanced=False).weights
    assert changed == replace(PRESETS["tuh"], variation=0, balanced=False)


@pytest.mark.parametrize("off", TERMS)
def test_a_term_without_a_weight_is_not_there(off, manifest, classifier):
    values = task(manifest, classifier, **{off: 0.0}).step(0)
    left = {*TERMS, "discriminator"} - {off} - ({"discriminator"} if off == "adversarial" else set())
    assert values.keys() == left


def test_the_generator_learns_at_every_fifth_step_and_the_discriminator_always(manifest, classifier):
    run = task(manifest, classifier)
    heads = run.generator.head.weight, run.discriminator.score.bias
    for step in range(7):
        before = [head.detach().clone() for head in heads]
        values = run.step(step)
        changed = [not torch.equal(head, was) for head, was in zip(heads, before, strict=True)]
        assert changed == [step % 5 == 0, True]
        assert ("answer" in values) == (step % 5 == 0)


def test_the_classifier_is_not_taught(manifest, classifier):
    before = [p.detach().clone() for p in classifier.module.parameters()]
    task(manifest, classifier).step(0)
    assert all(torch.equal(p, was) for p, was in zip(classifier.module.parameters(), before, strict=True))
    assert all(p.grad is None for p in classifier.module.parameters())


def test_a_generator_that_changes_nothing_pays_for_the_answer_only(manifest, classifier):
    values = task(manifest, classifier, adversarial=0.0).step(0)
    assert values["reconstruction"] == values["variation"] == 0
    assert values["answer"] >= 0


def test_the_second_pass_is_compared_with_what_is_asked_for(manifest, classifier):
    images = torch.rand(2, 1, 64, 64) * 0.5
    cost = {}
    for cycle in ("image", "edited", "none"):
        run = task(manifest, classifier, cycle=cycle)
        run._edit = lambda x: x + 0.1  # each pass adds a tenth
        cost[cycle] = float(run._reconstruction(images, images + 0.1))
    assert cost["none"] == pytest.approx(0.1, abs=1e-5)
    assert cost["edited"] == pytest.approx(0.2, abs=1e-5)
    assert cost["image"] == pytest.approx(0.3, abs=1e-5)


def test_the_variation_weighs_the_same_at_every_size(manifest, classifier):
    assert task(manifest, classifier).scale == (64 / 256) ** 2


def test_balanced_draws_show_the_rare_as_often():
    labels = torch.tensor([[1.0], [0.0], [0.0], [float("nan")]])
    assert shares(labels, balanced=False).tolist() == [1, 1, 1, 1]
    torch.testing.assert_close(shares(labels, balanced=True), torch.tensor([1, 1 / 3, 1 / 3, 1 / 3]))
    assert shares(labels[1:], balanced=True).tolist() == [1, 1, 1], "nothing to balance"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"preset": "sinthetic"}, "did you mean 'synthetic'"),
        ({"cycle": "v3"}, "no cycle 'v3'"),
        ({"fusion": "tan"}, "did you mean 'tanh'"),
        ({"interval": 0}, "interval >= 1"),
    ],
)
def test_what_it_does_not_know(settings, said):
    with pytest.raises(CounterscanError, match=said):
        CoinRecipe(**settings)


def test_it_needs_a_classifier(manifest, tmp_path):
    with pytest.raises(CounterscanError, match="--classifier"):
        CoinRecipe().train(manifest, tmp_path)


def test_it_writes_an_editor_that_inpainting_takes(manifest, classifier, tmp_path):
    frozen = save_weights(tmp_path / "classifier", classifier.module, classifier.card)
    recipe = CoinRecipe(classifier=str(frozen), findings="tumour", steps=2, batch=4)
    out = recipe.train(manifest, tmp_path / "editor", say=lambda _: None, command="as tested")
    card = load_card(out)
    assert (card.kind, card.command, card.classes) == ("editor", "as tested", manifest.classes)
    assert card.settings == {"channels": 1, "outputs": 1, "conditions": 2}
    assert card.mask_rule
    explainer = build_explainer("inpainting", prior=str(out), passes=1, confined=False)
    answer = explainer(classifier, torch.rand(2, 1, 64, 64), Target.parse("tumour=0", classifier.card))
    assert answer.counterfactual.shape == (2, 1, 64, 64)
