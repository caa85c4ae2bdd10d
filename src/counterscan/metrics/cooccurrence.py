"""Do findings come together in a set of labels as they do in another? Prevalences, joint counts, odds ratios, a test.

Between two tables of which findings were together: the Jensen-Shannon distance (Lin, 1991; the root of the divergence
in bits, so in [0, 1]) and Pearson's chi-square, both against their own distribution when whose set an image is in is
dealt out anew by patient, because distances of small tables are never 0 and images of one patient are not independent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import norm

from counterscan.errors import CounterscanError
from counterscan.metrics.intervals import DRAWS, Estimate, bootstrap, patient_groups, resamples

WIDTH = 1.96  # standard errors on either side that make a 95 % interval
HALF = 0.5  # added to each of the four counts of an odds ratio (Haldane, 1956; Anscombe, 1956): no ratio is infinite


@dataclass(frozen=True)
class Patterns:
    """How unlike the combinations of findings are in two sets.

    `names` of the combinations and how often each occurs, `counts` `(2, patterns)`. `distance` and `chi_square` stand
    beside what chance gives: their 95th percentile, and the share `p` of random deals that reach them.
    """

    names: tuple[str, ...]
    counts: np.ndarray = field(repr=False)
    distance: float
    distance_by_chance: float
    distance_p: float
    chi_square: float
    freedom: int
    chi_square_p: float

    def to_dict(self) -> dict[str, Any]:
        """The form of the results."""
        own = ("distance", "distance_by_chance", "distance_p", "chi_square", "freedom", "chi_square_p")
        table = {name: [int(count) for count in column] for name, column in zip(self.names, self.counts.T, strict=True)}
        return {**{name: getattr(self, name) for name in own}, "n": self.counts.sum(1).tolist(), "counts": table}


@dataclass(frozen=True)
class Odds:
    """Two findings in two sets: `first` and `second` odds ratios, and their `ratio` with `p` of two sides that it is 1.

    Above 1 they come together more often than by chance, below 1 less often.
    """

    first: Estimate
    second: Estimate
    ratio: Estimate
    p: float

    def to_dict(self) -> dict[str, Any]:
        """The form of the results."""
        parts = {name: getattr(self, name).to_dict() for name in ("first", "second", "ratio")}
        return {**parts, "p": None if np.isnan(self.p) else float(f"{self.p:.3g}")}


def joint_counts(labels) -> np.ndarray:
    """How many images show both findings `(k, k)`, of `labels` `(n, k)` 1, 0 or nan; the diagonal has each alone."""
    shown = (np.asarray(labels, float) == 1).astype(int)
    return np.asarray(shown.T @ shown)


def prevalence(labels, patients: Sequence[str] = ()) -> list[Estimate]:
    """The share of images that show each finding, of those where it is known."""
    labels = np.asarray(labels, float)
    return [bootstrap(labels[:, k], patients) for k in range(labels.shape[1])]


def compared_patterns(
    first,
    second,
    classes: Sequence[str],
    first_patients: Sequence[str] = (),
    second_patients: Sequence[str] = (),
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Patterns:
    """Compare the combinations of findings in labels `(n, k)` and `(m, k)`; images with an unknown one are left out.

    Raises CounterscanError where one side has no image with all findings known.
    """
    sides = [np.asarray(labels, float) for labels in (first, second)]
    known = [~np.isnan(labels).any(1) for labels in sides]
    if not all(side.any() for side in known):
        raise CounterscanError("no image has all findings known; co-occurrence needs labels without blanks")
    groups = [
        patient_groups(names, len(side))[keep]
        for names, side, keep in zip((first_patients, second_patients), sides, known, strict=True)
    ]
    rows = np.concatenate([side[keep] for side, keep in zip(sides, known, strict=True)]).astype(int)
    kinds, place = np.unique(rows, axis=0, return_inverse=True)
    table = _by_patient(place.ravel(), groups, len(kinds))
    counts = np.stack([side.sum(0) for side in table])
    chance = _dealt(np.concatenate(table), len(table[0]), draws, seed)
    distance, statistic = float(js_distance(*counts)), float(chi_square(*counts))
    distances, statistics = js_distance(*chance), chi_square(*chance)
    return Patterns(
        tuple(_name(kind, classes) for kind in kinds),
        counts,
        distance,
        float(np.quantile(distances, 0.95)),
        _reached(distances, distance),
        statistic,
        len(kinds) - 1,
        _reached(statistics, statistic),
    )


def js_distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The Jensen-Shannon distance of counts `(..., patterns)`: 0 where the shares are equal, 1 where disjoint."""
    p, q = (np.asarray(one, float) / np.sum(one, -1, keepdims=True) for one in (first, second))
    mean = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = sum(np.where(one > 0, one * np.log2(one / mean), 0).sum(-1) for one in (p, q)) / 2
    return np.asarray(np.sqrt(np.clip(bits, 0, 1)))


