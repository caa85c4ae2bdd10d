"""Generators: priors that make an image of nothing but a draw of numbers (progressively growing GAN, 1710.10196).

The critic that a generator was trained against is kept beside it: how it scores an image, next to how it scores the
generator's own draws, tells whether the image is of the usual kind.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterscan.core import Card
from counterscan.errors import CounterscanError
from counterscan.nets.blocks import channels_last
from counterscan.nets.precision import reduced
from counterscan.priors.loading import check_shape, load_own

NETWORK = "growing-gan"
QUANTILES = 101  # of the critic's scores that a card holds: 0 %, 1 %, ... 100 %


class Generator:
    """Makes images of its card's shape from latents `(n, latents)`, which count by their direction alone.

    Everything is differentiable in what it is given (the weights are frozen), in reduced precision inside
    and float32 outside, and in one batch: who asks for many images asks in chunks.
    """

    def __init__(self, module: nn.Module, card: Card):
        self.module, self.card = module, card
        self.latents = int(card.settings["latents"])

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Latents `(n, latents)`, evenly drawn from the sphere of radius sqrt(latents)."""
        return on_sphere(torch.randn(n, self.latents, generator=generator))

    def __call__(self, latents: Tensor) -> Tensor:
        """Images `(n, c, h, w)` in [-1, 1]; CounterscanError where `latents` are not `(n, latents)`."""
        if latents.ndim != 2 or latents.shape[1] != self.latents:
            raise CounterscanError(
                f"{self.card.name} takes latents (n, {self.latents}), these are {tuple(latents.shape)}; draw() them"
            )
        with reduced(latents.device):
            return self.module.generator(latents).float().clamp(-1, 1)  # type: ignore[operator]

    def critic(self, images: Tensor) -> Tensor:
        """How usual images `(n, c, h, w)` are: scores `(n,)`, larger for what is more like the training images.

        They compare with each other and with `critic_quantile`, and mean nothing else. Each image is scored alone.
        """
        check_shape(images, self.card, "scores")
        with reduced(images.device):
            return self.module.critic(channels_last(images))  # type: ignore[operator]

    def critic_quantile(self, q: float) -> float:
        """The score that a share `q` in [0, 1] of the generator's own random draws stays below, by its card."""
        known = torch.tensor(self.card.settings["critic_quantiles"])
        return float(torch.quantile(known, q))


def on_sphere(latents: Tensor) -> Tensor:
    """Latents `(n, d)` brought to length sqrt(d), where standard normal ones lie anyway."""
    return F.normalize(latents, dim=1) * latents.shape[1] ** 0.5


def load_generator(name: str | Path) -> Generator:
    """The generator of a shipped name (`chest/growing-gan`) or of a folder with a card.

    Raises WeightsError where it is none, where its weights are not finite, and where its card lacks the quantiles of
    its critic.
    """
    module, card = load_own(name, "generator", NETWORK, "critic_quantiles")
    return Generator(module, card)
