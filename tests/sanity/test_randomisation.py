import pytest
import torch

from counterscan.classifiers.wrappers import BlackBox
from counterscan.errors import NeedsGradients
from counterscan.explainers.attribution.gradient import Gradient
from counterscan.metrics.intervals import Estimate
from counterscan.metrics.masks import MaskRule
from counterscan.sanity.checks import FAILS, PASSES, UNCLEAR
from counterscan.sanity.randomisation import Stage, all_random, compare, random_weights, shuffled_labels

RULE = MaskRule(0.5, relative=True)
PATIENTS = tuple("abcdef")
IMAGES = torch.rand(6, 1, 40, 40, generator=torch.Generator().manual_seed(0)) * 0.5 - 0.5


@pytest.fixture
def measured(classifiers, target):
    def measure(explainer, classifier=None):
        asked = classifier or classifiers["centre"]

        def explain(other):
            return explainer(other, IMAGES, target)

        steps: list[int] = []
        true = explainer(classifiers["centre"], IMAGES, target)
        return random_weights(asked, explain, true, RULE, PATIENTS, lambda: steps.append(1)), steps

    return measure


def test_it_goes_from_the_head_to_all_and_then_one_group_at_a_time(measured):
    found, steps = measured(Gradient())
    assert [stage.title for stage in found.cascading] == ["head random", "2 of 3 random", "all random"]
    assert len(found.independent) == 2
    assert len(steps) == 5
    assert found.check.verdict == PASSES


def test_a_map_that_ignores_the_classifier_correlates_with_itself(measured, edges):
    found, _ = measured(edges)
    assert found.check.verdict == FAILS
    assert found.check.value.value == pytest.approx(1, abs=1e-5)
    assert found.cascading[-1].figures["mask_iou"].value == 1


def test_a_map_that_is_empty_under_some_weights_is_asked_under_others(classifiers, target, edges):
    asked = []

    def explain(other):
        asked.append(float(other(IMAGES)[0]))
        explanation = edges(other, IMAGES, target)
        return (
            explanation
            if len(asked) > 2
            else type(explanation)(**{**vars(explanation), "heatmap": torch.zeros_like(explanation.heatmap)})
        )

    true = edges(classifiers["centre"], IMAGES, target)
    found = random_weights(classifiers["centre"], explain, true, RULE, PATIENTS, lambda: None)
    assert len(set(asked[:3])) == 3, "each time the weights are others"
    assert len(asked) == 9, "two were empty, and the last stage is repeated"
    assert found.cascading[0].heatmap.max() > 0


@pytest.mark.parametrize("own", [False, True])
def test_all_weights_at_once_is_the_last_stage_alone(measured, classifiers, target, edges, own):
    explainer, asked = edges if own else Gradient(), []

    def explain(other):
        asked.append(other)
        return explainer(other, IMAGES, target)

    true = explainer(classifiers["centre"], IMAGES, target)
    assert all_random(classifiers["centre"], explain, true, RULE, PATIENTS) == measured(explainer)[0].check
    assert len(asked) >= 3
    with pytest.raises(NeedsGradients):
        all_random(BlackBox(classifiers["centre"]), explain, true, RULE, PATIENTS)


def test_a_black_box_is_not_judged_by_weights(measured, classifiers, edges):
    found, steps = measured(edges, BlackBox(classifiers["centre"]))
    assert found.check.verdict == UNCLEAR
    assert not found.cascading
    assert not steps


def test_shuffled_labels_need_a_classifier_that_did_not_learn_the_true_ones(classifiers, target, edges):
    true = edges(classifiers["centre"], IMAGES, target)
    same = compare("shuffled labels", true, [true], RULE, PATIENTS)
    assert isinstance(same, Stage)
    assert shuffled_labels(same, Estimate(0.5, 0.4, 0.6, 60)).verdict == FAILS
    for knows in (Estimate(0.95, 0.9, 1.0, 60), Estimate(0.05, 0.0, 0.1, 60)):
        assert shuffled_labels(same, knows).verdict == UNCLEAR
    assert "shuffled=true" in shuffled_labels(None, None).words
