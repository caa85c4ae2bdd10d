"""A generator whose map from latents to images is known exactly, for the tests of all that moves latents."""

import pickle
from functools import cached_property

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from counterscan.classifiers.torch import TorchClassifier
from counterscan.core import Card
from counterscan.engine.work import Hands
from counterscan.priors.generator import on_sphere

SIDE, TILES, PIXELS = 4, 16, 4  # tiles a side, tiles, pixels a tile


class Tiles:
    """Makes 16 x 16 pixels of 16 latents: each is the brightness of one tile. The critic dislikes a bright mean."""

    card = Card(name="tiles", kind="generator", shape=(1, SIDE * PIXELS, SIDE * PIXELS), classes=())
    latents = TILES

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        return on_sphere(torch.randn(n, TILES, generator=generator))

    def __call__(self, latents: Tensor) -> Tensor:
        tiles = torch.tanh(on_sphere(latents) / 4).view(-1, 1, SIDE, SIDE)
        return functional.interpolate(tiles, scale_factor=PIXELS)

    def critic(self, images: Tensor) -> Tensor:
        return -images.flatten(1).mean(1).square()

    def critic_quantile(self, q: float) -> float:
        return float(torch.quantile(self.scores, q))

    @cached_property
    def scores(self) -> Tensor:
        return self.critic(self(self.draw(2000, torch.Generator().manual_seed(1))))


class Bright(nn.Module):
    """Says of the first `classes` tiles whether they are bright; `bias` makes it disagree with another one."""

    def __init__(self, classes: int, bias: float = 0.0):
        super().__init__()
        self.readout = nn.Linear(TILES, classes)
        nn.init.zeros_(self.readout.weight)
        nn.init.constant_(self.readout.bias, bias)
        with torch.no_grad():
            self.readout.weight[:, :classes] = 12 * torch.eye(classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.readout(functional.avg_pool2d(images, PIXELS).flatten(1))


@pytest.fixture
def tiles():
    return Tiles()


@pytest.fixture
def bright():
    """A function that answers a classifier of the first tiles, whose classes are called a, b, c."""

    def build(classes: int = 3, bias: float = 0.0, **card):
        known = {"name": "bright", "shape": Tiles.card.shape, "classes": tuple("abcdef"[:classes])}
        return TorchClassifier(Bright(classes, bias).eval(), Card(**known | card))

    return build


class Elsewhere:
    """An engine that treats work as other processes do, in this one: all is pickled, and comes in another order."""

    def __init__(self, ahead: int = 3):
        self.ahead = ahead
        self.tasks = []

    def __call__(self, work, take):
        hands = Hands(work.packed())
        while tasks := [task for _ in range(self.ahead) if (task := take()) is not None]:
            self.tasks += tasks
            for task in reversed(tasks):
                yield task, pickle.loads(pickle.dumps(hands(pickle.loads(pickle.dumps(task))))).opened()


@pytest.fixture
def elsewhere():
    """Builds an engine that takes so many tasks ahead."""
    return Elsewhere
