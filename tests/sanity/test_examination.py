import json
import re

import pytest
import torch

from counterscan.classifiers.wrappers import BlackBox
from counterscan.errors import CounterscanError
from counterscan.explainers.attribution.grad_cam import GradCAM
from counterscan.explainers.attribution.gradient import Gradient
from counterscan.explainers.attribution.rise import RISE
from counterscan.sanity.checks import FAILS, PASSES, UNCLEAR
from counterscan.sanity.examination import examine


def verdicts(found):
    return {check.name: check.verdict for check in found.checks}


@pytest.fixture(scope="module")
def quick():
    return {"n": 8}


@pytest.mark.parametrize("explainer", [Gradient(), GradCAM()], ids=["gradient", "grad-cam"])
def test_a_faithful_map_of_a_classifier_that_looks_inside_fails_nothing(explainer, job, shuffled, quick):
    found = examine(job(explainer), shuffled=shuffled, **quick)
    assert not found.failed
    assert verdicts(found)["random_weights"] == PASSES
    assert verdicts(found)["pixels_matter"] == PASSES
    for check in ("border_alone", "evidence_in_frame", "border_gives_away"):
        assert verdicts(found)[check] == PASSES


def test_a_map_that_ignores_the_classifier_is_found_out(job, edges, shuffled, quick):
    found = examine(job(edges), shuffled=shuffled, **quick)
    assert verdicts(found)["random_weights"] == FAILS
    assert verdicts(found)["shuffled_labels"] == FAILS
    assert found.failed


def test_a_classifier_that_knows_the_labels_is_no_shuffled_one(job, classifiers, quick):
    found = examine(job(Gradient()), shuffled=classifiers["centre"], **quick)
    assert verdicts(found)["shuffled_labels"] == UNCLEAR
    assert "tells the true labels apart" in found.checks[1].words


def test_a_counterfactual_that_ignores_the_classifier_is_found_out_and_told_why(job, darker, quick):
    found = examine(job(darker), **quick)
    assert verdicts(found)["random_weights"] == FAILS
    assert "prior" in found.checks[0].words
    assert re.search(r"\d+% of the images with the true", found.checks[0].words)
    assert "found" in found.checks[0].figures


def test_a_classifier_that_uses_a_corner_is_caught(job, quick):
    found = examine(job(GradCAM(), "corner"), **quick)
    for check in ("border_alone", "evidence_in_frame", "border_gives_away"):
        assert verdicts(found)[check] == FAILS
    assert verdicts(found)["random_weights"] == PASSES, "it is explained faithfully, all the same"


def test_of_a_black_box_all_but_the_weights_can_be_told(job, classifiers, quick):
    rise = RISE(masks=64, s=5)
    found = examine(job(rise, classifier=BlackBox(classifiers["centre"])), **quick)
    assert verdicts(found)["random_weights"] == UNCLEAR
    assert verdicts(found)["border_alone"] == PASSES
    assert "--shuffled" in found.checks[0].words


def test_the_files_say_what_the_answer_says(job, quick):
    ready = job(GradCAM())
    found = examine(ready, command="as typed", **quick)
    told = json.loads((ready.out / "sanity.json").read_text())
    assert {"command", "version", "explainer", "n", "metrics", "checks"} <= set(told)
    assert told["command"] == "as typed"
    assert told["n"] == 60
    assert told["explained"] == 8
    assert [check["verdict"] for check in told["checks"]] == [check.verdict for check in found.checks]
    assert set(told["metrics"]["correlation_cascading_1"]) == {"value", "low", "high", "n"}
    page = (ready.out / "index.html").read_text()
    for check in found.checks:
        assert check.question.replace("'", "&#39;") in page
    assert not re.search(r"""(src|href)=["'](?!data:)""", page), "the page needs nothing beside it"
    assert {"shortcut.png", "randomised.png"} <= {path.name for path in ready.out.iterdir()}


def test_it_replays(job):
    first = examine(job(RISE(masks=8, s=5)), n=4).to_dict()
    torch.rand(5)
    assert examine(job(RISE(masks=8, s=5)), n=4).to_dict() == first


def test_the_classifier_is_left_as_it_was(job, classifiers, quick):
    before = {name: value.clone() for name, value in classifiers["centre"].module.state_dict().items()}
    examine(job(Gradient()), **quick)
    after = classifiers["centre"].module.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_folder_of_something_else_is_left_alone(job):
    ready = job(Gradient())
    ready.out.mkdir()
    (ready.out / "run.json").write_text("{}")
    with pytest.raises(CounterscanError, match="other files"):
        examine(ready)
    assert not (ready.out / "index.html").exists()


def test_too_few_images_to_explain_are_refused(job, manifests):
    from dataclasses import replace

    ready = job(Gradient())
    few = replace(manifests["centre"], cases=manifests["centre"].cases[1::2])
    with pytest.raises(CounterscanError, match="miss the target mark=0"):
        examine(replace(ready, manifest=few))
