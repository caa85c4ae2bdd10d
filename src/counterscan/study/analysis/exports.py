"""Files for other programs: readings, one row a reader, and the formats of iMRMC and of MRMCaov."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from counterscan.data.table import text_of
from counterscan.study.analysis.grid import Grid
from counterscan.study.records import Reading

COLUMNS = tuple(Reading.model_fields)
FORMULA = tuple("=+-@\t\r")  # what a spreadsheet takes for one


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as CSV, with the columns of all of them; a cell that a spreadsheet would run as a formula is quoted."""
    return text_of([{name: _safe(value) for name, value in row.items()} for row in rows])


def readings_table(readings: Iterable[Reading]) -> str:
    """Every reading, training, repeats and checks too, told by `role`."""
    rows = [one.model_dump() for one in readings]
    return table(rows or [dict.fromkeys(COLUMNS, "")])


def imrmc(grids: dict[str, Grid]) -> str:
    """iMRMC's rows `readerID,caseID,modalityID,score`, the truth of each case first (FDA, iMRMC, public domain).

    `grids` are the yes/no parts by name. A modality is an arm; pictures that serve all arms are in each of them.
    """
    rows = list(_scored(grids))
    truths = {case: truth for _, _, case, truth, _ in rows}
    columns = ("readerID", "caseID", "modalityID", "score")
    found = [dict(zip(columns, ("truth", case, "truth", truth), strict=True)) for case, truth in truths.items()]
    found += [dict(zip(columns, (name, case, arm, score), strict=True)) for name, arm, case, _, score in rows]
    return table(found or [dict.fromkeys(columns, "")])


def mrmcaov(grids: dict[str, Grid]) -> str:
    """The long table `reader,test,case,truth,rating` of the R package MRMCaov."""
    columns = ("reader", "test", "case", "truth", "rating")
    rows = [dict(zip(columns, row, strict=True)) for row in _scored(grids)]
    return table(rows or [dict.fromkeys(columns, "")])


def _scored(grids: dict[str, Grid]) -> Iterator[tuple[str, str, str, int, float]]:
    """Reader, modality, case, truth and score of each reading; names tell parts apart where there are several."""
    for number, grid in enumerate(grids.values(), 1):
        before = f"part{number}-" if len(grids) > 1 else ""
        for arm in grid.shown or [""]:
            one = grid.arm(arm) if arm else grid
            names = _case_names(one)
            for row, column in zip(*np.nonzero(~np.isnan(one.score)), strict=True):
                truth, score = int(one.truth[column]), float(one.score[row, column])
                yield (
                    _plain(one.readers[row]),
                    _plain(f"{before}{arm or 'all'}"),
                    f"{before}{names[column]}",
                    truth,
                    score,
                )


def _case_names(grid: Grid) -> list[str]:
    """One name a trial, the same in each arm where a case is shown once in it, so that the arms are paired."""
    names = [f"case{code}-truth{truth:g}" for code, truth in zip(grid.cases, grid.truth, strict=True)]
    read = ~np.isnan(grid.score).all(0)
    often = Counter(name for name, there in zip(names, read, strict=True) if there)
    return [f"{name}-{trial}" if often[name] > 1 else name for name, trial in zip(names, grid.trials, strict=True)]


def _plain(name: str) -> str:
    """Without what a simple reader of such files takes for the end of a cell."""
    return re.sub(r"[\s,;\"']+", "_", name)


def _safe(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in FORMULA else value
