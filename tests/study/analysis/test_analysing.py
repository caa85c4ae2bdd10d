import csv
import json
import subprocess
import sys

import pytest

from counterscan.errors import CounterscanError
from counterscan.study.analysis import analyse
from counterscan.study.analysis.analysing import MARGIN
from counterscan.study.records import YES_NO

FILES = {"results.json", "readings.csv", "per_reader.csv", "imrmc.csv", "mrmcaov.csv", "index.html"}


@pytest.fixture(scope="module")
def results(study, answered):
    return analyse(study, answered)


def section(found, task):
    return next(part for part in found.to_dict()["parts"] if part["task"] == task)


def test_every_task_has_its_section_and_lesion_parts_are_one(results):
    tasks = [part["task"] for part in results.to_dict()["parts"]]
    assert tasks == ["real-or-synthetic", "realism", "side-by-side", "lesion", "forced-choice", "odd-one-out"]
    assert set(section(results, "lesion")["arms"]) == {"with", "without"}
    assert results.to_dict()["margin"] == MARGIN


def test_training_repeats_and_checks_are_never_among_the_figures(study, answered, results):
    apart = {trial.id for trial in study.trials if trial.role != "test"}
    turned = [
        one.model_copy(update={"choice": "real" if one.choice == "synthetic" else "synthetic"})
        if one.trial in apart
        else one
        for one in answered
    ]
    other = section(analyse(study, turned), "real-or-synthetic")
    mine = section(results, "real-or-synthetic")
    assert other["figures"] == mine["figures"]
    assert mine["left_out"] == {"repeat": 50, "training": 5, "check": 10}
    assert other["repeats"] != mine["repeats"]


def test_a_reader_who_fails_checks_stays_and_is_named_and_exclude_is_told(study, answered, results):
    checks = {trial.id for trial in study.trials if trial.role == "check"}
    careless = [
        one.model_copy(update={"choice": "real"}) if one.reader == "ben" and one.trial in checks else one
        for one in answered
    ]
    found = analyse(study, careless)
    assert found.to_dict()["inattentive"] == ["ben"]
    assert section(found, "real-or-synthetic")["figures"] == section(results, "real-or-synthetic")["figures"]
    without = analyse(study, careless, exclude=("ben",))
    assert without.to_dict()["excluded"] == ["ben"]
    assert without.to_dict()["inattentive"] == []
    assert section(without, "real-or-synthetic")["n_readers"] == 4


def test_the_order_of_the_answers_changes_nothing(study, answered, results):
    kept = ("figures", "comparisons", "equivalence")
    other = section(analyse(study, answered[::-1]), "real-or-synthetic")
    assert {key: other[key] for key in kept} == {key: section(results, "real-or-synthetic")[key] for key in kept}


def test_two_readers_get_intervals_over_cases_and_are_told_so(study, answered):
    found = analyse(study, [one for one in answered if one.reader in ("ada", "ben")])
    figure = section(found, "forced-choice")["figures"]["accuracy"]
    assert figure["over"] == "cases"
    assert "3 are needed" in figure["note"]
    assert found.to_dict()["without_answers"] == ["cleo", "dan", "eva"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one: one.model_copy(update={"trial": "elsewhere"}), "does not have"),
        (lambda one: one.model_copy(update={"reader": "zoe"}), "no reader 'zoe'"),
    ],
)
def test_answers_of_another_study_are_refused(study, answered, change, said):
    with pytest.raises(CounterscanError, match=said):
        analyse(study, [change(answered[0]), *answered[1:]])


def test_an_answer_twice_nobody_and_nothing_are_refused(study, answered):
    with pytest.raises(CounterscanError, match="2 times"):
        analyse(study, [*answered, answered[3]])
    with pytest.raises(CounterscanError, match="did you mean 'ben'"):
        analyse(study, answered, exclude=("bem",))
    with pytest.raises(CounterscanError, match="no answers to analyse yet"):
        analyse(study, [])


def test_what_is_written_is_what_was_found(results, tmp_path):
    page = results.write(tmp_path / "out")
    assert {path.name for path in page.parent.iterdir()} == FILES
    assert json.loads((page.parent / "results.json").read_text()) == results.to_dict()
    with (page.parent / "per_reader.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 5 * 6
    assert results.to_dict()["metrics"]["real-or-synthetic 1: auc"].keys() == {"value", "low", "high", "n"}


def test_results_hold_no_nan(results):
    json.dumps(results.to_dict(), allow_nan=False)
    assert set(YES_NO) <= {part["task"] for part in results.to_dict()["parts"]}


def test_torch_is_not_loaded():
    code = "import sys, counterscan.study.analysis; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
