"""From words to a job: defaults that can be guessed, and refusals that name the cure."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from counterscan import jobs
from counterscan.core import Card, Target
from counterscan.data.window import Window
from counterscan.errors import ClassifierError, CounterscanError, ScanError, UnknownName, WeightsError
from counterscan.explainers.inpainting import Inpainting
from counterscan.metrics.masks import MaskRule
from counterscan.registry import EXPLAINERS

CARD = Card(name="c", shape=(1, 8, 8), classes=("tumour", "cyst"), window=(-160, 240, "HU"))


def editor(**changes) -> Inpainting:
    card = CARD.model_copy(update={"name": "e", "kind": "editor", **changes})
    return Inpainting(SimpleNamespace(card=card))


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("masks=200", ("masks", 200)),
        ("p=0.25", ("p", 0.25)),
        ("flip=true", ("flip", True)),
        ("fill=none", ("fill", None)),
        ("layer=features.nonexistent", ("layer", "features.nonexistent")),
        ("healthy-limit=0.05", ("healthy_limit", 0.05)),
    ],
)
def test_a_setting_is_read_as_what_it_looks_like(text, setting):
    assert jobs.parse_setting(text) == setting


@pytest.mark.parametrize("text", ["masks", "=3", ""])
def test_a_setting_without_a_key_is_refused(text):
    with pytest.raises(CounterscanError, match="key=value"):
        jobs.parse_setting(text)


def test_a_window_is_read_and_a_nonsensical_one_refused():
    assert jobs.parse_window("-160:240") == Window(-160, 240)
    with pytest.raises(ScanError, match="low:high"):
        jobs.parse_window("-160")
    with pytest.raises(ScanError, match="lower to a higher"):
        jobs.parse_window("240:-160")


def test_the_prior_of_a_shipped_classifier_is_the_one_beside_it(monkeypatch):
    monkeypatch.setattr(jobs, "shipped_weights", lambda: ("chest/classifier", "chest/inpainting", "oct/classifier"))
    assert jobs.default_prior("inpainting", "chest/classifier") == "chest/inpainting"
    assert jobs.default_prior("rise", "chest/classifier") == ""
    for other in ("oct/classifier", "runs/classifier"):
        with pytest.raises(WeightsError, match=r"--prior .* one of chest/inpainting"):
            jobs.default_prior("inpainting", other)


def test_a_prior_of_other_classes_or_another_window_is_refused():
    target = Target(((0, 0.0),))
    jobs.check_fit(editor(), CARD, target)
    jobs.check_fit(editor(classes=("cyst", "tumour")), CARD, target)  # they meet by name
    with pytest.raises(WeightsError, match="trained for the classes cyst, which have no 'tumour'"):
        jobs.check_fit(editor(classes=("cyst",)), CARD, target)
    with pytest.raises(WeightsError, match="window"):
        jobs.check_fit(editor(window=(-100, 100, "HU")), CARD, target)


def test_the_mask_rule_is_asked_for_or_read_or_the_priors(tmp_path):
    calibrated = editor(mask_rule={"threshold": 0.1, "blur": 1.0})
    assert jobs.choose_rule(calibrated, None, None) == MaskRule(0.1, blur=1.0)
    assert jobs.choose_rule(calibrated, 0.3, None) == MaskRule(0.3)
    assert jobs.choose_rule(editor(), None, None) is None
    (tmp_path / "score.json").write_text(json.dumps({"mask_rule": MaskRule(0.2, relative=True).to_dict()}))
    assert jobs.choose_rule(calibrated, None, tmp_path / "score.json") == MaskRule(0.2, relative=True)


def test_a_recipe_is_set_up_from_words():
    recipe = jobs.prepare_recipe("inpainting", classifier="chest/classifier", settings=["steps=7"])
    assert (recipe.classifier, recipe.steps) == ("chest/classifier", 7)
    with pytest.raises(UnknownName, match="did you mean 'steps'"):
        jobs.prepare_recipe("classifier", settings=["stpes=7"])


@pytest.mark.parametrize(
    ("method", "text"),
    [
        ("diffusion-guidance", "guidance=abc"),
        ("diffusion-guidance", "exact=1"),
        ("sparse", "p=true"),
        ("sparse", 'ladder=["a"]'),
    ],
)
def test_a_word_where_a_number_is_needed_is_refused_with_an_example(method, text):
    name = text.partition("=")[0]
    with pytest.raises(CounterscanError, match=f"{name} cannot be .* its default is --set {name}="):
        jobs.read_settings(EXPLAINERS[method], [text])


def test_one_number_may_stand_for_several_and_a_whole_one_for_any():
    asked = jobs.read_settings(EXPLAINERS["diffusion-guidance"], ["guidance=2", "start=1", "exact=true", "robust=r"])
    assert asked == {"guidance": 2, "start": 1, "exact": True, "robust": "r"}


def test_beside_a_shipped_classifier_the_denoiser_and_what_steers_are_found():
    assert jobs.default_prior("diffusion-guidance", "fundus/classifier") == "fundus/denoiser"
    assert jobs.default_settings("diffusion-guidance", "fundus/classifier") == {"robust": "fundus/robust"}
    assert jobs.default_settings("inpainting", "fundus/classifier") == {}
    assert jobs.default_settings("sparse", "my/classifier") == {}
    with pytest.raises(WeightsError, match="counterscan train diffusion"):
        jobs.default_prior("diffusion-guidance", "abdomen/classifier")


def test_a_denoiser_knows_no_classes_and_fits_them_all():
    explainer = editor(kind="denoiser", classes=())
    jobs.check_fit(explainer, CARD, Target.parse("tumour=0", CARD))


def test_what_steers_must_answer_the_same_classes_before_anything_runs():
    answers = SimpleNamespace(card=CARD.model_copy(update={"classes": ("cyst",)}), differentiable=True)
    with pytest.raises(ClassifierError, match="trained with the same labels"):
        jobs.check_fit(SimpleNamespace(robust=answers), CARD, Target.parse("tumour=0", CARD))


def test_what_a_person_called_things_is_noted_with_absolute_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = jobs.named([Path("a"), Path("b")], "mine", "", Path("set.toml"), folds=(1, 3), split="test", where="view=PA")
    assert told["manifest"] == f"{tmp_path / 'a'} {tmp_path / 'b'}"
    assert told["dataset"] == str(tmp_path / "set.toml")
    assert told["selection"] == "test view=PA fold=1 fold=3"
    assert jobs.named([Path("a")], "mine", "editor")["dataset"] == ""
