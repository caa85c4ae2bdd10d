"""Intervals that account for readers and cases: Obuchowski and Rockette (1995) with Hillis (2007, 2014), and ours.

The mean of R readers has the variance MS(R) / R + Cov2: MS(R) between the readers' figures, Cov2 the mean covariance
between two readers over cases. The difference of two methods is a figure of each reader as well, and with d = a - b
the formula is that for the difference: MS(R) of d is 2 MS(TR), and Cov2 of d is 2 (Cov2 - Cov3).

Changes from Hillis, each found by simulation (bench/study_coverage.py), where the plain interval covers 89 to 95 %:
* the degrees of freedom count that Cov2 is estimated too, from a sample of cases (Satterthwaite);
* MS(R) counts at least half of what the cases alone give it, because with three readers it is often near zero by luck;
* a share or an area gets its interval on the logit scale, which is not symmetric near 1 and never leaves [0, 1].
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import beta, t

from counterscan.study.analysis.indices import Index

Value = np.ndarray | np.float64
LEVEL = 0.95
READERS = 3  # fewer say nothing of other readers
CASES = 10  # of the rarer class; fewer say nothing of other cases
BOTH, ONLY_CASES, ONLY_READERS, NOTHING = "readers and cases", "cases", "readers", "nothing"


@dataclass(frozen=True)
class Spread:
    """The mean of the readers `value` `(...)`, its `variance` with `df` degrees of freedom, and how many `cases`."""

    value: Value
    variance: Value
    df: Value
    cases: int

    def interval(self, level: float = LEVEL, share: bool = False) -> tuple[Value, Value]:
        """Low and high end at `level`; of a `share` (or area) on the logit scale.

        A share of 0 or 1 has no variance: its interval is exact for its cases, as if one reader had read them.
        """
        reach = t.ppf((1 + level) / 2, self.df) * np.sqrt(self.variance)
        if not share:
            return self.value - reach, self.value + reach
        with np.errstate(invalid="ignore"):
            centre, width = _logit(self.value), reach * _slope(self.value)
        end = beta.ppf((1 - level) / 2, max(self.cases, 1), 1)  # Clopper and Pearson (1934) for all of the cases
        low = np.where(self.value == 1, end, np.where(self.value == 0, 0, _logistic(centre - width)))
        high = np.where(self.value == 0, 1 - end, np.where(self.value == 1, 1, _logistic(centre + width)))
        return low, high

    def above(self, bound: float, share: bool = False) -> Value:
        """The one-sided probability of a mean as large as this if the truth were `bound`."""
        with np.errstate(divide="ignore", invalid="ignore"):
            if share:
                away = (_logit(self.value) - _logit(np.asarray(bound))) / _slope(self.value)
            else:
                away = self.value - bound
            return t.sf(away / np.sqrt(self.variance), self.df)


def over_both(index: Index) -> Spread:
    """The mean of the readers over other readers and other cases, as this module's docstring says."""
    between, common, own, unsure = _moments(index)
    readers = index.readers
    first = np.maximum(between, 0.5 * (own - common)) / readers
    variance = first + common
    with np.errstate(divide="ignore", invalid="ignore"):
        df = variance**2 / ((between / readers) ** 2 / (readers - 1) + unsure / 2)
    return Spread(index.values.mean(-1), variance, _degrees(df), index.cases)


def hillis(index: Index) -> Spread:
    """The plain Obuchowski-Rockette variance with Hillis's degrees of freedom, as other programs compute it."""
    between, common, _, _ = _moments(index)
    readers = index.readers
    with np.errstate(divide="ignore", invalid="ignore"):
        df = (between + readers * common) ** 2 / (between**2 / (readers - 1))
    return Spread(index.values.mean(-1), between / readers + common, _degrees(df), index.cases)


def over_cases(index: Index) -> Spread:
    """The mean of these very readers over other cases."""
    variance = (index.influences.mean(-2) ** 2).sum(-1)
    return Spread(index.values.mean(-1), variance, np.full_like(variance, max(index.cases - 1, 1)), index.cases)


def over_readers(index: Index) -> Spread:
    """The mean of other readers over these very cases."""
    variance = index.values.var(-1, ddof=1) / index.readers
    return Spread(index.values.mean(-1), variance, np.full_like(variance, index.readers - 1), index.cases)


def _moments(index: Index) -> tuple[np.ndarray, ...]:
    """MS(R), Cov2 (not below 0), the mean variance of one reader over cases, and the variance of Cov2."""
    readers, influences = index.readers, index.influences
    squares = (influences**2).mean(-2)
    shared = (readers * influences.mean(-2) ** 2 - squares) / (readers - 1)
    unsure = shared.shape[-1] * shared.var(-1, ddof=1)
    return index.values.var(-1, ddof=1), np.maximum(shared.sum(-1), 0), squares.sum(-1), unsure


