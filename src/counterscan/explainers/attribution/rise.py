"""RISE: Petsiuk et al., RISE: Randomized Input Sampling for Explanation of Black-box Models, BMVC 2018, equation 6.

Changes: the paper's estimate E[f M(x)] / p is a constant offset plus what a pixel adds; here it is centred,
Cov(f, M(x)) / Var(M(x)), so that a pixel without effect is zero and one that speaks for the target is negative (and
cut). Hidden pixels take the median of the image's border, not grey: grey is not air. Masks are drawn once for the
batch, and their interpolation at the border repeats the last cell. It may stop before the last mask.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from counterscan.core import Classifier, Target
from counterscan.errors import CounterscanError
from counterscan.explainers.attribution.evidence import asker
from counterscan.explainers.attribution.substrate import substrate
from counterscan.explainers.base import AttributionExplainer
from counterscan.progress import within
from counterscan.registry import EXPLAINERS

BLOCK = 64  # masks drawn at a time, whatever the batch; blocks belong in turn to one half of the masks or the other


@EXPLAINERS.register("rise")
@dataclass(frozen=True)
class RISE(AttributionExplainer):
    """How much more probable the finding is where a pixel is shown than where it is hidden, over random masks.

    At most `masks` are drawn on a coarse grid with `s` cells along each axis, each shown with probability `p`; hidden
    pixels take the value `fill` (None: the median of each image's border). An image is done sooner where the standard
    error of its map is at most `converged` of the map's range (0: never). `batch` masked images are asked at a time,
    and memory does not grow with `masks`. With `bfloat16` a torch classifier is asked in that precision, which is
    about twice as fast on processors that have it and changes the map less than another seed does.
    """

    masks: int = 1000
    s: int = 7
    p: float = 0.5
    fill: float | None = None
    batch: int = 16
    bfloat16: bool = False
    converged: float = 0.05

    def __post_init__(self) -> None:
        if self.masks < 2 or self.s < 2 or self.batch < 1 or not 0 < self.p < 1 or not 0 <= self.converged < 1:
            raise CounterscanError(
                f"rise needs masks >= 2, s >= 2, batch >= 1, 0 < p < 1 and 0 <= converged < 1, got {self}"
            )

    @torch.no_grad()
    def run(self, classifier: Classifier, images: Tensor, target: Target) -> Tensor:
        """The slope `(b, 1, *spatial)` of the probability that the target is missed, per unit of mask.

        A query a mask: of one image, `queries` in `meta` tells how many masks there were.
        """
        spatial = tuple(images.shape[2:])
        variance = mask_variance(spatial, self.s, self.p).to(images).flatten()
        fill, ask = substrate(images, self.fill), asker(classifier, self.bfloat16)
        halves = _Sums.none(images), _Sums.none(images)
        slopes = images.new_zeros(len(images), math.prod(spatial))
        going = torch.arange(len(images))
        for block, start in enumerate(range(0, self.masks, BLOCK)):
            drawn = min(start + BLOCK, self.masks)
            for m in self._block(spatial, drawn - start):
                m = m.to(images.device)
                f = torch.stack([torch.sigmoid(-target.score(ask(_shown(images[i], fill[i], m)))) for i in going])
                halves[block % 2].add(going, f, m.flatten(1) - self.p)
                within(start + len(m), self.masks, "masks")
            slopes[going] = (halves[0] + halves[1]).covariance(going) / variance
            if block % 2 and self.converged:
                error = (halves[0].covariance(going) - halves[1].covariance(going)) / variance / 2
                span = slopes[going].amax(1) - slopes[going].amin(1)
                going = going[error.square().mean(1).sqrt() > self.converged * span]
            if not len(going):
                break
        return slopes.reshape(-1, 1, *spatial)

    def _block(self, spatial: tuple[int, ...], count: int) -> Iterator[Tensor]:
        """The next `count` masks `(n, 1, *spatial)` in [0, 1], a batch at a time; the same ones whatever the batch."""
        axes = [axis_weights(side, self.s) for side in spatial]
        cells = torch.rand(BLOCK, *[self.s] * len(spatial)) < self.p
        shifts = torch.stack([torch.randint(len(weights), (BLOCK,)) for weights in axes])
        for some in torch.arange(count).split(self.batch):
            m = cells[some].float()
            for axis, weights in enumerate(axes):
                m = torch.einsum("n...g,nyg->n...y", m.movedim(axis + 1, -1), weights[shifts[axis, some]])
                m = m.movedim(-1, axis + 1)
            yield m[:, None]


@dataclass
class _Sums:
    """What a covariance over masks needs, for some images: with d = M - p, sums over n masks, flat in the pixels."""

    n: int
    fd: Tensor  # (b, pixels), each image's own
    f: Tensor  # (b,)
    d: Tensor  # (pixels,): the part of a mean f that chance leaves

    @classmethod
    def none(cls, images: Tensor) -> Self:
        pixels = math.prod(images.shape[2:])
        return cls(0, images.new_zeros(len(images), pixels), images.new_zeros(len(images)), images.new_zeros(pixels))

    def add(self, rows: Tensor, f: Tensor, d: Tensor) -> None:
        """Count in answers `(rows, n)` to n masks; images left out once are not asked for again."""
        self.n += len(d)
        self.fd[rows] += f @ d
        self.f[rows] += f.sum(1)
        self.d += d.sum(0)

    def __add__(self, other: "_Sums") -> "_Sums":
        return _Sums(self.n + other.n, self.fd + other.fd, self.f + other.f, self.d + other.d)

    def covariance(self, rows: Tensor) -> Tensor:
        """Cov(f, M) of the images `rows`, `(rows, pixels)`."""
        return (self.fd[rows] - self.f[rows, None] / self.n * self.d) / (self.n - 1)


def _shown(x: Tensor, fill: Tensor, m: Tensor) -> Tensor:
    """One image `(c, *spatial)` under each of n masks, `(n, c, *spatial)`."""
    return torch.addcmul(fill, x - fill, m)


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
