import pytest

from counterscan.study.analysis.grid import grid_of
from counterscan.study.analysis.tables import per_reader, reasons
from counterscan.study.records import readings


@pytest.mark.parametrize(("part", "task", "column"), [(1, "real-or-synthetic", "auc"), (2, "realism", "rating_real")])
def test_a_row_a_reader(study, answered, part, task, column):
    grid = grid_of([one for one in readings(study, answered) if one.part == part and one.role == "test"])
    rows = per_reader(grid, task)
    assert [row["reader"] for row in rows] == list(grid.readers)
    assert all(row["answers"] == 72 and row[column] is not None for row in rows)


def test_reasons_are_shares_of_the_answers_about_each_kind(study, answered):
    tests = {trial.id: trial for trial in study.trials if trial.part == 1 and trial.role == "test"}
    texture = next(row for row in reasons(study, answered, list(tests)) if row["reason"] == "texture")
    about = [one for one in answered if one.trial in tests and tests[one.trial].arm == "gan"]
    assert texture["gan"] == pytest.approx(sum("texture" in one.reasons for one in about) / len(about), abs=1e-4)
    assert texture["gan"] > texture["real"]
