"""Ratings of realism, compared by rank: how often a real picture is rated above a method's, or a method above another.

The share of pairs of pictures in which the first is rated higher, ties half, is the area under a ROC curve, so that its
interval over readers and cases is the one of every other figure here; 0.5 is no difference. It needs no scale with
equal steps, and is the effect that a proportional-odds model or a Wilcoxon test is about.
"""

from itertools import combinations
from typing import Any

import numpy as np

from counterscan.study.analysis.equivalence import equivalence
from counterscan.study.analysis.grid import Grid
from counterscan.study.analysis.indices import Index, area, mean
from counterscan.study.analysis.judgements import Found, seconds_of
from counterscan.study.analysis.mixed import measure
from counterscan.study.analysis.paired import adjusted, told
from counterscan.study.records import LEVELS

REAL = "real"


def rated(grid: Grid, margin: float) -> Found:
    """The ratings of real pictures and of each method, and every two of them compared."""
    kinds = _kinds(grid)
    arms = {name: _figures(grid.where(chosen)) for name, chosen in kinds.items()}
    rows = []
    for first, second in combinations(kinds, 2):
        measured = measure(_above(grid, kinds[first], kinds[second]), share=True)
        rows.append({"figure": "rated higher", "first": first, "second": second, **told(measured, 0.5, share=True)})
    found: Found = {"figures": _figures(grid), "arms": arms, "comparisons": adjusted(rows)}
    found["equivalence"] = [
        {"of": name, "figure": "real rated higher", **_equal(grid, kinds, name, margin)}
        for name in kinds
        if name != REAL and REAL in kinds
    ]
    found["levels"] = {name: _levels(grid.where(chosen)) for name, chosen in kinds.items()}
    return found


def _kinds(grid: Grid) -> dict[str, np.ndarray]:
    kinds = {REAL: grid.truth == 0} | {name: (grid.arms == name) & (grid.truth == 1) for name in grid.shown}
    return {name: chosen for name, chosen in kinds.items() if chosen.any()}


def _figures(grid: Grid) -> Found:
    return {"rating": told(measure(mean(grid.rating, grid.cases))), "seconds": told(seconds_of(grid))}


def _above(grid: Grid, first: np.ndarray, second: np.ndarray) -> Index:
    return area(grid.where(first | second).rating, first, grid.cases)


def _equal(grid: Grid, kinds: dict[str, np.ndarray], name: str, margin: float) -> dict[str, Any]:
    return equivalence(_above(grid, kinds[REAL], kinds[name]), 0.5, margin).to_dict()


def _levels(grid: Grid) -> list[int]:
    """How many ratings of each level, from 1 up."""
    return [int((grid.rating == level).sum()) for level in range(1, LEVELS + 1)]
