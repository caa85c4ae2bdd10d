"""The bench that damages files: its inputs are the same every time, it goes on where it was, and it sees faults."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("pydicom")
BENCH = Path(__file__).parents[1] / "bench"


@pytest.fixture
def fuzz(monkeypatch):
    """The module of the bench."""
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module("fuzz")


def run(out, *words):
    done = subprocess.run(
        [sys.executable, "fuzz.py", "--out", str(out), *words], cwd=BENCH, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def test_it_goes_on_where_it_was(tmp_path):
    for inputs in (100, 300):
        words = ("--inputs", str(inputs), "--only", "target", "--json", str(tmp_path / "fuzz.json"))
        code, said = run(tmp_path / "findings", *words)
        assert code == 0, said
    told = json.loads((tmp_path / "fuzz.json").read_text())["metrics"]
    assert told["fuzz_of_target"]["value"] == 300
    assert told["fuzz_read"]["value"] + told["fuzz_refused"]["value"] == 300
    assert told["fuzz_hang"]["value"] == 0


def test_an_input_depends_on_the_seed_and_its_number_alone(fuzz):
    from seeds_texts import texts

    chosen = list(texts())
    again = list(texts())
    assert chosen == again
    assert [fuzz.changed(chosen, 3, n) for n in range(99)] == [fuzz.changed(again, 3, n) for n in range(99)]
    assert fuzz.changed(chosen, 3, 98) != fuzz.changed(chosen, 4, 98)


@pytest.mark.parametrize(
    ("reader", "kind"),
    [
        (lambda path, folder: path.read_bytes(), "value"),
        (lambda path, folder: refused("name another"), "refused"),
        (lambda path, folder: 1 // 0, "error"),
        (lambda path, folder: sys.exit(3), "error"),
    ],
)
def test_only_a_value_and_one_line_are_no_fault(fuzz, monkeypatch, tmp_path, reader, kind):
    monkeypatch.setitem(fuzz.READERS, "rule", reader)
    seed = fuzz.Seed("rule", "rule", "rule.json", {"rule.json": b"{}"})
    fuzz.lay(seed, tmp_path, writing=False)
    assert fuzz._answer(seed, tmp_path / "case", [])[0] == kind


def refused(text):
    from counterscan.errors import CounterscanError

    raise CounterscanError(text)


def test_what_is_written_outside_is_seen(fuzz, tmp_path):
    outside = []
    for path, mode in ((tmp_path / "in" / "a", "w"), (tmp_path / "in" / ".." / "b", "w"), (tmp_path / "c", "r")):
        fuzz._watch("open", (str(path), mode, 1 if mode == "w" else 0), tmp_path / "in", outside)
    fuzz._watch("os.rename", (str(tmp_path / "in" / "a"), str(tmp_path / "d"), -1, -1), tmp_path / "in", outside)
    assert outside == [str(tmp_path / "b"), str(tmp_path / "d")]


def test_an_input_that_takes_too_long_is_a_hang(fuzz, monkeypatch):
    worker = fuzz.Worker.__new__(fuzz.Worker)
    worker.seen, worker.since, worker.used = 7, 0.0, 0.0
    worker.now = type("Now", (), {"value": 7})
    monkeypatch.setattr(fuzz.Worker, "_used", lambda self: 1.5)
    monkeypatch.setattr(fuzz.time, "monotonic", lambda: 9.0)
    assert worker._late() is None
    monkeypatch.setattr(fuzz.Worker, "_used", lambda self: 2.5)
    assert worker._late() == (7, ("hang", "hung: 2 s of the processor, 9 s"))
