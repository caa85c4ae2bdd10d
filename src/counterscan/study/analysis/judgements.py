"""The tasks with a right answer: real or synthetic, lesion or none, which of several pictures."""

from dataclasses import replace
from typing import Any

import numpy as np

from counterscan.study.analysis.detection import LARGEST, chance, sensitivity_of
from counterscan.study.analysis.equivalence import equivalence
from counterscan.study.analysis.grid import Grid
from counterscan.study.analysis.indices import Index, area, balanced, mean, sensitivity
from counterscan.study.analysis.mixed import Measured, measure, rounded
from counterscan.study.analysis.paired import differences, told

Found = dict[str, Any]


def yes_no(grid: Grid, task: str, margin: float) -> Found:
    """Figures of a yes/no task, of all arms and of each, how the arms differ, and whether they are told from chance.

    Accuracy is half the share right of either truth, so that chance is one half however many of each were shown.
    """
    arms = {name: _yes_no_figures(grid.arm(name)) for name in grid.shown}
    found: Found = {"figures": _yes_no_figures(grid), "arms": arms}
    found["comparisons"] = differences(grid, _area, "auc") + differences(grid, _accuracy, "accuracy")
    if task == "real-or-synthetic":
        whole = {"all": grid} | {name: grid.arm(name) for name in grid.shown}
        found["equivalence"] = [
            {"of": of, "figure": name, **equivalence(figure(one), 0.5, margin).to_dict()}
            for of, one in whole.items()
            for name, figure in (("auc", _area), ("accuracy", _accuracy))
        ]
    else:
        found["comparisons"] += _ratios(grid)
    found["roc"] = {name or "all": roc(grid.arm(name) if name else grid) for name in ("", *grid.shown)}
    return found


def choosing(grid: Grid, task: str, pictures: int, margin: float) -> Found:
    """Figures of a choice among `pictures`: the share right against chance, and the d' that gives as much."""
    guess = chance(task, pictures)
    arms = {name: _choice_figures(grid.arm(name), task, pictures) for name in grid.shown}
    found: Found = {"figures": _choice_figures(grid, task, pictures), "arms": arms, "pictures": pictures}
    found["comparisons"] = differences(grid, _share, "accuracy")
    if margin < min(guess, 1 - guess):
        whole = {"all": grid} | {name: grid.arm(name) for name in grid.shown}
        found["equivalence"] = [
            {"of": of, "figure": "accuracy", **equivalence(_share(one), guess, margin).to_dict()}
            for of, one in whole.items()
        ]
    return found


def roc(grid: Grid) -> list[list[float]]:
    """The ROC curve of all readers, their hit rates averaged at each rating, as (false alarms, hits) from 0, 0 on."""
    steps = np.unique(grid.score[~np.isnan(grid.score)])[::-1]
    points = [[0.0, 0.0]]
    for step in steps:
        said = np.where(np.isnan(grid.score), np.nan, grid.score >= step)
        rates = [_rate(said[:, grid.truth == truth]) for truth in (0, 1)]
        points.append([round(rate, 4) for rate in rates])
    return points


def seconds_of(grid: Grid) -> Measured:
    """The geometric mean of the readers' times in seconds."""
    return powered(measure(log_seconds(grid)))


def log_seconds(grid: Grid) -> Index:
    """The mean of the logarithm of the times."""
    return mean(np.log(np.maximum(grid.seconds, 0.001)), grid.cases)


def powered(measured: Measured) -> Measured:
    """A figure that was measured as a logarithm, its error as a share of it."""
    low, value, high = (float(np.exp(end)) for end in (measured.low, measured.value, measured.high))
    values = tuple(float(np.exp(one)) for one in measured.values)
    return replace(
        measured,
        value=value,
        low=low,
        high=high,
        values=values,
        plain=(np.exp(measured.plain[0]), np.exp(measured.plain[1])),
    )


def _yes_no_figures(grid: Grid) -> Found:
    said = np.where(np.isnan(grid.score), np.nan, grid.score > 0)
    d, criterion = sensitivity(said, grid.truth, grid.cases)
    parts = {
        name: measure(mean(grid.where(grid.truth == truth).correct, grid.cases), share=True)
        for name, truth in (("sensitivity", 1), ("specificity", 0))
    }
    return {
        "auc": told(measure(_area(grid), share=True), 0.5, share=True),
        "accuracy": told(measure(_accuracy(grid), share=True), 0.5, share=True),
        **{name: told(part) for name, part in parts.items()},
        "d_prime": told(measure(d), 0.0),
        "criterion": told(measure(criterion), 0.0),
        "seconds": told(seconds_of(grid)),
    }


def _choice_figures(grid: Grid, task: str, pictures: int) -> Found:
    right = measure(_share(grid), share=True)
    d = {end: rounded(sensitivity_of(getattr(right, end), task, pictures)) for end in ("value", "low", "high")}
    note = f"from the share right; {LARGEST:g} stands for all right"
    return {
        "accuracy": told(right, chance(task, pictures), share=True),
        "d_prime": {**d, "n": right.cases, "readers": right.readers, "over": right.over, "note": note},
        "seconds": told(seconds_of(grid)),
    }


def _ratios(grid: Grid) -> list[Found]:
    """How many times as long one arm takes as the other."""
    rows = differences(grid, log_seconds, "seconds, as a ratio")
    for row in rows:
        row |= {end: None if row[end] is None else rounded(float(np.exp(row[end]))) for end in ("value", "low", "high")}
        row |= {
            "chance": 1.0,
            "values": [rounded(float(np.exp(value))) for value in row["values"] if value is not None],
        }
    return rows


def _area(grid: Grid) -> Index:
    return area(grid.score, grid.truth == 1, grid.cases)


def _accuracy(grid: Grid) -> Index:
    return balanced(grid.correct, grid.truth == 1, grid.cases)


def _share(grid: Grid) -> Index:
    return mean(grid.correct, grid.cases)


def _rate(said: np.ndarray) -> float:
    rows = said[~np.isnan(said).all(1)]
    return float(np.nanmean(rows, 1).mean()) if rows.size else 0.0
