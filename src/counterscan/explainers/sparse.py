"""Sparse visual counterfactuals (Boreiko et al., GCPR 2022, arXiv 2205.07972): auto-Frank-Wolfe in lp balls.

The classifier's answer climbs inside the part of an lp ball around the image that lies in the box [-1, 1]. With p just
above 1 few values may change, and much; with p = 4, as Ilanchezian et al. (2025, PLOS Digital Health 4(5) e0000853)
took for the retina, whole lesions may. The gradients of an ordinary classifier lead to changes that nobody can see;
those of one that was trained against such changes look like the finding, and can steer (`robust`).

Changes from the paper:
- what climbs is the log-odds of the target and not its log-confidence: it rises and falls with it, and its gradient
  does not vanish where the answer is certain (the authors' code raises the temperature there); of several classes asked
  for the one that lags most behind;
- a ladder of radii, each image keeping the smallest that reaches the target: `ladder=[1]` is the paper's single radius;
- `radius` is a mean over the values of an image, so that it means the same at every size;
- the linear problem over ball and box is solved to rounding in float64, by the set of values that the box holds back;
- with `robust` its gradient is pulled into a cone around the explained classifier's, as the retinal authors' code can;
  the paper explains robust classifiers by their own gradients;
- the random start depends on seed and image alone, not on the batch.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from counterscan.classifiers.companion import companion, steering
from counterscan.core import Classifier, Target
from counterscan.errors import CounterscanError
from counterscan.explainers.base import CounterfactualExplainer
from counterscan.priors.sampling import Noise
from counterscan.priors.steering import cone
from counterscan.registry import EXPLAINERS

LOWEST, HIGHEST = 1.01, 50  # of p: further off, powers of p leave float64's range (and p = 1 has no one solution)
HUGE = 1e300
Look = Callable[[Tensor], tuple[Tensor, Tensor]]  # images (b, c, ...) to what is to grow (b,) and its gradient
Vertex = Callable[[Tensor], Tensor]  # a gradient (b, c, ...) to the feasible images that go furthest along it


@EXPLAINERS.register("sparse")
@dataclass(frozen=True)
class Sparse(CounterfactualExplainer):
    """The counterfactual of the surest answer among all images within an lp distance.

    `robust` (a name or folder as for `--classifier`, or a Classifier; of the same classes) is a classifier trained
    against small changes, whose gradient is pulled into a cone of `degrees` around the explained one's; empty: the
    explained one's own gradients. The change has at most the size (mean |change| ** p) ** (1 / p) = `radius` times a
    factor of the `ladder`, in image units where the window is 2 wide; the mean is over all values of an image. Each
    factor is tried, the smallest first, on the images that none reached before: `steps` + 2 queries each. An image
    that no factor brings to the target gets what the largest one found.
    """

    needs_gradients: ClassVar[bool] = True

    robust: str | Path | Classifier = ""
    p: float = 1.5
    radius: float = 0.01
    ladder: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 4.0)
    steps: int = 75
    degrees: float = 30.0

    def __post_init__(self) -> None:
        if not LOWEST <= self.p <= HIGHEST:
            raise CounterscanError(f"sparse takes p from {LOWEST} to {HIGHEST}, not p={self.p}; the paper's is p=1.5")
        ladder = tuple(self.ladder) if isinstance(self.ladder, Sequence) else (self.ladder,)
        if not ladder or not all(self.radius * factor > 0 for factor in ladder) or self.steps < 1:
            raise CounterscanError(
                f"sparse needs radius > 0, steps >= 1 and factors of the radius > 0, for example ladder=[0.5,1,2], "
                f"got radius={self.radius}, steps={self.steps}, ladder={list(ladder)}"
            )
        if not 0 <= self.degrees < 90:
            raise CounterscanError(f"a cone of degrees={self.degrees} does not climb; choose 0 <= degrees < 90, as 30")
        object.__setattr__(self, "ladder", tuple(sorted(map(float, ladder))))
        _ = self._loaded  # a name that is mistyped is refused here

    def run(self, classifier: Classifier, images: Tensor, target: Target) -> Tensor:
        steers = [companion(one, classifier.card) for one in self._loaded]
        start = Noise.of(images, int(torch.randint(2**31, ())))(images)
        found, left = images.clone(), torch.arange(len(images), device=images.device)
        for factor in self.ladder:
            if not len(left):
                break
            found[left] = self._climb((classifier, *steers), images[left], target, start[left], factor)
            with torch.no_grad():
                left = left[~target.reached(classifier(found[left]))]
        return found

    def _climb(
        self, classifiers: Sequence[Classifier], images: Tensor, target: Target, start: Tensor, factor: float
    ) -> Tensor:
        norm = self.radius * factor * images[0].numel() ** (1 / self.p)
        explained, *robust = classifiers

        def look(points: Tensor) -> tuple[Tensor, Tensor]:
            score, slope = _score_and_slope(explained, points, target)
            for one in robust:
                slope = cone(_score_and_slope(one, points, target)[1], slope, self.degrees)
            return score, slope

        def vertex(gradient: Tensor) -> Tensor:
            return (images + furthest(gradient, images, self.p, norm)).clamp(-1, 1)

        return frank_wolfe(look, vertex, vertex(start), self.steps)

    @cached_property
    def _loaded(self) -> tuple[Classifier, ...]:
        return steering(self.robust)

    def __repr__(self) -> str:
        robust = str(self.robust) if isinstance(self.robust, str | Path) else self.robust.card.name
        return (
            f"Sparse(robust={robust!r}, p={self.p}, radius={self.radius}, ladder={self.ladder}, steps={self.steps}, "
            f"degrees={self.degrees})"
        )


def _score_and_slope(classifier: Classifier, points: Tensor, target: Target) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        given = points.detach().requires_grad_()
        score = target.score(classifier(given))
        (slope,) = torch.autograd.grad(score.sum(), given)  # images of a batch do not mix
    return score.detach(), slope


def furthest(gradient: Tensor, images: Tensor, p: float, norm: float) -> Tensor:
    """The change `(b, c, ...)` that goes furthest along `gradient`, of an lp norm of at most `norm`, inside the box.

    It is sign(w) min(room, (|w| / c) ** (1 / (p - 1))), with the one c for which the norm is `norm`, or the
    corner of the box where that lies inside the ball. The values that the box holds back are found by Newton's method,
    which on this concave, piecewise linear problem only ever adds to them, and ends with the solution itself.
    """
    w, x = gradient.double().flatten(1), images.double().flatten(1)
    room = torch.where(w > 0, 1 - x, 1 + x).clamp_min(0)
    unit = min(norm, 2.0)  # powers of sizes far from 1 leave float64's range
    caps, shares = (room / unit) ** p, _shares(w, p)
    held = torch.zeros_like(w, dtype=torch.bool)
    while True:
        budget = (norm / unit) ** p - torch.where(held, caps, 0).sum(1, keepdim=True)
        rest = torch.where(held, 0, shares).sum(1, keepdim=True)
        grown = shares * (budget.clamp_min(0) / rest.clamp_min(1 / HUGE)).clamp_max(HUGE)
        over = (grown > caps) & ~held
        if not over.any():
            break
        held |= over
    size = unit * torch.where(held, caps, grown) ** (1 / p)
    return (w.sign() * size.minimum(room)).view_as(gradient).to(gradient.dtype)


def _shares(w: Tensor, p: float) -> Tensor:
    """|w| ** (p / (p - 1)): how values `(b, n)` share norm ** p where the box holds none back, up to a factor a row."""
    logs = w.abs().log()
    highest = logs.amax(1, keepdim=True).clamp_min(-1000)  # a gradient that is nothing has no logarithm
    return ((logs - highest) * (p / (p - 1)) + 650).exp()


def frank_wolfe(look: Look, vertex: Vertex, start: Tensor, steps: int) -> Tensor:
    """Auto-Frank-Wolfe from feasible images `start` `(b, c, ...)`: for each image the best point of the way.

    Step k goes a / (2 + sqrt(k)) of the way to the vertex. At checkpoints a, at first 2, is lowered to three quarters
    for images that improved in too few steps, or not since the last checkpoint unless it was lowered there; those go on
    from their best point. `steps` + 1 looks.
    """
    points, (value, slope) = start, look(start)
    best = Best(points.clone(), value.clone(), slope.clone())
    size, rises = torch.full_like(value, 2.0), torch.zeros_like(value)
    before, lowered = value.clone(), torch.zeros_like(value, dtype=torch.bool)
    ends = dict(checkpoints(steps))
    for k in range(steps):
        points = points + _wide(size / (2 + math.sqrt(k)), points) * (vertex(slope) - points)
        last, (value, slope) = value, look(points)
        rises += value > last
        best.update(points, value, slope)
        if k + 1 in ends:
            lowered = (rises <= 0.75 * ends[k + 1]) | ((best.value <= before) & ~lowered)
            size = torch.where(lowered, 0.75 * size, size)
            points, value, slope = best.instead_of(points, value, slope, lowered)
            before, rises = best.value.clone(), torch.zeros_like(rises)
    return best.points


@dataclass
class Best:
    """For each image the best point seen, with its value and its gradient."""

    points: Tensor
    value: Tensor
    slope: Tensor

    def update(self, points: Tensor, value: Tensor, slope: Tensor) -> None:
        better = value > self.value
        self.points, self.value, self.slope = Best(points, value, slope).instead_of(
            self.points, self.value, self.slope, better
        )

    def instead_of(self, points: Tensor, value: Tensor, slope: Tensor, where: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The given ones, and for the images `where` `(b,)` these."""
        wide = _wide(where, points)
        return (
            torch.where(wide, self.points, points),
            torch.where(where, self.value, value),
            torch.where(wide, self.slope, slope),
        )


def checkpoints(steps: int) -> Iterator[tuple[int, int]]:
    """After how many steps there is a checkpoint, and how many lie since the last: 22 %, then ever fewer, to 6 %."""
    length, least, fewer = (max(1, int(share * steps)) for share in (0.22, 0.06, 0.03))
    end = length
    while end <= steps:
        yield end, length
        length = max(length - fewer, least)
        end += length


def _wide(values: Tensor, images: Tensor) -> Tensor:
    """`(b,)` as `(b, 1, ...)`, to be multiplied with images."""
    return values.view(-1, *[1] * (images.ndim - 1))
