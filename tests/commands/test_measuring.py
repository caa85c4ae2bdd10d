"""`counterscan bench` as a person meets it; the suite itself is tested in tests/bench."""

import pytest
from typer.testing import CliRunner

from counterscan import bench, cli
from counterscan.bench.rows import Row
from counterscan.bench.table import Table


def counterscan(*words):
    return CliRunner().invoke(cli.app, ["bench", *map(str, words)])


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("segmentatoin", "phantoms"), "did you mean 'segmentation'?"),
        (("segmentation", "phantomes"), "did you mean 'phantoms'?"),
        (("segmentation", "phantoms", "--folds", "0"), "leave --folds"),
        (("segmentation", "phantoms", "--models", "nowhere"), "there is no classifier nowhere/classifier"),
        (("segmentation", "phantoms", "--method", "layer-cma"), "did you mean 'layer-cam'?"),
        (("segmentation", "phantoms", "--model", "student"), "NAME=PLACE"),
        (("segmentation", ".", "--models", "runs", "--size", "64"), "--size is for phantoms"),
        (("segmentation", "phantoms", "--kinds", "oct"), "the suite segmentation has no --kinds"),
        (("all", "--kinds", "chset"), "did you mean 'chest'?"),
        (("all", "--kinds", "oct", "--method", "rsie"), "did you mean 'rise'?"),
        (("all", "--masks", "8"), "the suite all has no --masks"),
        (("all", "--target", "dr=0"), "leave --target out"),
        (("all", "--model", "oct/judeg=runs/judge"), "did you mean 'judge'?"),
    ],
)
def test_a_users_error_is_one_line_that_names_the_cure_and_writes_nothing(tmp_path, words, line):
    answer = counterscan(*words, "--out", tmp_path / "out")
    assert answer.exit_code == 1, answer.output
    assert line in answer.stderr
    assert len(answer.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_method_that_failed_leaves_with_3_and_an_absent_one_does_not(tmp_path, monkeypatch):
    absent, failed = Row("student", absent="no model a/student"), Row("rise", failed="the classifier answers NaN")
    for rows, code in (([absent], 0), ([absent, failed], 3)):
        table = Table({"notes": ["a note"]}, rows)
        monkeypatch.setattr(bench, "run_suite", lambda name, table=table, **words: table)
        answer = counterscan("segmentation", "phantoms", "--out", tmp_path / "out")
        assert answer.exit_code == code, answer.output
        assert "absent: no model a/student" in answer.stdout
        assert "a note" in answer.stdout
        assert ("failed: the classifier answers NaN" in answer.stdout) == bool(code)
