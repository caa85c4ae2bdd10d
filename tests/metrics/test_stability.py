from dataclasses import dataclass

import pytest
import torch

from counterscan.core import Card, Target
from counterscan.explainers.base import AttributionExplainer
from counterscan.metrics.stability import sensitivity

CARD = Card(name="any", shape=(1, 16, 16), classes=("sick",))
TARGET = Target(((0, 0.0),))
IMAGES = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.5


class Constant:
    card, differentiable = CARD, True

    def __call__(self, images):
        return images.new_ones(len(images), 1)


@dataclass(frozen=True)
class Echo(AttributionExplainer):
    """The image itself as a map, enlarged; at gain 0 a map of ones."""

    gain: float

    def run(self, classifier, images, target):
        return torch.ones_like(images) + self.gain * images


class Nothing(AttributionExplainer):
    def run(self, classifier, images, target):
        return torch.zeros_like(images)


def measured(explainer, **settings):
    explanation = explainer(Constant(), IMAGES, TARGET)
    return sensitivity(explainer, Constant(), explanation, **settings)


def test_a_map_that_never_changes_is_stable():
    assert measured(Echo(0)).tolist() == [0, 0, 0]


def test_a_linear_map_changes_by_as_much_as_the_noise():
    found = measured(Echo(1), radius=0.01)
    expected = 0.02 / 3**0.5 * 16 / (1 + IMAGES).flatten(1).norm(dim=1)
    assert found.tolist() == pytest.approx(expected.tolist(), rel=0.2)
    assert (measured(Echo(1), radius=0.02) > 1.8 * found).all()


def test_it_replays_and_more_draws_find_no_smaller_change():
    assert torch.equal(measured(Echo(1), seed=4), measured(Echo(1), seed=4))
    assert (measured(Echo(1), draws=6) >= measured(Echo(1), draws=2)).all()


def test_an_empty_map_has_no_size_to_compare_with():
    assert measured(Echo(-1), radius=0.01).isfinite().all()
    assert measured(Nothing()).isnan().all()
