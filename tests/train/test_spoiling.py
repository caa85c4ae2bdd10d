"""A spoilt batch says truly where it is spoilt and what it was, and healthy grafts are to be left alone."""

import pytest
import torch
from torch import nn

from counterscan.classifiers.torch import TorchClassifier
from counterscan.core import Card
from counterscan.train.spoiling import ERASED, GRAFTED, HARMLESS, Spoiler

CLASSIFIER = TorchClassifier(
    nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.AdaptiveMaxPool2d(1), nn.Flatten()),
    Card(name="toy", shape=(1, 64, 64), classes=("spot", "other")),
)


@pytest.fixture(scope="module")
def batch():
    torch.manual_seed(0)
    healthy = torch.rand(20, 1, 64, 64) * 0.2
    abnormal, seen = healthy[:10].clone(), torch.zeros(10, 1, 64, 64)
    abnormal[..., 20:30, 20:30] = 0.9
    seen[..., 20:30, 20:30] = 1.0
    return Spoiler(CLASSIFIER)(abnormal, seen, healthy, 20, torch.tensor([1.0, 0.0])), healthy


def test_there_are_as_many_as_healthy_ones(batch):
    spoilt, healthy = batch
    assert spoilt.images.shape == spoilt.whole.shape == healthy.shape
    assert spoilt.where.shape == (20, 1, 64, 64)
    assert spoilt.images.abs().max() <= 1


def test_grafts_show_the_finding_and_holes_show_nothing(batch):
    (images, where, whole), _ = batch
    n, m = round(GRAFTED * 20), round(ERASED * 20)
    assert (images[:n].amax((1, 2, 3)) == 0.9).all()
    inside = images[n : n + m][where[n : n + m] > 0.3]
    assert set(inside.tolist()) == {-0.5, 0.5}
    assert (whole[: n + m] <= 0.2).all()


def test_harmless_grafts_are_as_they_should_be(batch):
    (images, where, whole), healthy = batch
    first, last = round((GRAFTED + ERASED) * 20), round((GRAFTED + ERASED + HARMLESS) * 20)
    assert torch.equal(images[first:last], whole[first:last])
    assert where[first:last].max() == 0
    assert not any((one == healthy).flatten(1).all(1).any() for one in images[first:last])


def test_nothing_is_spoilt_elsewhere(batch):
    (images, where, whole), _ = batch
    near = nn.functional.max_pool2d(where, 15, 1, 7) > 0  # tissue that is pushed aside moves a little
    torch.testing.assert_close(images[~near], whole[~near], atol=1e-4, rtol=0)
