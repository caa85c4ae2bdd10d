"""How far made images are from real ones as sets: the Frechet distance of features (Heusel et al., 2017, 1706.08500).

d^2 = |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)) between Gaussians fitted to the features of both sets. It is biased
upwards in small sets, the more so the more features there are; so compare figures of equal sizes only, and beside what
real images reach against real ones. Changes: features are whatever is given, not Inception's.
"""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from counterscan.errors import CounterscanError


class FeatureStatistics:
    """Mean and covariance of features that come in batches, in float64; memory does not grow with their number.

    Batches are merged by Chan's update (Chan, Golub and LeVeque, 1983), which loses no digits where the mean is large.
    """

    def __init__(self) -> None:
        self.n = 0
        self.mean = torch.zeros(0, dtype=torch.float64)
        self._scatter = torch.zeros(0, 0, dtype=torch.float64)

    def add(self, features: Tensor) -> None:
        """Take in features `(b, d)`; CounterscanError for another `d` than before, or values that are not finite."""
        batch = features.detach().cpu().double()
        if batch.ndim != 2 or (self.n and batch.shape[1] != len(self.mean)) or not torch.isfinite(batch).all():
            wanted = f"(b, {len(self.mean)})" if self.n else "(b, d)"
            raise CounterscanError(f"expected finite features {wanted}, got {tuple(features.shape)}")
        if not len(batch):
            return
        mean = batch.mean(0)
        centred = batch - mean
        scatter = centred.T @ centred
        if not self.n:
            self.n, self.mean, self._scatter = len(batch), mean, scatter
            return
        shift, total = mean - self.mean, self.n + len(batch)
        self._scatter = self._scatter + scatter + torch.outer(shift, shift) * (self.n * len(batch) / total)
        self.mean = self.mean + shift * (len(batch) / total)
        self.n = total

    @property
    def covariance(self) -> Tensor:
        """The unbiased covariance `(d, d)`; CounterscanError below two images."""
        if self.n < 2:
            raise CounterscanError(f"a covariance needs two images or more, got {self.n}; measure more images")
        return self._scatter / (self.n - 1)

    @property
    def short(self) -> bool:
        """Whether there are too few images for the covariance to have full rank."""
        return self.n <= len(self.mean)


def frechet_distance(real_features: Tensor | FeatureStatistics, fake_features: Tensor | FeatureStatistics) -> float:
    """The squared Frechet distance of two sets of features `(n, d)`, or of their statistics; 0 for equal ones.

    Warns where a set has no more images than features: its covariance is then singular and the distance mostly bias.
    """
    real, fake = (_statistics(features) for features in (real_features, fake_features))
    if len(real.mean) != len(fake.mean):
        raise CounterscanError(f"cannot compare {len(real.mean)} features with {len(fake.mean)}; use one network's")
    first, second = real.covariance, fake.covariance
    if real.short or fake.short:
        warnings.warn(
            f"{min(real.n, fake.n)} images for {len(real.mean)} features: the Frechet distance is mostly bias; compare "
            "it with real images' own at the same size",
            stacklevel=2,
        )
    root = _root(first)
    # tr (C C')^(1/2) from a symmetric product of the same eigenvalues, which stays real where C is singular
    shared = torch.linalg.eigvalsh(root @ second @ root).clamp_min(0).sqrt().sum()
    distance = (real.mean - fake.mean).square().sum() + first.trace() + second.trace() - 2 * shared
    return max(float(distance), 0.0)


class SplitStatistics:
    """The split Frechet distance of images `x` and counterfactuals `x'` made from them, which come in batches.

    A counterfactual shares most pixels with its own image, which flatters the distance between the two sets. So the
    patients are dealt out to two halves, the images of one half are compared with the counterfactuals of the other,
    and both ways are averaged (sFID of Jeanneret et al., 2023, 2303.09962). Changes: halves are of patients, in turn
    as they come, so that no patient is on both sides and the halves are of one size.
    """

    def __init__(self) -> None:
        self.real = (FeatureStatistics(), FeatureStatistics())
        self.fake = (FeatureStatistics(), FeatureStatistics())
        self._half: dict[str, int] = {}

    def add(self, real: Tensor, fake: Tensor, patients: Sequence[str] = ()) -> None:
        """Take in features `(b, d)` of images and of what was made from each; `patients` `(b,)` says whose they are."""
        if real.shape != fake.shape:
            raise CounterscanError(
                f"features {tuple(real.shape)} and {tuple(fake.shape)} do not pair; give one of each"
            )
        halves = torch.tensor([self._of(patient) for patient in list(patients) or [""] * len(real)], dtype=torch.long)
        for half in (0, 1):
            self.real[half].add(real[halves == half])
            self.fake[half].add(fake[halves == half])

    def _of(self, patient: str) -> int:
        key = f"p{patient}" if patient else f"i{len(self._half)}"  # without a name an image is its own patient
        return self._half.setdefault(key, len(self._half) % 2)

    @property
    def distance(self) -> float:
        """Half the sum of both crossed distances; CounterscanError where a half has fewer than two images."""
        return (frechet_distance(self.real[0], self.fake[1]) + frechet_distance(self.real[1], self.fake[0])) / 2

    @property
    def floor(self) -> float:
        """What the real images of one half reach against those of the other: the same sizes, and nothing made."""
        return frechet_distance(*self.real)


def _statistics(features: Tensor | FeatureStatistics) -> FeatureStatistics:
    if isinstance(features, FeatureStatistics):
        return features
    found = FeatureStatistics()
    found.add(features)
    return found


def _root(matrix: Tensor) -> Tensor:
    """The symmetric root of a covariance."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T
