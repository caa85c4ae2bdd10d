"""Attention finds what the classifier answers to, and nothing where the classifier is content."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from counterscan.classifiers.torch import TorchClassifier
from counterscan.core import Card, Target
from counterscan.train.attention import Attention


class Brightest(nn.Module):
    """Answers with the brightest spot, at three resolutions on the way."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(1, 1, 1) for _ in range(3))
        for part in (self.first, self.second, self.third):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)

    def forward(self, x):
        for part in (self.first, self.second, self.third):
            x = part(F.avg_pool2d(x, 2))
        return 10 * (x.amax((2, 3)) - 0.3)


@pytest.fixture
def classifier():
    return TorchClassifier(Brightest(), Card(name="toy", shape=(1, 64, 64), classes=("spot",)))


def test_it_is_where_the_finding_is(classifier):
    images = torch.zeros(2, 1, 64, 64)
    images[0, :, 16:24, 40:48] = 0.9
    where, there = Attention(classifier)(images, Target(((0, 0.0),)))
    assert where.shape == images.shape
    assert there.tolist() == [True, False]
    assert where[0, :, 18:22, 42:46].min() > 0.5
    assert where[0, :, 32:].max() == 0
    assert where[0, :, :, :32].max() == 0


def test_what_the_classifier_does_not_see_has_no_place(classifier):
    images = torch.zeros(1, 1, 64, 64)
    images[0, :, 16:24, 40:48] = 0.1
    where, there = Attention(classifier)(images, Target(((0, 0.0),)))
    assert where.max() == 0
    assert not there.any()
