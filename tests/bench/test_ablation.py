"""The suite `ablation`: one thing off at a time, each variant trained once, the explainer's own without a training."""

from types import SimpleNamespace

import pytest

from counterscan.bench import ablation, run_suite
from counterscan.errors import CounterscanError, UnknownName

COMMON = ("classifier", "findings", "steps", "fold")


@pytest.fixture
def trained(monkeypatch):
    """What was trained with which settings; a training leaves a card and nothing else."""
    calls = []

    class Recipe:
        def __init__(self, **settings):
            self.settings = settings

        def train(self, manifest, out, **words):
            calls.append(self.settings)
            out.mkdir(parents=True)
            (out / "card.json").write_text("{}")

    monkeypatch.setattr(ablation, "RECIPES", {"inpainting": Recipe})
    return calls


@pytest.fixture
def measured(monkeypatch):
    """The methods that were measured: their settings, and where each found its editor."""
    found = {}

    class Making:
        def __init__(self, name, asked, settings):
            assert name == "ablation"

        def add(self, method, settings):
            found[method.name] = (method.settings, settings[0].models.place(method.prior))
            return SimpleNamespace(rows=list(found))

    monkeypatch.setattr(ablation, "Making", Making)
    return found


def ablate(out, **words):
    told = {"data": "abdomen", "out": out, "n": 4, "quick": True, "say": lambda line: None}
    return run_suite("ablation", **(told | words))


def test_each_variant_is_the_whole_but_for_one_thing_and_is_trained_once(trained, measured, tmp_path):
    ablate(tmp_path)
    assert list(measured) == list(ablation.VARIANTS)
    own = [{key: value for key, value in it.items() if key not in COMMON} for it in trained]
    assert own == [variant.trained for variant in ablation.VARIANTS.values() if not variant.explained]
    assert [len(it) for it in own] == [0] + [1] * (len(own) - 1)
    assert {it["findings"] for it in trained} == {"tumour"}
    ablate(tmp_path)
    assert len(trained) == len(own), "what was trained is not trained again"


def test_what_differs_in_the_explainer_only_takes_the_weights_of_the_whole(trained, measured, tmp_path):
    ablate(tmp_path, methods=["inpainting", "one-pass", "not-confined"], steps=3)
    assert [it["steps"] for it in trained] == [3]
    assert {place for _, place in measured.values()} == {str(tmp_path / "models" / "inpainting")}
    assert measured["one-pass"][0] == {"passes": 1}


def test_words_that_the_suite_lacks_are_refused(tmp_path):
    with pytest.raises(CounterscanError, match="ablation has no --masks"):
        ablate(tmp_path, masks=5)
    with pytest.raises(UnknownName, match="did you mean 'without-guide'"):
        ablate(tmp_path, methods=["without-giude"])
