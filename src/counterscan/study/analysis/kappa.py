"""Do readers agree beyond chance? Fleiss and Cohen kappa, Gwet AC1 and the plain share, with intervals over cases.

Agreement at chance is what pictures that nobody can tell apart must give: kappa near 0 is then no flaw of the readers.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from counterscan.errors import check_one_of
from counterscan.metrics.intervals import DRAWS, Estimate, interval, resamples

WEIGHTS = ("none", "linear", "quadratic")
Statistic = Callable[[np.ndarray], np.ndarray]  # from weights (draws, items) to a value a draw


def fleiss_kappa(ratings: np.ndarray, *, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """Fleiss (Psychological Bulletin 76, 1971) of `ratings` `(items, readers)`, nan where missing.

    Items that fewer than two rated say nothing and are left out. With every rating the same it is not defined (nan).
    """
    counts = tally(ratings)
    shared, n = _shared(counts), counts.sum(1)

    def kappa(weights: np.ndarray) -> np.ndarray:
        parts = weights @ counts / (weights @ n)[:, None]
        return _beyond(_mean(weights, shared), (parts**2).sum(1))

    return resampled(kappa, len(counts), draws, seed)


def gwet_ac1(ratings: np.ndarray, *, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """Gwet's AC1 (British Journal of Mathematical and Statistical Psychology 61, 2008) of `ratings` `(items, readers)`.

    Unlike kappa it does not collapse where almost all answers are of one kind.
    """
    counts = tally(ratings)
    shared, shares = _shared(counts), counts / counts.sum(1, keepdims=True)

    def coefficient(weights: np.ndarray) -> np.ndarray:
        parts = weights @ shares / weights.sum(1, keepdims=True)
        return _beyond(_mean(weights, shared), (parts * (1 - parts)).sum(1) / max(counts.shape[1] - 1, 1))

    return resampled(coefficient, len(counts), draws, seed)


def raw_agreement(ratings: np.ndarray, *, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """The share of pairs of readers who said the same of an item."""
    shared = _shared(tally(ratings))
    return resampled(lambda weights: _mean(weights, shared), len(shared), draws, seed)


def cohen_kappa(
    first: np.ndarray, second: np.ndarray, weights: str = "none", *, draws: int = DRAWS, seed: int = 0
) -> Estimate:
    """Cohen's kappa (1960) of two readers, or one reader twice, `(items,)`, nan where missing.

    `weights` (Cohen, 1968) counts a disagreement by how far apart the two are: "linear" or "quadratic", for numbers
    that are steps of a scale; by default every disagreement is one. Raises CounterscanError for other weights.
    """
    check_one_of("weights", weights, WEIGHTS)
    both = np.stack([np.asarray(first, float), np.asarray(second, float)], 1)
    both = both[~np.isnan(both).any(1)]
    kinds, codes = np.unique(both, return_inverse=True)
    codes = codes.reshape(both.shape)
    away = np.abs(kinds[:, None] - kinds)
    cost = {"none": (away > 0).astype(float), "linear": away, "quadratic": away**2}[weights]
    seen, rows = cost[codes[:, 0], codes[:, 1]], np.eye(len(kinds))[codes]

    def kappa(drawn: np.ndarray) -> np.ndarray:
        left, right = (drawn @ rows[:, side] / drawn.sum(1, keepdims=True) for side in (0, 1))
        with np.errstate(invalid="ignore", divide="ignore"):
            return 1 - _mean(drawn, seen) / (left @ cost * right).sum(1)

    return resampled(kappa, len(both), draws, seed)


def tally(ratings: np.ndarray) -> np.ndarray:
    """How many readers gave each rating `(items, ratings)`, of the items that two or more rated."""
    ratings = np.asarray(ratings, float)
    kinds = np.unique(ratings[~np.isnan(ratings)])
    counts = (ratings[:, :, None] == kinds).sum(1).astype(float)
    return counts[counts.sum(1) >= 2]


def resampled(statistic: Statistic, items: int, draws: int, seed: int) -> Estimate:
    """A `statistic` of all items, with the middle 95 % of it among `draws` samples of them."""
    if not items:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    drawn = np.concatenate([statistic(weights) for weights in _weights(items, draws, seed)])
    return interval(float(statistic(np.ones((1, items)))[0]), drawn, items)


@lru_cache(maxsize=4)
def _weights(items: int, draws: int, seed: int) -> list[np.ndarray]:
    """The same samples serve all figures of the same items: drawing them takes longer than the figures."""
    return [weights.astype(float) for weights in resamples(items, draws, seed)]


def _shared(counts: np.ndarray) -> np.ndarray:
    """The share of pairs of readers of each item who agree."""
    n = counts.sum(1)
    return ((counts**2).sum(1) - n) / (n * (n - 1))


def _mean(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    return weights @ values / weights.sum(1)


def _beyond(seen: np.ndarray, expected: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected < 1, (seen - expected) / (1 - expected), np.nan)
