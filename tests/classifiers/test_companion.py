"""A classifier beside the explained one answers the same questions about the same images, or is refused."""

import pytest
import torch
from torch import nn

from counterscan.classifiers.companion import companion, steering
from counterscan.classifiers.torch import TorchClassifier
from counterscan.classifiers.wrappers import BlackBox
from counterscan.core import Card
from counterscan.errors import ClassifierError, NeedsGradients, UnknownName

CARD = Card(name="explained", shape=(1, 8, 8), classes=("a", "b"), window=(0.0, 255.0, ""))


def mean(**facts):
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(facts.pop("channels", 1), 2))
    return TorchClassifier(network, CARD.model_copy(update={"name": "other", **facts}))


def test_one_of_the_same_kind_is_taken_as_it_is():
    other = mean()
    assert companion(other, CARD) is other


def test_one_of_another_size_and_channels_is_fitted():
    fitted = companion(mean(channels=3, shape=(3, 16, 16)), CARD)
    assert fitted(torch.zeros(2, 1, 8, 8)).shape == (2, 2)


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ({"classes": ("b", "a")}, "over b, a, but explained multilabel over a, b"),
        ({"output": "softmax"}, "other answers softmax"),
        ({"window": (-160.0, 240.0, "HU")}, "sees the window"),
    ],
)
def test_one_of_other_questions_or_grey_levels_is_refused(facts, line):
    with pytest.raises(ClassifierError, match=line):
        companion(mean(**facts), CARD)


def test_what_steers_gives_gradients():
    other = mean()
    assert steering(other) == (other,)
    assert steering("") == ()
    with pytest.raises(NeedsGradients, match="gives no gradients"):
        steering(BlackBox(other))
    with pytest.raises(UnknownName, match="no classifier is called"):
        steering("fundus/robusd")
