"""Two methods side by side: who is preferred in each pair, and over all (Bradley and Terry, Biometrika 39, 1952)."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import t

from counterscan.study.analysis.grid import Grid
from counterscan.study.analysis.indices import Index, mean
from counterscan.study.analysis.judgements import Found, seconds_of
from counterscan.study.analysis.mixed import CASES, LEVEL, READERS, measure, rounded
from counterscan.study.analysis.paired import adjusted, told

HALF = 0.5  # of a win on either side of each pair shown, so that one that always wins has a finite strength
ROUNDS = 50


def preferred(grid: Grid) -> Found:
    """The share of answers for the first of each pair, tested against one half, and the strengths of all methods."""
    rows = []
    for pair in grid.shown:
        first, second = pair.split("|", 1)
        measured = measure(_first(grid.where(grid.arms == pair), first), share=True)
        row = {"figure": "preferred", "first": first, "second": second}
        rows.append({**row, **told(measured, 0.5, share=True)})
    found: Found = {"figures": {"seconds": told(seconds_of(grid))}, "arms": {}, "comparisons": adjusted(rows)}
    return {**found, "strengths": [one.to_dict() for one in bradley_terry(grid)]}


@dataclass(frozen=True)
class Strength:
    """The log-odds, `low` to `high`, that a `method` is preferred to the average method."""

    method: str
    value: float
    low: float
    high: float
    over: str

    def to_dict(self) -> dict[str, float | str | None]:
        """The form of the results."""
        return {
            "method": self.method,
            "over": self.over,
            **{key: rounded(getattr(self, key)) for key in ("value", "low", "high")},
        }


def bradley_terry(grid: Grid) -> list[Strength]:
    """The strength of each method, the strongest first, with intervals over readers and cases.

    The variance is that of answers clustered by reader and by case at once (Cameron, Gelbach and Miller, Journal of
    Business and Economic Statistics 29, 2011); with few readers or cases there is no interval.
    """
    design, won, readers, cases, methods = _answers(grid)
    strengths, inverse, residuals = _fit(design, won)
    scores = design * residuals[:, None]
    middle = sum(
        sign * _clustered(scores, groups) for sign, groups in ((1, readers), (1, cases), (-1, _both(readers, cases)))
    )
    variance = np.maximum(np.diag(inverse @ middle @ inverse), np.diag(inverse))  # never less than of unclustered ones
    n = len(np.unique(readers))
    enough = n >= READERS and len(np.unique(cases)) >= CASES
    reach = t.ppf((1 + LEVEL) / 2, n - 1) * np.sqrt(variance) if enough else np.full(len(methods), np.nan)
    over = "readers and cases" if enough else "nothing"
    found = zip(methods, strengths, strengths - reach, strengths + reach, strict=True)
    told_of = [Strength(name, float(value), float(low), float(high), over) for name, value, low, high in found]
    return sorted(told_of, key=lambda one: -one.value)


def _first(grid: Grid, first: str) -> Index:
    return mean(np.where(np.isnan(grid.seconds), np.nan, grid.methods == first), grid.cases)


def _answers(grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Each answer's design row (1 for the first method, -1 for the second), whether the first won, reader and case."""
    pairs = [str(arm).split("|", 1) for arm in grid.arms]
    methods = sorted({name for pair in pairs for name in pair})
    rows, columns = np.nonzero(~np.isnan(grid.seconds))
    design = np.zeros((len(rows), len(methods)))
    for side, sign in ((0, 1), (1, -1)):
        design[np.arange(len(rows)), [methods.index(pairs[column][side]) for column in columns]] = sign
    won = np.array([grid.methods[at] == pairs[at[1]][0] for at in zip(rows, columns, strict=True)], float)
    return design, won, rows, grid.cases[columns], methods


def _fit(design: np.ndarray, won: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Strengths that sum to nothing, the inverse of the information about them, and what each answer leaves."""
    pairs = np.unique(design, axis=0)
    rows = np.concatenate([design, pairs, pairs])
    wins = np.concatenate([won, np.ones(len(pairs)), np.zeros(len(pairs))])
    weights = np.concatenate([np.ones(len(won)), np.full(2 * len(pairs), HALF)])
    strengths = np.zeros(design.shape[1])
    for _ in range(ROUNDS):
        chance = 1 / (1 + np.exp(-rows @ strengths))
        inverse = _inverse((rows * (weights * chance * (1 - chance))[:, None]).T @ rows)
        strengths = strengths + inverse @ (rows.T @ (weights * (wins - chance)))
    return strengths, inverse, won - 1 / (1 + np.exp(-design @ strengths))


def _inverse(information: np.ndarray) -> np.ndarray:
    """Of all directions but that in which all strengths rise together, which nothing is known about."""
    return np.linalg.pinv(information, rcond=1e-9, hermitian=True)


def _clustered(scores: np.ndarray, groups: np.ndarray) -> np.ndarray:
    names, codes = np.unique(groups, return_inverse=True)
    sums = np.zeros((len(names), scores.shape[1]))
    np.add.at(sums, codes, scores)
    return sums.T @ sums * len(names) / max(len(names) - 1, 1)


def _both(readers: np.ndarray, cases: np.ndarray) -> np.ndarray:
    return readers * (cases.max() + 1) + cases
