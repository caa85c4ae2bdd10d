"""RISE: Petsiuk et al., RISE: Randomized Input Sampling for Explanation of Black-box Models, BMVC 2018, equation 6.

Changes: the paper's estimate E[f M(x)] / p is a constant offset plus what a pixel adds; here it is centred,
Cov(f, M(x)) / Var(M(x)), so that a pixel without effect is zero and one that speaks for the target is negative (and
cut). Hidden pixels take the median of the image's border, not grey: grey is not air. Masks are drawn once for the
batch, and their interpolation at the border repeats the last cell.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from counterscan.core import Classifier, Target
from counterscan.errors import CounterscanError
from counterscan.explainers.attribution.substrate import substrate
from counterscan.explainers.base import AttributionExplainer
from counterscan.registry import EXPLAINERS


@EXPLAINERS.register("rise")
@dataclass(frozen=True)
class RISE(AttributionExplainer):
    """How much more probable the finding is where a pixel is shown than where it is hidden, over random masks.

    `masks` are drawn on a coarse grid with `s` cells along each axis, each shown with probability `p`; hidden pixels
    take the value `fill` (None: the median of each image's border). `batch` masked images are asked at a time, and
    memory does not grow with `masks`. With `bfloat16` a torch classifier is asked in that precision, which is two to
    three times as fast on processors that have it and changes the map less than another seed does.
    """

    masks: int = 1000
    s: int = 7
    p: float = 0.5
    fill: float | None = None
    batch: int = 16
    bfloat16: bool = False

    def __post_init__(self) -> None:
        if self.masks < 2 or self.s < 2 or self.batch < 1 or not 0 < self.p < 1:
            raise CounterscanError(f"rise needs masks >= 2, s >= 2, batch >= 1 and 0 < p < 1, got {self}")

    @torch.no_grad()
    def run(self, classifier: Classifier, images: Tensor, target: Target) -> Tensor:
        """The slope `(b, 1, *spatial)` of the probability that the target is missed, per unit of mask."""
        spatial = tuple(images.shape[2:])
        fill = substrate(images, self.fill)
        shown = images.new_zeros(len(images), math.prod(spatial))  # sum of f (M - p)
        drawn = images.new_zeros(math.prod(spatial))  # sum of M - p: the part of a mean f that chance leaves
        total = images.new_zeros(len(images))  # sum of f
        for m in self._draw(spatial):
            m = m.to(images.device)
            f = torch.stack(
                [self._missed(classifier, x, value, m, target) for x, value in zip(images, fill, strict=True)]
            )
            deviation = m.flatten(1) - self.p
            shown += f @ deviation
            drawn += deviation.sum(0)
            total += f.sum(1)
        covariance = (shown - total[:, None] / self.masks * drawn) / (self.masks - 1)
        return covariance.reshape(-1, 1, *spatial) / mask_variance(spatial, self.s, self.p).to(images)

    def _missed(self, classifier: Classifier, x: Tensor, fill: Tensor, m: Tensor, target: Target) -> Tensor:
        """The probability `(n,)` that the target is missed by one image under each of n masks."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bfloat16):
            log_odds = classifier(fill + (x - fill) * m)
        return torch.sigmoid(-target.score(log_odds.float()))

    def _draw(self, spatial: tuple[int, ...]) -> Iterator[Tensor]:
        """All masks `(n, 1, *spatial)` in [0, 1], a batch at a time; the same ones whatever the batch."""
        axes = [axis_weights(side, self.s) for side in spatial]
        cells = torch.rand(self.masks, *[self.s] * len(spatial)) < self.p
        shifts = torch.stack([torch.randint(len(weights), (self.masks,)) for weights in axes])
        for start in range(0, self.masks, self.batch):
            m = cells[start : start + self.batch].float()
            for axis, weights in enumerate(axes):
                m = torch.einsum(
                    "n...g,nyg->n...y", m.movedim(axis + 1, -1), weights[shifts[axis, start : start + len(m)]]
                )
                m = m.movedim(-1, axis + 1)
            yield m[:, None]


def axis_weights(side: int, s: int) -> Tensor:
    """Weights `(shifts, side, s)` that stretch s cells over one axis linearly and shift them by up to a cell.

    As in the paper, s cells are stretched over s + 1 cells' room, of which `side` pixels are cut at a random place.
    """
    cell = math.ceil(side / s)
    place = torch.arange(side) + torch.arange(cell)[:, None]
    at = ((place + 0.5) * s / ((s + 1) * cell) - 0.5).clamp(0, s - 1)
    return (1 - (at[..., None] - torch.arange(s)).abs()).clamp_min(0)


def mask_variance(spatial: tuple[int, ...], s: int, p: float) -> Tensor:
    """The variance `(*spatial)` of a mask's value at each pixel, in closed form; its mean is p everywhere."""
    squares = [axis_weights(side, s).square().sum(2).mean(0) for side in spatial]
    variance = torch.full((), p * (1 - p))
    for square in squares:
        variance = variance[..., None] * square
    return variance
