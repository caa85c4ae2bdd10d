from dataclasses import replace

import pytest
import torch

from counterscan.core import Card, Explanation, Target
from counterscan.errors import TargetError
from counterscan.metrics.validity import (
    already_there,
    already_there_change,
    flip_rate,
    judge_flip_rate,
    queries,
    reconstruction_flip_rate,
    seconds,
    translate,
)


class Brightness:
    """Says `bright` for a mean above 0; the other class never."""

    differentiable = True

    def __init__(self, classes=("bright", "other"), shape=(1, 8, 8)):
        self.card = Card(name="brightness", shape=shape, classes=classes)

    def __call__(self, images):
        assert tuple(images.shape[1:]) == self.card.shape
        answer = images.flatten(1).mean(1) * 10
        return torch.stack([answer if name == "bright" else answer * 0 - 9 for name in self.card.classes], 1)


def explain(levels_before, levels_after, reconstruction=None):
    images = torch.tensor(levels_before).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    counterfactual = torch.tensor(levels_after).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    classifier, target = Brightness(), Target(((0, 0.0),))
    after = classifier(counterfactual)
    return Explanation(
        images=images,
        target=target,
        heatmap=(images - counterfactual).abs() / 2,
        before=classifier(images),
        found=target.reached(after),
        counterfactual=counterfactual,
        after=after,
        reconstruction=reconstruction,
        meta={"classes": ["bright", "other"], "seconds": 6.0, "queries": 12},
    )


def test_flip_rate_divides_by_all_attempted():
    values = flip_rate(explain([0.5, 0.5, -0.5], [-0.5, 0.4, -0.6]))
    assert values[:2].tolist() == [1, 0]
    assert values[2].isnan()


def test_images_already_there_are_counted_apart_with_their_change():
    explanation = explain([0.5, -0.5], [-0.5, -0.6])
    assert already_there(explanation).tolist() == [0, 1]
    change = already_there_change(explanation)
    assert change[0].isnan()
    assert float(change[1]) == pytest.approx(0.05)


def test_the_judge_finds_the_class_by_name_and_gets_its_own_size():
    judge = Brightness(("other", "bright"), (3, 4, 4))
    values = judge_flip_rate(explain([0.5, 0.5, -0.5], [-0.5, 0.4, -0.6]), judge=judge)
    assert values[:2].tolist() == [1, 0]
    assert values[2].isnan()


def test_a_judge_without_the_class_is_refused_with_the_nearest_name():
    judge = Brightness(("brigth", "other"))
    with pytest.raises(TargetError, match="did you mean 'brigth'"):
        judge_flip_rate(explain([0.5], [-0.5]), judge=judge)


def test_translate_keeps_the_probabilities():
    card = Card(name="judge", shape=(1, 8, 8), classes=("b", "c", "a"))
    assert translate(Target(((0, 1.0), (2, 0.3))), ("a", "b", "c"), card).wanted == ((2, 1.0), (1, 0.3))


def test_reconstruction_alone_may_flip():
    explanation = explain([0.5, 0.5], [-0.5, -0.5], torch.tensor([-0.1, 0.1]).view(2, 1, 1, 1).expand(2, 1, 8, 8))
    assert reconstruction_flip_rate(explanation, classifier=Brightness()).tolist() == [1, 0]
    assert reconstruction_flip_rate(explain([0.5], [-0.5]), classifier=Brightness()).isnan().all()
    assert reconstruction_flip_rate(explanation).isnan().all()
    noted = replace(explanation, meta={"cases": [{"reconstruction_flips": True}, {"reconstruction_flips": False}]})
    assert reconstruction_flip_rate(noted).tolist() == [1, 0]  # nobody is asked


def test_costs_are_shared_by_the_images():
    explanation = explain([0.5, 0.5, -0.5], [-0.5, 0.4, -0.6])
    assert seconds(explanation).tolist() == [2, 2, 2]
    assert queries(explanation).tolist() == [4, 4, 4]


def test_an_attribution_flips_nothing_and_says_so():
    image = torch.zeros(2, 1, 8, 8)
    explanation = Explanation(image, Target(((0, 0.0),)), image, torch.ones(2, 2), torch.zeros(2, dtype=torch.bool))
    for metric in (flip_rate, judge_flip_rate, already_there_change, seconds):
        assert metric(explanation, judge=Brightness()).isnan().all()
