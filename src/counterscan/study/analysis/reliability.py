"""How far ratings may be trusted: Krippendorff's alpha, also with missing ratings, and the intraclass correlation."""

import numpy as np

from counterscan.errors import check_one_of
from counterscan.metrics.intervals import DRAWS, Estimate
from counterscan.study.analysis.kappa import resampled, tally

LEVELS = ("nominal", "ordinal", "interval")


def krippendorff_alpha(ratings: np.ndarray, level: str = "nominal", *, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """Krippendorff's alpha (Content Analysis, 2004) of `ratings` `(items, readers)`, nan where missing.

    The `level` says how far two ratings are apart: "nominal" one or nothing, "ordinal" by how many ratings lie between
    them, "interval" by the square of their difference. The interval is over items. Raises CounterscanError for
    another level.
    """
    check_one_of("level", level, LEVELS)
    ratings = np.asarray(ratings, float)
    kinds, counts = np.unique(ratings[~np.isnan(ratings)]), tally(ratings)
    n = counts.sum(1)
    pairs = (np.einsum("ui,uj->uij", counts, counts) - np.einsum("ui,ij->uij", counts, np.eye(len(kinds)))) / (n - 1)[
        :, None, None
    ]

    def alpha(weights: np.ndarray) -> np.ndarray:
        coincidences = (weights @ pairs.reshape(len(pairs), -1)).reshape(-1, len(kinds), len(kinds))
        margins = coincidences.sum(2)
        apart, total = _apart(kinds, margins, level), margins.sum(1)
        seen, expected = (
            (coincidences * apart).sum((1, 2)),
            (margins[:, :, None] * apart * margins[:, None, :]).sum((1, 2)),
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(expected > 0, 1 - (total - 1) * seen / expected, np.nan)

    return resampled(alpha, len(counts), draws, seed)


def _apart(kinds: np.ndarray, margins: np.ndarray, level: str) -> np.ndarray:
    """Squared distances of ratings `(draws, kinds, kinds)`, or one for all draws."""
    if level == "nominal":
        return (kinds[:, None] != kinds)[None].astype(float)
    if level == "interval":
        return ((kinds[:, None] - kinds) ** 2)[None]
    middle = np.cumsum(margins, 1) - margins / 2  # how many ratings lie below, half of the same counted
    return (middle[:, :, None] - middle[:, None, :]) ** 2


def intraclass_correlation(ratings: np.ndarray, *, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """ICC(2,1) of Shrout and Fleiss (Psychological Bulletin 86, 1979): one rating by any reader, absolute agreement.

    `ratings` is `(items, readers)`; items with a missing rating are left out. The interval is over items.
    """
    ratings = np.asarray(ratings, float)
    ratings = ratings[~np.isnan(ratings).any(1)]
    items, readers = ratings.shape
    if items < 2 or readers < 2:
        return Estimate(float("nan"), float("nan"), float("nan"), items)

    def correlation(weights: np.ndarray) -> np.ndarray:
        by_reader = weights @ ratings / items
        centre, rows = by_reader.mean(1), ratings.mean(1)
        within = weights @ (ratings**2).sum(1)
        between_items = readers * (weights @ rows**2 - items * centre**2)
        between_readers = items * ((by_reader - centre[:, None]) ** 2).sum(1)
        rest = (within - items * readers * centre**2 - between_items - between_readers) / ((items - 1) * (readers - 1))
        item, reader = between_items / (items - 1), between_readers / (readers - 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (item - rest) / (item + (readers - 1) * rest + readers * (reader - rest) / items)

    return resampled(correlation, items, draws, seed)
