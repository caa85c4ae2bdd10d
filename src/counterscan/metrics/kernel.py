"""How far made images are from real ones as sets: the kernel distance of features (Binkowski et al., 2018, 1801.01401).

The unbiased squared maximum mean discrepancy (Gretton et al., 2012, JMLR 13, eq. 3) with k(a, b) = (a.b / d + 1)^3:
zero on average where both sets come from one distribution, whatever their sizes, and so at times below zero. Changes:
the value is the mean over disjoint blocks of at most `BLOCK` images a side, all pairs within a block (the B-test of
Zaremba et al., 2013), so that memory is flat. Published code draws overlapping subsets and reports their standard
deviation, which is no error of the mean; here it is the jackknife over patients (Efron and Stein, 1981), which is too
large rather than too small.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from counterscan.errors import CounterscanError
from counterscan.metrics.intervals import Estimate, patient_groups

DEALS = 200  # of real images to two sides, whose distances are what chance gives
MOST = 2000  # real images that are dealt out
BLOCK = 1000  # images a side whose pairs are compared at once: three matrices of 8 MB
WIDTH = 1.96  # standard errors on either side that make a 95 % interval


@dataclass(frozen=True)
class KernelDistance:
    """The `value`, its standard `error`, and how many made (`n`) and real (`n_real`) images it was taken from."""

    value: float
    error: float
    n: int
    n_real: int

    @property
    def estimate(self) -> Estimate:
        """The value with its 95 % interval, `WIDTH` standard errors to each side."""
        return Estimate(self.value, self.value - WIDTH * self.error, self.value + WIDTH * self.error, self.n)


@dataclass
class KernelBlocks:
    """The kernel distance of sets that come block by block; nothing is kept of a block but three numbers."""

    _parts: list[tuple[float, float, int, int]] = field(default_factory=list)

    def add(
        self, real: Tensor, fake: Tensor, real_patients: Sequence[str] = (), fake_patients: Sequence[str] = ()
    ) -> None:
        """Compare one block of real features `(n, d)` with one of made ones `(m, d)`; sides below two have no pairs."""
        real, fake = real.detach().cpu().double(), fake.detach().cpu().double()
        if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
            raise CounterscanError(f"cannot compare features {tuple(real.shape)} with {tuple(fake.shape)}; want (n, d)")
        if not (torch.isfinite(real).all() and torch.isfinite(fake).all()):
            raise CounterscanError("features hold NaN or infinity; check the images and the network they come from")
        if min(len(real), len(fake)) >= 2:
            value, variance = _compared(real, fake, real_patients, fake_patients)
            self._parts.append((value, variance, len(real), len(fake)))

    def result(self) -> KernelDistance:
        """The mean over the blocks, weighted by the smaller side; CounterscanError if no block had a pair a side."""
        if not self._parts:
            raise CounterscanError("a kernel distance needs two real and two made images or more; measure more images")
        values, variances, reals, fakes = (np.array(column, dtype=float) for column in zip(*self._parts, strict=True))
        weights = np.minimum(reals, fakes) / np.minimum(reals, fakes).sum()
        error = float(np.sqrt((weights**2 * variances).sum()))
        return KernelDistance(float(weights @ values), error, int(fakes.sum()), int(reals.sum()))


def kernel_distance(
    real_features: Tensor,
    fake_features: Tensor,
    real_patients: Sequence[str] = (),
    fake_patients: Sequence[str] = (),
    *,
    block: int = BLOCK,
) -> KernelDistance:
    """The unbiased kernel distance of features `(n, d)` of real and `(m, d)` of made images, with its standard error.

    Of a longer set only as many blocks are used as the other has. Patients `(n,)` and `(m,)` name whose images they
    are, so that the error counts patients and not images; without names every image stands for itself. The two sets
    are taken for independent: compare counterfactuals with other images than those that they were made from.
    """
    blocks = KernelBlocks()
    for start in range(0, min(len(real_features), len(fake_features)), block):
        part = slice(start, start + block)
        blocks.add(real_features[part], fake_features[part], real_patients[part], fake_patients[part])
    return blocks.result()


def kernel_floor(
    features: Tensor, sizes: tuple[int, int], patients: Sequence[str] = (), *, deals: int = DEALS, seed: int = 0
) -> np.ndarray:
    """Kernel distances `(deals,)` between real images and other real ones: what chance gives at these `sizes`.

    Patients are dealt out to two sides anew each time; either side has as many images as asked for, or as there are.
    Of `features` `(m, d)` an even draw of `MOST` is dealt out. A distance that passes most of these is no accident;
    their mean is 0, so a single one, which may be negative, is nothing to divide by.
    """
    generator = np.random.default_rng(seed)
    kept = np.sort(generator.permutation(len(features))[:MOST])
    groups = patient_groups(patients, len(features))[kept]
    kernel = _kernel(*[features[torch.from_numpy(kept)].detach().cpu().double()] * 2).fill_diagonal_(0)
    dealt = torch.from_numpy(np.stack([_dealt(groups, sizes, generator) for _ in range(deals)])).double()
    (first, second), seen = dealt.unbind(1), dealt @ kernel
    own, other = (seen[:, 0] * first).sum(1), (seen[:, 1] * second).sum(1)
    values = _from_sums(own, other, (seen[:, 0] * second).sum(1), first.sum(1), second.sum(1))
    return np.asarray(values[torch.isfinite(values)].numpy())


def _dealt(groups: np.ndarray, sizes: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
    """Who is on which side `(2, images)`, as ones and zeros; no patient is on both."""
    named, index = np.unique(groups, return_inverse=True)
    place = generator.permutation(len(named))[index]
    order = np.argsort(place, kind="stable")
    edge = np.searchsorted(
        place[order], place[order[min(sizes[0], len(order) // 2)]]
    )  # whole patients on the first side
    sides = np.zeros((2, len(groups)))
    sides[0, order[:edge]] = 1
    sides[1, order[edge : edge + sizes[1]]] = 1
    return sides


def _compared(real: Tensor, fake: Tensor, real_patients: Sequence[str], fake_patients: Sequence[str]):
    """The unbiased estimate of one block, and the jackknife's variance of it."""
    own, other = _members(real_patients, len(real)), _members(fake_patients, len(fake))
    within_real, within_fake = (_summed(_kernel(x, x).fill_diagonal_(0), g, g) for x, g in ((real, own), (fake, other)))
    across = _summed(_kernel(real, fake), own, other)
    value = _from_sums(within_real.sum(), within_fake.sum(), across.sum(), len(real), len(fake))
    without_real = _left_out(within_real, across.sum(1), own.sum(1), within_fake.sum(), across.sum(), len(fake))
    without_fake = _left_out(within_fake, across.sum(0), other.sum(1), within_real.sum(), across.sum(), len(real))
    return float(value), _jackknife(without_real) + _jackknife(without_fake)


def _kernel(first: Tensor, second: Tensor) -> Tensor:
    return (first @ second.T / first.shape[1] + 1) ** 3


def _members(patients: Sequence[str], n: int) -> Tensor:
    """Which image `(patients, n)` is whose, as ones and zeros."""
    _, groups = np.unique(patient_groups(patients, n), return_inverse=True)
    return torch.nn.functional.one_hot(torch.from_numpy(groups)).double().T


def _summed(kernel: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return rows @ kernel @ columns.T


def _left_out(within: Tensor, across: Tensor, sizes: Tensor, other: Tensor, total: Tensor, n_other: int) -> Tensor:
    """The estimate without each patient of one side in turn; those without whom no pair is left do not count."""
    kept = sizes.sum() - sizes
    left = within.sum() - 2 * within.sum(1) + within.diagonal()
    values = _from_sums(left, other, total - across, kept, n_other)
    return values[kept >= 2]


def _from_sums(real, fake, across, n, m):
    return real / (n * (n - 1)) + fake / (m * (m - 1)) - 2 * across / (n * m)


def _jackknife(values: Tensor) -> float:
    groups = len(values)
    return float((groups - 1) * values.var(correction=0)) if groups > 1 else float("nan")
