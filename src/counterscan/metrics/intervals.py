"""Every mean with its interval: the bootstrap draws patients, because images of one patient are not independent."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 2000
BATCH = 1_000_000  # weights held at a time


@dataclass(frozen=True)
class Estimate:
    """A `value`, its 95 % interval `low` to `high`, and `n`, the number of values it is taken from; nan where none."""

    value: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, float | int | None]:
        """The form of the results: four digits, and None where there is no value (JSON knows no nan)."""
        rounded = {key: _rounded(getattr(self, key)) for key in ("value", "low", "high")}
        return {**rounded, "n": self.n}

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "not defined"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f}, n={self.n})"


def bootstrap(values, patients: Sequence[str] = (), *, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """The mean of the `values` `(n,)` that are not nan, with a percentile interval over resampled patients.

    `patients` `(n,)` names whose each value is; without names, and for blank ones, every value stands for itself.
    Where all values are equal the interval has no width: it says what these patients show, not what is possible.
    """
    values = np.asarray(values, dtype=np.float64).ravel()
    groups = patient_groups(patients, len(values))
    keep = ~np.isnan(values)
    values, groups = values[keep], groups[keep]
    if not len(values):
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    _, groups = np.unique(groups, return_inverse=True)
    sums, counts = np.bincount(groups, values), np.bincount(groups)
    means = [weights @ sums / (weights @ counts) for weights in resamples(len(counts), draws, seed)]
    return interval(float(values.mean()), np.concatenate(means), len(values))


def paired(first, second, patients: Sequence[str] = (), *, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """The mean of `first - second` over the images where both are defined: one method against another."""
    return bootstrap(np.asarray(first, float) - np.asarray(second, float), patients, draws=draws, seed=seed)


def resamples(patients: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """How often each of `patients` is drawn, `(some draws, patients)` at a time, `draws` rows in all."""
    generator = np.random.default_rng(seed)
    size = max(1, BATCH // patients)
    for start in range(0, draws, size):
        yield generator.multinomial(patients, np.full(patients, 1 / patients), size=min(size, draws - start))


def interval(value: float, drawn: np.ndarray, n: int) -> Estimate:
    """The estimate `value` with the middle 95 % of what was `drawn`; draws that are nan are left out."""
    drawn = drawn[~np.isnan(drawn)]
    low, high = np.quantile(drawn, [0.025, 0.975]) if len(drawn) else (np.nan, np.nan)
    return Estimate(value, float(low), float(high), n)


def patient_groups(patients: Sequence[str], n: int) -> np.ndarray:
    patients = list(patients) or [""] * n
    assert len(patients) == n, f"{len(patients)} patients for {n} values"
    return np.array([f"p{patient}" if patient else f"i{index}" for index, patient in enumerate(patients)], dtype=object)


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else float(f"{value:.4g}")
