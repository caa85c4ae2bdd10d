"""What latents are moved towards: answers with a margin, and images that the generator's critic finds usual.

A hinge on the log-odds stops where the answer is sure enough; what goes on pushing (a cross-entropy) ends in textures
that only the one classifier believes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from counterscan.core import Target
from counterscan.explainers.latents.sphere import GeneratorPrior

MARGIN = 2.2  # log-odds beyond one half: a probability of 0.9
BETWEEN = 0.2  # the margin inside the borders of a probability that is neither 0 nor 1
USUAL, WISHED = 0.05, 0.15  # quantiles of the critic: below the first nothing is taken, at the second nothing pulls


@dataclass(frozen=True)
class Aim:
    """The answer that each row is to get: one of `targets` a row, all of one classifier's classes."""

    targets: Sequence[Target]
    margin: float = MARGIN

    def shortfall(self, log_odds: Tensor, rows: Tensor) -> Tensor:
        """What the log-odds `(b, k)` of `rows` `(b,)` lack `(b,)`, summed over the classes asked for; 0 is all well."""
        lacking = torch.zeros(len(rows))
        for target, places in self._groups(rows):
            lacking = lacking.index_add(0, places, lack(target, log_odds[places], self.margin))
        return lacking

    def score(self, log_odds: Tensor, rows: Tensor) -> Tensor:
        """The log-odds `(b,)` of `Target.score`, of each row for its own target."""
        found = torch.zeros(len(rows))
        for target, places in self._groups(rows):
            found = found.index_add(0, places, target.score(log_odds[places]))
        return found

    def _groups(self, rows: Tensor) -> list[tuple[Target, Tensor]]:
        kinds = self._kinds[rows]
        return [(self._distinct[kind], torch.nonzero(kinds == kind)[:, 0]) for kind in kinds.unique().tolist()]

    @cached_property
    def _distinct(self) -> list[Target]:
        return list(dict.fromkeys(self.targets))

    @cached_property
    def _kinds(self) -> Tensor:
        places = {target: place for place, target in enumerate(self._distinct)}
        return torch.tensor([places[target] for target in self.targets], dtype=torch.long)


def lack(target: Target, log_odds: Tensor, margin: float) -> Tensor:
    """How far `(b,)` the log-odds `(b, k)` stay short of `target` with a margin, summed over its classes."""
    short = []
    for index, p in target.wanted:
        wished = margin if p in (0, 1) else min(margin, BETWEEN)
        short.append((wished - Target(((index, p),)).score(log_odds)).clamp_min(0))
    return torch.stack(short).sum(0)


@dataclass(frozen=True)
class Usual:
    """How much less usual than its own random draws the generator's critic finds images, in spreads of their scores.

    `least` is the score below which an image counts as unusual, the 5th percentile of random draws.
    """

    least: float
    wished: float
    spread: float

    @classmethod
    def of(cls, generator: GeneratorPrior) -> "Usual":
        """From the quantiles that the generator knows of its critic."""
        low, high = generator.critic_quantile(0.25), generator.critic_quantile(0.75)
        return cls(generator.critic_quantile(USUAL), generator.critic_quantile(WISHED), max(high - low, 1e-6))

    def lack(self, scores: Tensor) -> Tensor:
        """How far `(b,)` the critic's `scores` `(b,)` stay below the score wished for; 0 is all well."""
        return (self.wished - scores).clamp_min(0) / self.spread
