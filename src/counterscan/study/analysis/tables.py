"""Tables: one row a reader and task, and why pictures were thought synthetic."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from counterscan.study.analysis.grid import Grid
from counterscan.study.analysis.indices import area, balanced, mean, sensitivity
from counterscan.study.analysis.mixed import rounded
from counterscan.study.records import YES_NO, Answer, Study

Row = dict[str, Any]


def per_reader(grid: Grid, task: str) -> list[Row]:
    """The figures of each reader: what the means are means of."""
    columns: dict[str, np.ndarray] = {}
    if task in YES_NO:
        said = np.where(np.isnan(grid.score), np.nan, grid.score > 0)
        d, criterion = sensitivity(said, grid.truth == 1, grid.cases)
        columns["auc"] = area(grid.score, grid.truth == 1, grid.cases).values
        columns["accuracy"] = balanced(grid.correct, grid.truth == 1, grid.cases).values
        columns |= {"d_prime": d.values, "criterion": criterion.values}
        for name, truth in (("sensitivity", 1), ("specificity", 0)):
            columns[name] = mean(grid.where(grid.truth == truth).correct).values
    elif task in ("forced-choice", "odd-one-out"):
        columns["accuracy"] = mean(grid.correct).values
    elif task == "realism":
        columns["rating_real"] = mean(grid.where(grid.truth == 0).rating).values
        columns["rating_synthetic"] = mean(grid.where(grid.truth == 1).rating).values
    counts = (~np.isnan(grid.seconds)).sum(1)
    typical = [float(np.nanmedian(row)) if n else float("nan") for row, n in zip(grid.seconds, counts, strict=True)]
    return [
        {"reader": name, "answers": int(counts[row]), "median_seconds": rounded(typical[row])}
        | {column: rounded(float(values[row])) for column, values in columns.items()}
        for row, name in enumerate(grid.readers)
    ]


def reasons(study: Study, answers: Sequence[Answer], trials: Sequence[str]) -> list[Row]:
    """How often each box was ticked of real pictures and of each method's, as a share of the answers about them."""
    known = set(trials)
    wanted = [answer for answer in answers if answer.trial in known]
    kinds = [_kind(study, answer) for answer in wanted]
    of_kind = Counter(kinds)
    ticked = Counter((reason, kind) for answer, kind in zip(wanted, kinds, strict=True) for reason in answer.reasons)
    names = Counter(reason for answer in wanted for reason in answer.reasons)
    return [
        {"reason": reason, "n": n, **{kind: round(ticked[reason, kind] / of_kind[kind], 4) for kind in sorted(of_kind)}}
        for reason, n in names.most_common()
    ]


def _kind(study: Study, answer: Answer) -> str:
    pictures = [study.picture[one] for one in study.trial[answer.trial].pictures]
    return (
        "real" if all(one.kind == "real" for one in pictures) else study.trial[answer.trial].arm or pictures[0].method
    )
