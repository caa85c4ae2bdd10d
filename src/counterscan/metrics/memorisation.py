"""Does a generator hand out its training images? How near made images come to them, beside how near other real ones do.

The distance of each made image to its nearest training image is compared with those of real images that were not
trained on: a generator that learned the distribution comes no nearer than they do, one that copies does. Where both
are alike, how many made images are nearer than the k-th nearest real one follows a negative hypergeometric law (Wilks,
1942), whatever the distances are; that gives the chance `p`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.stats import betabinom
from torch import Tensor

from counterscan.errors import CounterscanError
from counterscan.metrics.delong import delong
from counterscan.metrics.intervals import Estimate, bootstrap

PERCENTILES = (1, 5)
ROWS = 512  # distances are held for so many images a side at a time
DIRECT = "donot_use_mm_for_euclid_dist"
COPY = 0.25  # of the smallest real distance: what is nearer still is called a copy
ALARM = 0.001  # a chance below which nearness is no accident


@dataclass(frozen=True)
class Nearness:
    """How near made images come: `made` `(n,)` and `real` `(m,)` distances to the nearest image of one reference.

    `nearest` `(n,)` and `real_nearest` `(m,)` are that image's index. `shares` are, for each of the `PERCENTILES` of
    the real distances, the share of made images that are nearer than it, to be read beside the percentile itself;
    `chances` are how likely so many are if made images are as real ones. `closer` is the chance that a made image is
    nearer than a real one (a half). Few copies among many images change no share by much: `copied` counts those nearer
    than `COPY` of the smallest real distance.
    """

    made: np.ndarray = field(repr=False)
    real: np.ndarray = field(repr=False)
    nearest: np.ndarray = field(repr=False)
    real_nearest: np.ndarray = field(repr=False)
    limits: dict[int, float]
    shares: dict[int, Estimate]
    chances: dict[int, float]
    closer: Estimate

    @property
    def copied(self) -> int:
        """How many made images are far nearer than any real one."""
        return int((self.made < COPY * self.real.min()).sum())

    @property
    def alarming(self) -> bool:
        """Do more made images lie near than chance would put there?"""
        return min(self.chances.values()) < ALARM

    def to_dict(self) -> dict[str, Any]:
        """The form of the results; distances as medians only."""
        figures = {
            str(level): {**self.shares[level].to_dict(), "limit": self.limits[level], "p": self.chances[level]}
            for level in self.shares
        }
        medians = {"made": float(np.median(self.made)), "real": float(np.median(self.real))}
        told = {"n": len(self.made), "n_real": len(self.real), "copied": self.copied, "alarming": self.alarming}
        return {"nearer_than": figures, "closer": self.closer.to_dict(), "median_distance": medians, **told}


def nearness(
    made: Tensor, real: Tensor, reference: Tensor, patients: Sequence[str] = (), real_patients: Sequence[str] = ()
) -> Nearness:
    """How near the features `made` `(n, d)` and `real` `(m, d)` come to those of the `reference` `(r, d)`.

    `real` images must be other patients' than those of the reference, and at least two.
    """
    if len(real) < 2 or not len(made):
        raise CounterscanError(f"{len(made)} made and {len(real)} real images to compare; at least 1 and 2 are needed")
    return _compared(nearest(made, reference), nearest(real, reference), patients, real_patients)


def repeats(made: Tensor, real: Tensor, patients: Sequence[str] = (), real_patients: Sequence[str] = ()) -> Nearness:
    """How near images of a set come to one another: those `made` `(n, d)`, and the `real` `(m, d)`, to their own.

    Nearest neighbours come nearer in larger sets, so give as many of both.
    """
    if min(len(made), len(real)) < 3:
        raise CounterscanError(f"{len(made)} made and {len(real)} real images to compare; at least 3 are needed")
    return _compared(nearest(made, made, itself=True), nearest(real, real, itself=True), patients, real_patients)


def nearest(features: Tensor, reference: Tensor, *, itself: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Distance `(n,)` from each of `features` `(n, d)` to the nearest of `reference` `(r, d)`, and its index `(n,)`.

    `itself` says that both are one set, in which no image is its own neighbour.
    """
    features, reference = features.double(), reference.double()
    if features.ndim != 2 or reference.ndim != 2 or features.shape[1] != reference.shape[1] or not len(reference):
        raise CounterscanError(f"cannot compare features {tuple(features.shape)} with {tuple(reference.shape)}")
    distances = torch.full((len(features),), float("inf"), dtype=torch.float64)
    places = torch.zeros(len(features), dtype=torch.long)
    for start in range(0, len(features), ROWS):
        rows = slice(start, start + ROWS)
        for other in range(0, len(reference), ROWS):
            # not from products: those lose the digits that tell a copy from what is only near
            far = torch.cdist(features[rows], reference[other : other + ROWS], compute_mode=DIRECT)
            if itself and other == start:
                far.fill_diagonal_(float("inf"))
            found = far.min(1)
            nearer = found.values < distances[rows]
            distances[rows] = torch.where(nearer, found.values, distances[rows])
            places[rows] = torch.where(nearer, found.indices + other, places[rows])
    return distances.numpy(), places.numpy()


def _compared(
    found: tuple[np.ndarray, np.ndarray],
    others: tuple[np.ndarray, np.ndarray],
    patients: Sequence[str],
    real_patients: Sequence[str],
) -> Nearness:
    (made, index), (real, real_index) = found, others
    ordered = np.sort(real)
    ranks = {level: max(round(level / 100 * len(real)), 1) for level in PERCENTILES}
    limits = {level: float(ordered[rank - 1]) for level, rank in ranks.items()}
    shares = {level: bootstrap(made < limit, patients) for level, limit in limits.items()}
    chances = {level: _chance(int((made < limits[level]).sum()), len(made), ranks[level], len(real)) for level in ranks}
    named = [*_named("made", patients, len(made)), *_named("real", real_patients, len(real))]
    labels = np.repeat([1, 0], [len(made), len(real)])
    closer = delong(labels, -np.concatenate([made, real]), named)
    return Nearness(made, real, index, real_index, limits, shares, chances, closer)


def _chance(nearer: int, n: int, rank: int, m: int) -> float:
    """How likely it is that `nearer` or more of `n` made images lie below the `rank`-th smallest of `m` real ones."""
    return float(betabinom.sf(nearer - 1, n, rank, m - rank + 1))


def _named(kind: str, patients: Sequence[str], n: int) -> list[str]:
    return [f"{kind} {patient}" if patient else "" for patient in patients] or [""] * n
