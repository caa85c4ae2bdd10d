"""The recipes, small and quick: from an archive of phantoms to weights that load, explain and say what they expect."""

from dataclasses import replace

import pytest
import torch

from counterscan.classifiers.load import load_classifier
from counterscan.core import Target
from counterscan.data.archive import write_phantoms
from counterscan.data.manifest import read_manifest
from counterscan.engine import run
from counterscan.errors import CounterscanError, ManifestError
from counterscan.explainers.build import build_explainer
from counterscan.jobs import prepare
from counterscan.metrics.masks import MaskRule
from counterscan.registry import RECIPES
from counterscan.train.editing import editor_card, editor_networks, open_parts
from counterscan.train.recipes.progressive import ProgressiveTask
from counterscan.train.recipes.student import absent, taught
from counterscan.train.sampler import Sampler
from counterscan.train.selection import Selection
from counterscan.train.terms import divergence
from counterscan.weights.store import load_card, load_weights


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return write_phantoms("chest", 60, tmp_path_factory.mktemp("chest"), size=64, findings=("effusion",))


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


def test_shuffled_labels_are_dealt_out_anew_and_no_label_is_lost(archive, tmp_path, monkeypatch):
    seen = {}

    def watch(task, out, **settings):
        seen.update({name: part.labels for name, part in task.images.items()})
        return task.network

    monkeypatch.setattr("counterscan.train.recipes.classifier.fit", watch)
    kept = {}
    for shuffled in (False, True):
        recipe = RECIPES["classifier"](size=64, shuffled=shuffled)
        recipe.train(read_manifest(archive), tmp_path / str(shuffled), say=lambda _: None)
        kept[shuffled] = dict(seen)
    for name in ("train", "validation"):
        assert not torch.equal(kept[True][name], kept[False][name])
        assert torch.equal(kept[True][name].nansum(0), kept[False][name].nansum(0))
    assert torch.equal(kept[True]["test"], kept[False]["test"]), "what is measured on keeps its labels"


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


@pytest.fixture(scope="module")
def exaggerator(archive, classifier, tmp_path_factory):
    out = tmp_path_factory.mktemp("exaggerator")
    recipe = RECIPES["progressive"](classifier=str(classifier), findings="effusion", steps=4, batch=4, bins=4)
    return recipe.train(read_manifest(archive), out, say=lambda _: None)


def test_a_progressive_editor_can_be_asked_for_any_probability(exaggerator, classifier):
    card = load_card(exaggerator)
    assert card.settings["conditions"] == 25
    assert card.mask_rule
    explainer = build_explainer("progressive", prior=str(exaggerator), frames=3, path=True)
    model = load_classifier(str(classifier))
    for text in ("effusion=0", "effusion=0.5", "effusion=1"):
        answer = explainer(model, torch.rand(2, 1, 64, 64), Target.parse(text, model.card))
        assert answer.path.shape == (2, 3, 1, 64, 64)
    assert list(exaggerator.glob("previews/*.png"))


def test_its_losses_ask_for_the_answer_and_for_the_way_back(archive, classifier):
    model, manifest = load_classifier(str(classifier)), read_manifest(archive)
    card = editor_card("e", model.card, manifest, "", bins=4)
    images, effusion = open_parts(manifest, card, fold=0), model.card.index("effusion")
    selection = Selection(model, images["validation"], [effusion], card)
    torch.manual_seed(0)
    networks = editor_networks(card, model)
    task = ProgressiveTask(*networks, model, Sampler(images["train"], [effusion]), selection, 4, batch=4)
    before = {name: value.clone() for name, value in task.generator.state_dict().items()}
    first = task.step(0)
    assert first.keys() == {"answer", "kept", "cycle", "adversarial", "discriminator"}
    assert first["kept"] == first["cycle"] == 0, "it starts as the identity"
    assert first["answer"] > 0
    learned = {name for name, value in task.generator.state_dict().items() if not torch.equal(value, before[name])}
    assert learned
    assert not any(name.startswith("guide.") for name in learned)


