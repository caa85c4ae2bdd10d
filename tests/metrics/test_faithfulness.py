import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from counterscan.classifiers.torch import TorchClassifier
from counterscan.core import Card, Explanation, Target
from counterscan.metrics.faithfulness import (
    BATCH,
    area,
    counterfactual_deletion,
    curve,
    deletion,
    insertion,
    ranks,
)

SIDE = 16
TARGET = Target(((0, 0.0),))


class Square(nn.Module):
    """Sick where the square in the middle is bright."""

    def forward(self, images):
        return images[:, :, 6:10, 6:10].mean((1, 2, 3))[:, None] * 8 - 1


@pytest.fixture
def classifier():
    return TorchClassifier(Square(), Card(name="square", shape=(1, SIDE, SIDE), classes=("sick",)))


def images(count=3):
    pixels = torch.full((count, 1, SIDE, SIDE), -1.0)
    pixels[:, :, 6:10, 6:10] = 1
    return pixels


def explain(heatmap, classifier, counterfactual=None):
    before = classifier(images(len(heatmap))).detach()
    return Explanation(
        images=images(len(heatmap)),
        target=TARGET,
        heatmap=heatmap,
        before=before,
        found=torch.zeros(len(heatmap), dtype=torch.bool),
        counterfactual=counterfactual,
        meta={"classes": ["sick"]},
    )


def right(count=3):
    return (images(count) > 0).float()


def test_a_right_map_beats_a_wrong_one_in_deletion_and_insertion(classifier):
    wrong = torch.zeros(3, 1, SIDE, SIDE)
    wrong[:, :, :4] = 1
    true, false = explain(right(), classifier), explain(wrong, classifier)
    assert deletion(true, classifier=classifier).max() < 0.5 < deletion(false, classifier=classifier).min()
    assert insertion(true, classifier=classifier).min() > insertion(false, classifier=classifier).max() + 0.2


def test_without_the_classifier_and_where_the_answer_was_as_asked_there_is_no_value(classifier):
    explanation = explain(right(), classifier)
    for metric in (deletion, insertion, counterfactual_deletion):
        assert metric(explanation).isnan().all()
    before = explanation.before.clone()
    before[1] = -3
    mixed = Explanation(**{**vars(explanation), "before": before})
    assert deletion(mixed, classifier=classifier).isnan().tolist() == [False, True, False]


def test_the_counterfactual_is_a_substrate_where_there_is_one(classifier):
    assert counterfactual_deletion(explain(right(), classifier), classifier=classifier).isnan().all()
    useless, good = images(), torch.full_like(images(), -1.0)
    area_of = [
        counterfactual_deletion(explain(right(), classifier, other), classifier=classifier).max()
        for other in (useless, good)
    ]
    assert area_of[0] > 0.99, "a counterfactual that changes nothing takes nothing away"
    assert area_of[1] < 0.2


def test_a_curve_begins_with_the_image_and_ends_with_the_substrate(classifier):
    x, other = images(2), torch.zeros(2, 1, SIDE, SIDE)
    answers = curve(classifier, x, right(2), TARGET, other, steps=4)
    assert answers.shape == (2, 5)
    assert torch.allclose(answers[:, :1], classifier(x))
    assert torch.allclose(answers[:, -1:], classifier(other))
    back = curve(classifier, x, right(2), TARGET, other, inserted=True, steps=4)
    assert torch.allclose(back[:, :1], classifier(other))


def test_memory_does_not_grow_with_the_steps(classifier):
    asked = []

    class Watching:
        card, differentiable = classifier.card, True

        def __call__(self, batch):
            asked.append(len(batch))
            return classifier(batch)

    count = BATCH + 3
    curve(Watching(), images(count), right(count), TARGET, torch.zeros(count, 1, SIDE, SIDE), steps=8)
    assert max(asked) == BATCH
    assert sum(asked) == count * 9


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=16, max_size=16))
def test_places_are_an_order_of_the_pixels_with_larger_ones_first(values):
    heatmap = torch.tensor(values).float().view(1, 1, 4, 4)
    place = ranks(heatmap)[0]
    assert sorted(place.tolist()) == list(range(16))
    ordered = heatmap.flatten()[place.argsort()]
    assert torch.equal(ordered, ordered.sort(descending=True).values)


def test_equal_pixels_do_not_go_from_the_top_down():
    place = ranks(torch.zeros(1, 1, 8, 8))[0].view(8, 8)
    assert 20 < place[:4].float().mean() < 43


def test_the_area_of_a_straight_line_is_one_half():
    assert float(area(torch.linspace(0, 1, 9)[None])) == pytest.approx(0.5)