def chi_square(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pearson's statistic of two rows of counts `(..., patterns)`; patterns that nobody has count nothing."""
    first, second = np.asarray(first, float), np.asarray(second, float)
    both = first + second
    share = first.sum(-1, keepdims=True) / both.sum(-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = (first - both * share) ** 2 / (both * share * (1 - share))
    return np.asarray(np.nan_to_num(parts).sum(-1))


def odds_of_pairs(
    first,
    second,
    classes: Sequence[str],
    first_patients: Sequence[str] = (),
    second_patients: Sequence[str] = (),
) -> dict[tuple[str, str], Odds]:
    """Each pair of findings in labels `(n, k)` and `(m, k)`: its odds ratio in either set, and their ratio.

    Intervals are Woolf's (1955), and where patients have several images by the bootstrap over patients.
    """
    found = {}
    for a, b in combinations(range(len(classes)), 2):
        (one, own), (two, other) = (
            _log_odds(np.asarray(labels, float)[:, [a, b]], patients)
            for labels, patients in ((first, first_patients), (second, second_patients))
        )
        n, m = (int((~np.isnan(np.asarray(side, float)[:, [a, b]]).any(1)).sum()) for side in (first, second))
        error = float(np.hypot(own, other))
        p = float(2 * norm.sf(abs(one - two) / error)) if error else float("nan")
        ratio = _estimate(one - two, error, n + m)
        found[classes[a], classes[b]] = Odds(_estimate(one, own, n), _estimate(two, other, m), ratio, p)
    return found


def _log_odds(pair: np.ndarray, patients: Sequence[str]) -> tuple[float, float]:
    """The logarithm of an odds ratio, and its standard error; nan where nothing is known of both."""
    groups = patient_groups(patients, len(pair))
    known = ~np.isnan(pair).any(1)
    if not known.any():
        return float("nan"), float("nan")
    _, groups = np.unique(groups[known], return_inverse=True)
    cells = np.zeros((groups.max() + 1, 4))
    np.add.at(cells, (groups, (2 * pair[known, 0] + pair[known, 1]).astype(int)), 1)
    counts = cells.sum(0) + HALF
    value = float(np.log(counts) @ [1, -1, -1, 1])
    if len(cells) == len(groups):
        return value, float(np.sqrt((1 / counts).sum()))
    drawn = [np.log(weights @ cells + HALF) @ [1, -1, -1, 1] for weights in resamples(len(cells), DRAWS, seed=0)]
    return value, float(np.concatenate(drawn).std())


def _estimate(value: float, error: float, n: int) -> Estimate:
    low, high = value - WIDTH * error, value + WIDTH * error
    return Estimate(float(np.exp(value)), float(np.exp(low)), float(np.exp(high)), n)


def _by_patient(place: np.ndarray, groups: Sequence[np.ndarray], kinds: int) -> list[np.ndarray]:
    """How often each patient of either set shows each pattern, `(patients, kinds)`."""
    found, start = [], 0
    for side in groups:
        _, index = np.unique(side, return_inverse=True)
        table = np.zeros((index.max() + 1, kinds), dtype=np.int64)
        np.add.at(table, (index, place[start : start + len(side)]), 1)
        found.append(table)
        start += len(side)
    return found


def _dealt(table: np.ndarray, first: int, draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts of both sets `(draws, kinds)` when as many patients as `first` had are drawn for it from all."""
    generator = np.random.default_rng(seed)
    chosen = np.stack([table[generator.permutation(len(table))[:first]].sum(0) for _ in range(draws)])
    return chosen, table.sum(0) - chosen


def _reached(drawn: np.ndarray, value: float) -> float:
    """The share of draws, the true one among them, that reach `value`."""
    return float((1 + (drawn >= value - 1e-12).sum()) / (1 + len(drawn)))


def _name(kind: np.ndarray, classes: Sequence[str]) -> str:
    return " + ".join(name for name, shown in zip(classes, kind, strict=True) if shown) or "none"
