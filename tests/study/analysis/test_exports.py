import csv
import io

import numpy as np
import pytest

from counterscan.study.analysis.exports import imrmc, mrmcaov, table
from counterscan.study.analysis.grid import grid_of
from counterscan.study.analysis.indices import area
from counterscan.study.records import readings


def grid(study, answered, *parts):
    return grid_of([one for one in readings(study, answered) if one.part in parts and one.role == "test"])


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_imrmc_has_the_truth_of_every_case_and_gives_the_same_areas(study, answered):
    one = grid(study, answered, 4, 5)
    rows = rows_of(imrmc({"lesion": one}))
    assert list(rows[0]) == ["readerID", "caseID", "modalityID", "score"]
    truth = {row["caseID"]: int(row["score"]) for row in rows if row["readerID"] == "truth"}
    mine = [row for row in rows if row["readerID"] == "ben" and row["modalityID"] == "with"]
    assert len(mine) == len(truth) == 36
    scores, truths = np.array([float(row["score"]) for row in mine]), np.array([truth[row["caseID"]] for row in mine])
    expected = area(one.arm("with").score, one.truth == 1).values[one.readers.index("ben")]
    assert area(scores[None], truths).values[0] == pytest.approx(expected)


def test_a_case_has_one_name_in_both_arms_and_each_reader_reads_it_once_in_each(study, answered):
    rows = rows_of(mrmcaov({"lesion": grid(study, answered, 4, 5)}))
    keys = [(row["reader"], row["test"], row["case"]) for row in rows]
    assert len(set(keys)) == len(keys) == 5 * 2 * 36
    assert {row["case"] for row in rows if row["test"] == "with"} == {
        row["case"] for row in rows if row["test"] != "with"
    }


def test_scores_stay_numbers_and_names_cannot_be_formulas(study, answered):
    text = mrmcaov({"a": grid(study, answered, 1), "b": grid(study, answered, 4, 5)})
    assert min(float(row["rating"]) for row in rows_of(text)) < 0
    assert '"' not in text
    assert rows_of(table([{"reader": "=1+2", "value": -3}])) == [{"reader": "'=1+2", "value": "-3"}]
