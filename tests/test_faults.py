"""Each long command is killed twice, at a moment and before an operation on a file, and ends as if undisturbed."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("sqlalchemy")
pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")

BENCH = Path(__file__).parents[1] / "bench"
COMMANDS = ("explain", "segment", "synthesise", "train")  # phantoms: tests/data/test_archive.py
KILLED = [f"{name}_killed_at_a_{at}" for name in COMMANDS for at in ("time", "file")]


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    """What the bench says of a kill of each kind, in a process of its own, for one with threads should not fork."""
    out = tmp_path_factory.mktemp("faults") / "faults.json"
    words = [sys.executable, "faults.py", "--kills", "1", "--skip", "disk,damage", "--json", str(out)]
    words += ["--only", ",".join([*COMMANDS, "study"])]
    done = subprocess.run(words, cwd=BENCH, capture_output=True, text=True)
    assert out.exists(), done.stderr
    return {"said": done.stdout, **json.loads(out.read_text())["metrics"]}


@pytest.mark.parametrize("name", [*KILLED, "study_killed_at_a_time"])
def test_killed_and_run_again_a_command_ends_as_if_undisturbed(figures, name):
    assert figures[name]["value"] == 1, figures["said"]
    assert figures[name]["n"] >= 1


@pytest.fixture
def runs(monkeypatch):
    """The module of the bench that runs and kills."""
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module("fault_runs")


def careless(said="12"):
    """A command that writes in place, and takes what is there for whole."""
    Path("out").mkdir(exist_ok=True)
    for name in "ab":
        if not Path(f"out/{name}").exists():
            Path(f"out/{name}").write_text(said)


def test_what_a_careless_command_leaves_is_found(runs, tmp_path):
    whole = runs.ended(careless, tmp_path / "whole", tmp_path / "log")
    assert (whole.code, whole.operations) == (0, 3)  # the folder and two files
    for number, wrong in ((1, []), (2, ["differs: a"]), (3, ["differs: b"])):
        place = tmp_path / str(number)
        assert runs.ended(careless, place, tmp_path / "log", runs.Moment(number=number)).killed
        assert not runs.ended(careless, place, tmp_path / "log").code
        found = runs.differences(runs.contents(tmp_path / "whole" / "out"), runs.contents(place / "out"))
        assert found == wrong


def test_a_command_is_killed_in_time_and_its_words_are_kept(runs, tmp_path):
    def waits():
        import time

        print("waiting", flush=True)
        time.sleep(60)

    found = runs.ended(waits, tmp_path / "out", tmp_path / "log", runs.Moment(seconds=1.0))
    assert (found.killed, found.lines) == (True, ["waiting"])
    assert found.seconds < 30


def test_times_are_no_difference_and_all_else_is(runs, tmp_path):
    for name, seconds, more in (("a", 1.5, {}), ("b", 2.5, {}), ("c", 1.5, {"left": "over"})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps({"seconds": seconds, "rows": [1, 2]}))
        (tmp_path / name / "cases.csv").write_text(f"name,seconds\nx,{seconds}\n")
        for file, text in more.items():
            (tmp_path / name / file).write_text(text)
    a, b, c = (runs.contents(tmp_path / name) for name in "abc")
    assert runs.differences(a, b) == []
    assert runs.differences(a, c) == ["left over: left"]
    assert runs.differences(c, a) == ["lost: left"]