@dataclass(frozen=True)
class Measured:
    """A `value` with its interval `low` to `high` at 95 %, its standard `error` and degrees of freedom `df`.

    `over` says what the interval accounts for: readers and cases, cases, readers or nothing; `note` why it is not
    both. `values` are the readers' own figures. nan where there is none.
    """

    value: float
    low: float
    high: float
    error: float
    df: float
    readers: int
    cases: int
    over: str
    note: str = ""
    values: tuple[float, ...] = ()
    plain: tuple[float, float] = (float("nan"), float("nan"))

    def to_dict(self) -> dict[str, Any]:
        """The form of the results: four digits, None for nan."""
        numbers = {key: rounded(getattr(self, key)) for key in ("value", "low", "high", "error", "df")}
        counts = {"n": self.cases, "readers": self.readers, "over": self.over, "note": self.note}
        plain = {"obuchowski_rockette_hillis": [rounded(end) for end in self.plain]} if self.over == BOTH else {}
        return {**numbers, **counts, **plain}

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "not defined"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def measure(index: Index, share: bool = False) -> Measured:
    """The mean of the readers with the widest interval that its readers and cases allow, and a note where that is less.

    Readers without a figure (nan) are left out and told of. `share` is for what lies in [0, 1].
    """
    index, notes = _defined(index)
    spread, over, why = chosen(index)
    low, high = spread.interval(share=share)
    if share and float(spread.value) in (0, 1) and over != NOTHING:
        notes.append(f"every answer the same: an exact interval for {index.cases} cases, as if by one reader")
    elif not spread.variance > 0:
        low = high = np.float64("nan")
    notes += [why] if why else []
    plain = hillis(index).interval() if over == BOTH else (np.nan, np.nan)
    error = float(np.sqrt(spread.variance)) if over != NOTHING else float("nan")
    numbers = (float(spread.value), float(low), float(high), error, float(spread.df), index.readers, index.cases)
    return Measured(*numbers, over, "; ".join(notes), tuple(index.values.tolist()), (float(plain[0]), float(plain[1])))


def chosen(index: Index) -> tuple[Spread, str, str]:
    """The spread that R readers and C cases allow, what it accounts for, and why not for more."""
    readers, cases = index.readers, index.cases
    few = f"{readers} reader{'s' * (readers != 1)}, where {READERS} are needed"
    rare = f"{cases} cases of the rarer class, where {CASES} are needed"
    if readers >= READERS and cases >= CASES:
        return over_both(index), BOTH, ""
    if cases >= CASES and readers:
        return over_cases(index), ONLY_CASES, f"{few}: the interval is over cases alone and holds for these readers"
    if readers >= READERS:
        return (
            over_readers(index),
            ONLY_READERS,
            f"{rare}: the interval is over readers alone and holds for these cases",
        )
    value = index.values.mean(-1) if readers else np.float64("nan")
    return Spread(value, np.float64("nan"), np.float64("nan"), 0), NOTHING, f"no interval: {few}, and {rare}"


def difference_p(measured: Measured, bound: float = 0.0, share: bool = False) -> float:
    """The two-sided p that the truth is `bound`, on the scale of the interval; nan without a standard error."""
    error, df = np.float64(measured.error), np.float64(measured.df)
    spread = Spread(np.float64(measured.value), error**2, df, measured.cases)
    if not measured.error > 0:
        return float("nan")
    tail = float(spread.above(bound, share))
    return 2 * min(tail, 1 - tail)


def rounded(value: float) -> float | None:
    """Four digits, None for what is no number."""
    return float(f"{value:.4g}") if np.isfinite(value) else None


def _defined(index: Index) -> tuple[Index, list[str]]:
    known = np.flatnonzero(~np.isnan(index.values))
    missing = index.readers - len(known)
    said = f"{missing} of {index.readers} readers have no figure, for want of answers of both kinds"
    return index.of(known), [said] if missing else []


def _degrees(df: Value) -> Value:
    return np.clip(np.nan_to_num(df, nan=np.inf), 1, 1e6)


def _logit(value: Value) -> Value:
    with np.errstate(divide="ignore"):
        return np.log(value) - np.log1p(-value)


def _logistic(value: Value) -> Value:
    return 1 / (1 + np.exp(-np.clip(value, -700, 700)))


def _slope(value: Value) -> Value:
    with np.errstate(divide="ignore"):
        return 1 / (value * (1 - value))
