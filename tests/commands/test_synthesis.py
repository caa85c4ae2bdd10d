"""`counterscan synthesise` as a person meets it."""

import pytest
import torch
from typer.testing import CliRunner

from counterscan import cli
from counterscan.data.manifest import read_manifest
from counterscan.errors import UnknownName
from counterscan.synthesis import asking

WORDS = ("--generator", "tiles", "--classifier", "mine", "--judge", "judge")


@pytest.fixture
def counterscan(tiles, bright, monkeypatch):
    """Runs the command with networks that have no files."""
    known = {"mine": bright(), "judge": bright(bias=-0.3), "deaf": bright(bias=-40), "single": bright(output="softmax")}
    known["half"] = bright(bias=-0.3)
    with torch.no_grad():
        known["half"].module.readout.bias[2] = -40

    def load(name):
        if name not in known:
            raise UnknownName(f"no classifier is called {name!r}")
        return known[name]

    monkeypatch.setattr(asking, "load_generator", lambda name: tiles)
    monkeypatch.setattr(asking, "load_classifier", load)
    return lambda *words: CliRunner().invoke(cli.app, ["synthesise", *map(str, words)])


def test_it_writes_an_archive_and_says_where(counterscan, tmp_path):
    out = tmp_path / "made"
    answer = counterscan(*WORDS, "--labels", "a=1", "--labels", "b=1,c=0", "-n", 6, "--out", out)
    assert answer.exit_code == 0, answer.output
    assert f"6 of 6 scans: {out / 'labels.csv'}" in answer.stdout
    assert "without --references" in answer.stderr
    assert len(read_manifest(out)) == 6


def test_references_are_compared_with_and_the_distance_is_written(counterscan, tmp_path):
    real, out = tmp_path / "real", tmp_path / "made"
    assert counterscan(*WORDS, "--labels", "a=1", "-n", 30, "--seed", 9, "--out", real).exit_code == 0
    answer = counterscan(*WORDS, "--labels", "a=1", "-n", 4, "--references", real / "labels.csv", "--out", out)
    assert answer.exit_code == 0, answer.output
    assert all(float(case.facts["nearest_real"]) > 0 for case in read_manifest(out).cases)
    again = counterscan(*WORDS, "--labels", "a=1", "-n", 4, "--out", out)
    assert again.exit_code == 1
    assert "references" in again.stderr


def test_some_that_could_not_be_made_leave_with_3_and_a_line(counterscan, tmp_path):
    words = ("--generator", "tiles", "--classifier", "mine", "--judge", "half", "--labels", "a=1", "--labels", "c=1")
    answer = counterscan(*words, "-n", 4, "--out", tmp_path / "made")
    assert answer.exit_code == 3, answer.output
    assert "2 of 4 scans" in answer.stdout
    assert "c=1: 2 of 2 not reached in 6 tries (refused 6 by judge)" in answer.stderr


def test_a_dry_run_says_what_would_be_made_and_writes_nothing(counterscan, tmp_path):
    answer = counterscan(*WORDS, "--labels", "a=1", "-n", 6, "--out", tmp_path / "made", "--dry-run")
    assert answer.exit_code == 0
    assert '"a=1"' in answer.stdout
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ((*WORDS, "-n", 3), "--labels (repeatable), --counts and --prevalence"),
        ((*WORDS, "--labels", "a=1"), "-n 1000"),
        ((*WORDS, "--labels", "a=1,a=0", "-n", 3), "both present and absent"),
        ((*WORDS, "--labels", "z=1", "-n", 3), "no class 'z'"),
        ((*WORDS, "--labels", "a=1", "-n", 3, "--format", "dicm"), "did you mean 'dicom'?"),
        ((*WORDS, "--counts", "nowhere.csv"), "does not exist"),
        (
            ("--generator", "tiles", "--classifier", "mine", "--judge", "single", "--labels", "a", "-n", 3),
            "same labels",
        ),
        (
            ("--generator", "tiles", "--classifier", "none", "--judge", "mine", "--labels", "a", "-n", 3),
            "no classifier",
        ),
        (("--generator", "tiles", "--classifier", "mine", "--judge", "deaf", "--labels", "a", "-n", 3), "not one scan"),
    ],
)
def test_a_users_error_is_one_line_that_names_the_cure(counterscan, tmp_path, words, line):
    answer = counterscan(*words, "--out", tmp_path / "made")
    assert answer.exit_code == 1, answer.output
    assert line in answer.stderr
    assert len([one for one in answer.stderr.splitlines() if one.startswith("error:")]) == 1
    assert not (tmp_path / "made" / "labels.csv").exists()
