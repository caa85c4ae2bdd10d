"""The recipes, small and quick: from an archive of phantoms to weights that load, explain and say what they expect."""

import pytest
import torch

from counterscan.classifiers.load import load_classifier
from counterscan.core import Target
from counterscan.data.archive import write_phantoms
from counterscan.data.manifest import read_manifest
from counterscan.errors import CounterscanError, ManifestError
from counterscan.explainers.build import build_explainer
from counterscan.metrics.masks import MaskRule
from counterscan.registry import RECIPES
from counterscan.weights.store import load_card, load_weights


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return write_phantoms("chest", 60, tmp_path_factory.mktemp("chest"), size=64, findings=("effusion",))


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COUNTERSCAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def classifier(archive, tmp_path_factory):
    out = tmp_path_factory.mktemp("classifier")
    recipe = RECIPES["classifier"](size=64, steps=12, batch=8, name="chest/tiny")
    return recipe.train(read_manifest(archive), out, say=lambda _: None, command="as tested")


@pytest.fixture(scope="module")
def editor(archive, classifier, tmp_path_factory):
    out = tmp_path_factory.mktemp("editor")
    recipe = RECIPES["inpainting"](classifier=str(classifier), findings="effusion", steps=6, batch=5)
    return recipe.train(read_manifest(archive), out, say=lambda _: None)


def test_a_classifier_says_what_it_is(classifier):
    card = load_classifier(str(classifier)).card
    assert card.name == "chest/tiny"
    assert card.shape == (1, 64, 64)
    assert card.classes == ("consolidation", "effusion", "nodule", "pneumothorax", "cardiomegaly")
    assert card.command == "as tested"
    assert 0 <= card.metrics["auc_effusion"]["low"] <= card.metrics["auc_effusion"]["high"] <= 1


def test_an_editor_explains_what_it_was_trained_for(editor, classifier):
    card = load_card(editor)
    assert card.kind == "editor"
    assert MaskRule.from_dict(card.mask_rule)(torch.rand(2, 1, 64, 64)).shape == (2, 1, 64, 64)
    assert card.mask_rule
    explainer = build_explainer("inpainting", prior=str(editor))
    model = load_classifier(str(classifier))
    answer = explainer(model, torch.rand(2, 1, 64, 64), Target.parse("effusion=0", model.card))
    assert answer.counterfactual.shape == (2, 1, 64, 64)
    assert list(editor.glob("previews/*.png"))


def test_the_classifiers_own_features_are_built_in(editor, classifier):
    guide = load_weights(editor)[0].guide.state_dict()
    for name, value in load_weights(classifier)[0].state_dict().items():
        torch.testing.assert_close(guide[name], value, atol=1e-3, rtol=1e-2)


def test_it_resumes_to_the_same_weights(archive, classifier, tmp_path):
    recipe = RECIPES["inpainting"](classifier=str(classifier), findings="effusion", steps=4, batch=5)
    manifest = read_manifest(archive)

    def stop(line):
        if "step 2/4" in line:
            raise KeyboardInterrupt

    whole = recipe.train(manifest, tmp_path / "whole", say=lambda _: None)
    with pytest.raises(KeyboardInterrupt):
        recipe.train(manifest, tmp_path / "cut", say=stop)
    resumed = recipe.train(manifest, tmp_path / "cut", resume=True, say=lambda _: None)
    assert (resumed / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()


def test_what_is_missing_is_named(archive, tmp_path):
    manifest = read_manifest(archive)
    with pytest.raises(CounterscanError, match="--classifier"):
        RECIPES["inpainting"]().train(manifest, tmp_path)
    with pytest.raises(CounterscanError, match="batch=4 leaves no image"):
        RECIPES["inpainting"](classifier="chest/classifier", batch=4).train(manifest, tmp_path)
    with pytest.raises(ManifestError, match="share is one of"):
        RECIPES["classifier"](share="half").train(manifest, tmp_path)