def test_the_divergence_is_nothing_where_the_answer_is_as_asked():
    p = torch.tensor([[0.02, 0.3, 0.98]])
    assert divergence(p, p.logit()).abs().max() < 1e-6
    torch.testing.assert_close(
        divergence(p, torch.zeros(1, 3)),
        torch.distributions.kl_divergence(torch.distributions.Bernoulli(p), torch.distributions.Bernoulli(0.5)),
    )


def test_a_student_learns_from_masks_that_a_teacher_wrote(archive, classifier, tmp_path):
    pytest.importorskip("monai")
    manifest = read_manifest(archive)
    lines = [f"{case.name},0.1,{case.mask_path}" for case in manifest.cases if case.mask_path]
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "cases.csv").write_text("\n".join(["name,mask_share,mask", *lines]))
    recipe = RECIPES["student"](masks=str(tmp_path / "teacher"), findings="effusion", size=64, steps=3, batch=2)
    out = recipe.train(manifest, tmp_path / "student", say=lambda _: None)
    card = load_card(out)
    assert (card.kind, card.classes, card.source) == ("segmenter", ("effusion",), "taught by teacher")
    words = {"classifier": str(classifier), "target": "effusion=0", "method": "student", "prior": str(out)}
    run(prepare([archive], out=tmp_path / "masks", masks_only=True, split="validation", **words))
    assert list((tmp_path / "masks" / "masks").rglob("*.png"))


def test_labels_clean_what_a_teacher_says(archive, tmp_path):
    manifest = read_manifest(archive)
    shown = [case for case in manifest.cases if case.labels["effusion"] == 1]
    clear = [case for case in manifest.cases if case.labels["effusion"] == 0]
    lines = [f"{shown[0].name},0.1,masks/a.png", f"{shown[1].name},0.0,masks/b.png", f"{clear[0].name},0.2,masks/c.png"]
    (tmp_path / "cases.csv").write_text("\n".join(["name,mask_share,mask", *lines]))
    kept = {case.name: case.mask_path for case in taught(manifest, str(tmp_path), ("effusion",)).cases}
    assert kept[shown[0].name] == tmp_path / "masks" / "a.png"
    assert shown[1].name not in kept, "it shows the finding, and the teacher did not see it"
    assert shown[2].name not in kept, "the teacher was not asked"
    assert absent(clear[0], ("effusion",))
    assert kept.keys() >= {case.name for case in clear}


def test_a_folder_that_teaches_nothing(archive, tmp_path):
    manifest = read_manifest(archive)
    with pytest.raises(ManifestError, match=r"no cases\.csv"):
        taught(manifest, str(tmp_path), ("effusion",))
    (tmp_path / "cases.csv").write_text("name,mask_share,mask\n")
    with pytest.raises(ManifestError, match="no mask of any image"):
        taught(manifest, str(tmp_path), ("effusion",))


def test_without_a_teacher_what_has_no_mask_and_may_need_one_is_left_out(archive):
    manifest = read_manifest(archive)
    case = next(case for case in manifest.cases if case.labels["effusion"] == 1)
    unknown = replace(case, name="unknown", mask_path=None, labels={**case.labels, "effusion": None})
    kept = taught(replace(manifest, cases=(*manifest.cases, unknown)), "", ("effusion",)).cases
    assert kept == manifest.cases


def test_a_classifier_takes_as_many_channels_as_the_images_have(tmp_path):
    archive = write_phantoms("fundus", 24, tmp_path / "fundus", size=64)
    recipe = RECIPES["classifier"](size=64, steps=2, batch=4)
    recipe.train(read_manifest(archive), tmp_path / "out", say=lambda _: None)
    assert load_classifier(str(tmp_path / "out")).card.shape == (3, 64, 64)
