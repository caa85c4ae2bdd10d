"""Does a set of made images look real, and is it as varied? Nearest neighbours in features answer apart.

Precision and recall (Kynkaanniemi et al., 2019, 1904.06991, eq. 1 to 3): the share of made images inside the union of
balls around the real ones that reach their k-th neighbour, and of real ones inside that of the made ones. Density and
coverage (Naeem et al., 2020, 2002.09797, eq. 3 and 4): in how many such balls around real images a made one lies, over
k, and the share of those balls that hold one. Between sets of one distribution the density is 1 on average, and the
coverage `expected_coverage`; precision and recall depend on both sizes. Changes: intervals, over the images that the
mean is taken of, the other set held fixed.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from counterscan.errors import CounterscanError
from counterscan.metrics.intervals import Estimate, bootstrap

RECALL_K, COVERAGE_K = 3, 5  # the papers' neighbours
ROWS = 512  # distances are held for so many images at a time


def precision_recall(
    real_features: Tensor,
    fake_features: Tensor,
    real_patients: Sequence[str] = (),
    fake_patients: Sequence[str] = (),
    *,
    k: int = RECALL_K,
) -> dict[str, Estimate]:
    """`precision` and `recall`, each in [0, 1], of features `(n, d)` of real and `(m, d)` of made images."""
    real, fake = _pair(real_features, fake_features, k)
    inside_real = _balls(fake, real, _radii(real, k))[0] > 0
    inside_fake = _balls(real, fake, _radii(fake, k))[0] > 0
    return {
        "precision": bootstrap(inside_real.numpy(), fake_patients),
        "recall": bootstrap(inside_fake.numpy(), real_patients),
    }


def density_coverage(
    real_features: Tensor,
    fake_features: Tensor,
    real_patients: Sequence[str] = (),
    fake_patients: Sequence[str] = (),
    *,
    k: int = COVERAGE_K,
) -> dict[str, Estimate]:
    """`density`, which may pass 1, and `coverage` in [0, 1], of features `(n, d)` real and `(m, d)` made."""
    real, fake = _pair(real_features, fake_features, k)
    holding, held = _balls(fake, real, _radii(real, k))
    return {
        "density": bootstrap((holding / k).numpy(), fake_patients),
        "coverage": bootstrap((held > 0).numpy(), real_patients),
    }


def expected_coverage(n: int, m: int, k: int = COVERAGE_K) -> float:
    """What the coverage of `n` real images by `m` made ones is on average where both are of one distribution."""
    return 1 - prod((n - i) / (n + m - i) for i in range(1, k + 1))


def _pair(real: Tensor, fake: Tensor, k: int) -> tuple[Tensor, Tensor]:
    real, fake = real.detach().cpu().double(), fake.detach().cpu().double()
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise CounterscanError(f"cannot compare features {tuple(real.shape)} with {tuple(fake.shape)}; want (n, d)")
    if min(len(real), len(fake)) <= k:
        raise CounterscanError(
            f"{k} neighbours need more than {k} images a side, got {len(real)} real and {len(fake)} made; measure more"
        )
    centre = real.mean(0)  # distances come from products, which lose digits far from the origin
    return real - centre, fake - centre


def _squared(first: Tensor, second: Tensor) -> Tensor:
    return (first.square().sum(1)[:, None] + second.square().sum(1) - 2 * first @ second.T).clamp_min(0)


def _radii(features: Tensor, k: int) -> Tensor:
    """The squared distance `(n,)` from each image to its k-th neighbour in its own set, itself not counted."""
    return torch.cat(
        [_squared(rows, features).topk(k + 1, largest=False).values[:, k] for rows in features.split(ROWS)]
    )


def _balls(points: Tensor, centres: Tensor, radii: Tensor) -> tuple[Tensor, Tensor]:
    """In how many balls each point `(m,)` lies, and how many points each ball `(n,)` holds."""
    holding, held = [], torch.zeros(len(centres), dtype=torch.float64)
    for rows in points.split(ROWS):
        inside = (_squared(rows, centres) <= radii).double()
        holding.append(inside.sum(1))
        held += inside.sum(0)
    return torch.cat(holding), held
