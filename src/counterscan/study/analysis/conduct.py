"""How the readers went about it: attention checks, repeats, times, and what their confidence is worth."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from counterscan.study.analysis.grid import Grid
from counterscan.study.analysis.indices import mean
from counterscan.study.analysis.judgements import log_seconds, powered
from counterscan.study.analysis.kappa import cohen_kappa, fleiss_kappa, gwet_ac1, raw_agreement
from counterscan.study.analysis.mixed import Measured, measure
from counterscan.study.analysis.paired import told
from counterscan.study.analysis.reliability import intraclass_correlation, krippendorff_alpha
from counterscan.study.records import CHOICES, LEVELS, Reading

ATTENTIVE = (
    0.8  # of the attention checks; who gets fewer right is named, and stays unless excluded by the study's owner
)

Rows = Sequence[Reading]


def said(grid: Grid) -> np.ndarray:
    """What each reader answered `(R, N)` as numbers that may be compared within a trial, nan where nothing."""
    if not np.isnan(grid.rating).all():
        return grid.rating
    if not np.isnan(grid.score).all():
        return np.where(np.isnan(grid.score), np.nan, grid.score > 0)
    if not np.isnan(grid.correct).all():
        return grid.correct
    firsts = np.array([str(arm).split("|", 1)[0] for arm in grid.arms], dtype=object)
    return np.where(np.isnan(grid.seconds), np.nan, grid.methods == firsts)


def agreement(grid: Grid) -> dict[str, Any]:
    """How far readers agree in their answers, and in their ratings or confidence where there are such."""
    if len(grid.readers) < 2:
        return {}
    answers = said(grid).T
    found = {"share": raw_agreement(answers)}
    scale = grid.rating if not np.isnan(grid.rating).all() else grid.score
    if np.isnan(grid.rating).all():
        found |= {"fleiss_kappa": fleiss_kappa(answers), "gwet_ac1": gwet_ac1(answers)}
        found["krippendorff_alpha"] = krippendorff_alpha(answers)
    if not np.isnan(scale).all():
        found["krippendorff_alpha_ordinal"] = krippendorff_alpha(scale.T, "ordinal")
        found["krippendorff_alpha_interval"] = krippendorff_alpha(scale.T, "interval")
        found["icc_2_1"] = intraclass_correlation(scale.T)
    return {name: one.to_dict() for name, one in found.items()}


def pairwise(grid: Grid) -> list[dict[str, Any]]:
    """Cohen's kappa of every two readers; of ratings with quadratic weights."""
    answers, weights = said(grid), "none" if np.isnan(grid.rating).all() else "quadratic"
    names, n = grid.readers, len(grid.readers)
    return [
        {"first": names[i], "second": names[j], **cohen_kappa(answers[i], answers[j], weights).to_dict()}
        for i in range(n)
        for j in range(i + 1, n)
    ]


def repeated(readings: Rows, repeats: Rows) -> dict[str, Any]:
    """Cohen's kappa of what readers said of the same trial twice, of all of them and of each."""
    first = {(one.reader, one.trial): _answer(one) for one in readings}
    pairs = [(one.reader, first.get((one.reader, one.repeat_of)), _answer(one)) for one in repeats]
    known = [(reader, old, new) for reader, old, new in pairs if old is not None and new is not None]
    codes = {
        value: number for number, value in enumerate(sorted({value for _, *both in known for value in both}, key=str))
    }
    weights = "quadratic" if any(one.rating is not None for one in repeats) else "none"

    def kappa(chosen: list[tuple]) -> dict[str, Any]:
        old, new = (np.array([float(codes[one[side]]) for one in chosen]) for side in (1, 2))
        same = float(np.mean(old == new)) if chosen else float("nan")
        return {**cohen_kappa(old, new, weights).to_dict(), "same": round(same, 4) if chosen else None}

    if not known:
        return {}
    readers = sorted({reader for reader, *_ in known})
    return {"all": kappa(known), **{name: kappa([one for one in known if one[0] == name]) for name in readers}}


def attention(checks: Rows) -> dict[str, dict[str, Any]]:
    """Of each reader how many attention checks there were, how many were right, and whether that is enough."""
    found = {}
    for name in sorted({one.reader for one in checks}):
        right = [bool(one.correct) for one in checks if one.reader == name]
        found[name] = {"n": len(right), "right": sum(right), "attentive": sum(right) >= ATTENTIVE * len(right)}
    return found


def times(grid: Grid) -> dict[str, Any]:
    """How long right and wrong answers took, and how many times as long the wrong ones."""
    if np.isnan(grid.correct).all():
        return {}
    parts = {name: grid.where(grid.correct == right) for name, right in (("right", 1), ("wrong", 0))}
    logs = {name: log_seconds(part) for name, part in parts.items()}
    ratio: Measured = powered(measure(logs["wrong"] - logs["right"]))
    return {**{name: told(powered(measure(log))) for name, log in logs.items()}, "ratio": told(ratio)}


def calibration(grid: Grid) -> list[dict[str, Any]]:
    """The share right at each level of confidence: confidence is worth something where it rises."""
    if np.isnan(grid.score).all():
        return []
    rows = []
    for level in range(1, LEVELS + 1):
        part = grid.where(np.abs(grid.score) == level)
        if part.answers:
            figure = told(measure(mean(part.correct, grid.cases), share=True))
            rows.append({"confidence": level, "answers": part.answers, **figure})
    return rows


def _answer(one: Reading) -> str | int | bool | None:
    """What two answers to one trial must share to be the same, in words that other trials have too."""
    if one.rating is not None:
        return one.rating
    if one.task in CHOICES and one.choice is not None:
        return one.method if one.correct is None else one.correct
    return one.choice
