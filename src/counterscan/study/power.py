"""How many cases and readers: exact for one reader, by two one-sided tests, and for many readers of the same cases.

The multi-reader figures follow Obuchowski and Rockette's model (Commun. Stat. Simul. Comput. 24, 285, 1995) with the
degrees of freedom of Hillis (Stat. Med. 26, 596, 2007), and for two methods the noncentral F of Hillis, Obuchowski and
Berbaum (Acad. Radiol. 18, 129, 2011). Detection theory's shares follow Green and Swets, and Ennis for the triangle.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import integrate, stats

from counterscan.errors import CounterscanError

MOST = 1_000_000  # cases or trials that are tried
CERTAIN = 8  # standard errors beyond the limit; the noncentral distributions fail numerically further out
NOTHING = 1e-9  # noncentrality below which scipy's distribution fails, and the power is the size of the test
TASKS = ("real-or-synthetic", "forced-choice", "odd-one-out", "lesion")


@dataclass(frozen=True)
class Spread:
    """How an index varies: `reader_sd` is that of readers' true values, `method_sd` of their differences by method.

    The errors of two readings of the same cases correlate by `same_reader` (two methods), `same_method` (two readers)
    and `neither`. The defaults are assumptions for a first look; a pilot study gives better ones.
    """

    reader_sd: float = 0.03
    method_sd: float = 0.02
    same_reader: float = 0.45
    same_method: float = 0.3
    neither: float = 0.25

    def __post_init__(self) -> None:
        if self.reader_sd < 0 or self.method_sd < 0:
            raise CounterscanError("standard deviations are not negative; give --reader-sd 0 or more")
        for name in ("same_reader", "same_method", "neither"):
            if not -1 <= getattr(self, name) < 1:
                raise CounterscanError(f"{name} is a correlation from -1 to below 1, not {getattr(self, name)}")


def share_correct(dprime: float, task: str, k: int = 2) -> float:
    """The share of right answers of an unbiased observer with sensitivity `dprime` in a task.

    One picture at a time: Phi(d'/2). One odd of two or `k` whose kind is known (forced choice): the largest of k. Odd
    one out of three, where either kind may be odd: the triangle test. Never compare shares across tasks; compare d'.
    """
    norm = stats.norm
    if task in ("real-or-synthetic", "lesion"):
        return float(norm.cdf(dprime / 2))
    if task == "forced-choice":
        return _integral(lambda t: norm.pdf(t - dprime) * norm.cdf(t) ** (k - 1), -10 - abs(dprime))
    if task == "odd-one-out" and k == 3:
        root, shift = math.sqrt(3), dprime * math.sqrt(2 / 3)
        return 2 * _integral(lambda t: (norm.cdf(-t * root + shift) + norm.cdf(-t * root - shift)) * norm.pdf(t), 0)
    raise CounterscanError(f"d' of {task} with {k} pictures has no formula here; give the share of right answers")


def binomial_power(trials: int, share: float, chance: float = 0.5, alpha: float = 0.05) -> float:
    """The power of the two-sided exact binomial test of `chance`, where the true share is `share`."""
    low, high = _region(trials, chance, alpha)
    return float(stats.binom.cdf(low, trials, share) + stats.binom.sf(high - 1, trials, share))


def trials_for_share(share: float, chance: float = 0.5, alpha: float = 0.05, power: float = 0.8) -> int:
    """The least number of independent trials from which the exact binomial test has at least `power`.

    The power of an exact test goes up and down with the number; no larger number within a tenth has less.
    """
    _check(alpha, power)
    if not (0 < share < 1) or abs(share - chance) < 1e-9:
        raise CounterscanError(f"a share of {share:g} cannot be told from chance ({chance:g}); give --share between")
    rough = (stats.norm.isf(alpha / 2) + stats.norm.isf(1 - power)) ** 2 * chance * (1 - chance) / (share - chance) ** 2
    if rough > MOST:
        raise CounterscanError(f"a share of {share:g} takes more than {MOST:,} trials; that is no reader study")
    upper = int(rough * 1.6) + 60
    enough = [binomial_power(n, share, chance, alpha) >= power for n in range(1, upper)]
    return next(n for n in range(1, upper) if all(enough[n - 1 : n + n // 10]))


def trials_for_equivalence(margin: float, chance: float = 0.5, alpha: float = 0.05, power: float = 0.8) -> int:
    """Independent trials for two one-sided tests within +-`margin` of `chance`, where the truth is chance."""
    _check(alpha, power)
    if not 0 < margin < min(chance, 1 - chance):
        raise CounterscanError(f"a margin lies between 0 and {min(chance, 1 - chance):g}, not at {margin:g}")
    z = stats.norm.isf(alpha) + stats.norm.isf((1 - power) / 2)
    return math.ceil(z**2 * chance * (1 - chance) / margin**2)


def wilson_half_width(trials: int, share: float = 0.5, alpha: float = 0.05) -> float:
    """Half the width of Wilson's interval for a share of independent trials."""
    z2 = stats.norm.isf(alpha / 2) ** 2
    return float(np.sqrt(z2 * (share * (1 - share) / trials + z2 / (4 * trials**2))) / (1 + z2 / trials))


def design_effect(size: float, correlation: float) -> float:
    """By how much correlated answers inflate a variance: 1 + (size - 1) x correlation."""
    return 1 + (size - 1) * correlation


def auc_variance(auc: float, positive: int, negative: int) -> float:
    """The variance of one reader's empirical AUC (Hanley and McNeil, Radiology 143, 29, 1982, equations 1 and 2)."""
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    pairs = (positive - 1) * (q1 - auc**2) + (negative - 1) * (q2 - auc**2)
    return (auc * (1 - auc) + pairs) / (positive * negative)


def share_variance(share: float, trials: int) -> float:
    """The variance of one reader's share of right answers."""
    return share * (1 - share) / trials


def mean_error(readers: int, variance: float, spread: Spread) -> tuple[float, float]:
    """The standard error of the readers' mean index, and Hillis's degrees of freedom; `variance` is of one reading.

    Where readers and cases are both random.
    """
    _several(readers)
    shared = max(spread.same_method, 0) * variance
    between = spread.reader_sd**2 + variance * (1 - spread.same_method)
    df = (between + readers * shared) ** 2 / (between**2 / (readers - 1))
    return math.sqrt(between / readers + shared), df


def mean_power(effect: float, readers: int, variance: float, spread: Spread, alpha: float = 0.05) -> float:
    """The power to tell the readers' mean index from its null, where it differs by `effect`."""
    error, df = mean_error(readers, variance, spread)
    return _beyond(df, (effect / error) ** 2, alpha)


def mean_equivalence_power(margin: float, readers: int, variance: float, spread: Spread, alpha: float = 0.05) -> float:
    """The power of two one-sided tests that the mean index is within `margin` of its null, where it is the null."""
    error, df = mean_error(readers, variance, spread)
    return max(0.0, float(2 * stats.t.cdf(margin / error - stats.t.isf(alpha, df), df) - 1))


def mean_half_width(readers: int, variance: float, spread: Spread, alpha: float = 0.05) -> float:
    """Half the width of the interval for the readers' mean index."""
    error, df = mean_error(readers, variance, spread)
    return float(stats.t.isf(alpha / 2, df) * error)


def difference_power(effect: float, readers: int, variance: float, spread: Spread, alpha: float = 0.05) -> float:
    """The power to tell two methods apart that all readers read on the same cases, and that differ by `effect`."""
    _several(readers)
    shared = variance * max(spread.same_method - spread.neither, 0)
    own = spread.method_sd**2 / 2 + variance * (1 - spread.same_reader)
    whole, alone = own + (readers - 1) * shared, own - shared
    df = whole**2 / (alone**2 / (readers - 1))
    return _beyond(df, effect**2 * readers / 2 / whole, alpha)


def cases_for(power_of: Callable[[int], float], power: float = 0.8, least: int = 10) -> int | None:
    """The least even number of cases for which `power_of` cases is at least `power`; None where none is enough.

    More cases do not help where too few readers leave too much to their own differences.
    """
    tried = [least]
    while power_of(tried[-1]) < power:
        tried.append(2 * tried[-1])
        if tried[-1] > MOST:
            return None
    low, high = tried[-2:][0] // 2, tried[-1] // 2
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(2 * middle) >= power else (middle + 1, high)
    return 2 * low


def _beyond(df: float, noncentral: float, alpha: float) -> float:
    """The power of an F test with 1 and `df` degrees of freedom, which is that of a two-sided t test."""
    if noncentral < NOTHING:
        return alpha
    limit = stats.f.isf(alpha, 1, df)
    if math.sqrt(noncentral) > math.sqrt(limit) + CERTAIN:
        return 1.0
    return float(stats.ncf.sf(limit, 1, df, noncentral))


def _region(trials: int, chance: float, alpha: float) -> tuple[int, int]:
    """The counts up to which, and from which, the exact test rejects, alpha/2 at either end."""
    low = int(stats.binom.ppf(alpha / 2, trials, chance))
    low -= int(stats.binom.cdf(low, trials, chance) > alpha / 2)
    high = int(stats.binom.isf(alpha / 2, trials, chance)) + 1
    return low, high


def _integral(function: Callable[[float], float], low: float) -> float:
    value, _ = integrate.quad(function, low, 20)
    return float(value)


def _check(alpha: float, power: float) -> None:
    if not (0 < alpha < 1 and alpha < power < 1):
        raise CounterscanError(f"give an alpha and a power between 0 and 1, alpha the smaller (not {alpha}, {power})")


def _several(readers: int) -> None:
    if readers < 2:
        raise CounterscanError("what holds for readers in general takes two readers or more; give --readers 2,3,5")
