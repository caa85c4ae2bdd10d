"""One method against another by the same readers, and p-values of several such tests at once (Holm, 1979)."""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from counterscan.study.analysis.grid import Grid
from counterscan.study.analysis.indices import Index
from counterscan.study.analysis.mixed import Measured, difference_p, measure, rounded


def holm(values: Sequence[float]) -> list[float]:
    """Adjusted p-values: each at least as large as it would be alone; nan stays and counts for none."""
    p = np.asarray(values, float)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known])]
    adjusted = np.full(len(p), np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1)
    return adjusted.tolist()


def told(measured: Measured, chance: float | None = None, share: bool = False) -> dict[str, Any]:
    """A figure in the form of the results, with the two-sided `p` that it is `chance`, where there is such a thing."""
    found: dict[str, Any] = {**measured.to_dict(), "values": [rounded(value) for value in measured.values]}
    if chance is not None:
        found |= {"chance": rounded(chance), "p": rounded(difference_p(measured, chance, share))}
    return found


def differences(grid: Grid, figure: Callable[[Grid], Index], name: str) -> list[dict[str, Any]]:
    """Every arm less every other by one `figure` of a reader, with p-values for all of them together."""
    rows = []
    for first, second in combinations(grid.shown, 2):
        measured = measure(figure(grid.arm(first)) - figure(grid.arm(second)))
        rows.append({"figure": name, "first": first, "second": second, **told(measured, chance=0.0)})
    return adjusted(rows)


def adjusted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same rows with `p_holm`, over all of them."""
    values = [np.nan if row["p"] is None else row["p"] for row in rows]
    return [{**row, "p_holm": rounded(p)} for row, p in zip(rows, holm(values), strict=True)]
