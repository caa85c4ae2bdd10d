"""Two toy sets, of which one is told apart by its centre and one by a corner, and a classifier trained on each."""

import csv
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from counterscan.classifiers.torch import TorchClassifier
from counterscan.core import Card, Target
from counterscan.data.manifest import read_manifest
from counterscan.engine import Job
from counterscan.explainers.base import AttributionExplainer, CounterfactualExplainer

SIDE = 40
CARD = Card(name="toy", shape=(1, SIDE, SIDE), classes=("mark",))
TARGET = Target(((0, 0.0),))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 8, 5, stride=2, padding=2)
        self.second = nn.Conv2d(8, 16, 3, padding=1)
        self.head = nn.Linear(16, 1)

    def forward(self, images):
        return self.head(self.second(self.first(images).relu()).relu().mean((2, 3)))


class Sided(Net):
    """Knows nothing of the mark: it weighs the left half of an image against the right one."""

    def forward(self, images):
        features = self.second(self.first(images).relu()).relu()
        left, right = features.chunk(2, dim=3)
        return self.head(left.mean((2, 3)) - right.mean((2, 3)))


@dataclass(frozen=True)
class Edges(AttributionExplainer):
    """A map that ignores the classifier: where the image has edges."""

    def run(self, classifier, images, target):
        return F.pad((images[..., 1:, 1:] - images[..., :-1, :-1]).abs(), (0, 1, 0, 1))


@dataclass(frozen=True)
class Darker(CounterfactualExplainer):
    """A counterfactual that ignores the classifier: whatever is bright becomes grey."""

    def run(self, classifier, images, target):
        return images.clamp_max(0.0)


def drawn(n, place, seed):
    """Grey noise `(n, 1, SIDE, SIDE)` with dark spots, which any network sees, even one that learnt nothing.

    Every second image has a bright mark as well, in the `centre` or in a `corner`.
    """
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, 1, SIDE, SIDE, generator=generator) * 0.15 - 0.3
    for index in range(n):
        for row, column in torch.randint(6, 30, (6, 2), generator=generator).tolist():
            images[index, :, row : row + 4, column : column + 4] = -0.95
    for index in range(0, n, 2):
        row, column = torch.randint(10, 26, (2,), generator=generator).tolist() if place == "centre" else (0, 0)
        images[index, :, row : row + 4, column : column + 4] = 0.9
    return images.clamp(-1, 1), (torch.arange(n) % 2 == 0).float()


def trained(place):
    torch.manual_seed(1)
    net = Net()
    optimiser = torch.optim.Adam(net.parameters(), 0.01)
    for step in range(45):
        images, labels = drawn(32, place, step)
        loss = F.binary_cross_entropy_with_logits(net(images)[:, 0], labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return TorchClassifier(net.eval(), CARD)


@pytest.fixture(scope="session")
def classifiers():
    with torch.random.fork_rng(devices=[]):
        return {place: trained(place) for place in ("centre", "corner")}


@pytest.fixture(scope="session")
def shuffled():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return TorchClassifier(Sided().eval(), CARD)


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COUNTERSCAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def manifests(tmp_path_factory):
    """The two sets on disk, 60 images each, by place."""
    found = {}
    for place in ("centre", "corner"):
        root = tmp_path_factory.mktemp(place)
        images, labels = drawn(60, place, seed=999)
        rows = []
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            pixels = ((image[0] + 1) * 127.5).round().byte().numpy()
            Image.fromarray(np.asarray(pixels)).save(root / f"{index:02}.png")
            rows.append([f"{index:02}.png", int(label), f"p{index}"])
        with (root / "labels.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["path", "mark", "patient_id"], *rows])
        found[place] = read_manifest(root)
    return found


@pytest.fixture
def job(classifiers, manifests, tmp_path):
    """A job for an explainer, on the toy set with its mark at `place`."""

    def build(explainer, place="centre", classifier=None):
        return Job(
            manifest=manifests[place],
            classifier=classifier or classifiers[place],
            explainer=explainer,
            target=TARGET,
            out=tmp_path / "out",
        )

    return build


@pytest.fixture
def edges():
    """An attribution that ignores the classifier."""
    return Edges()


@pytest.fixture
def darker():
    """A counterfactual explainer that ignores the classifier."""
    return Darker()


@pytest.fixture
def target():
    """No mark."""
    return TARGET
