"""Where a job runs, as a person types it: wrong words are told before anything is loaded, parts say what is left."""

import csv
import json
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from counterscan.cli import app

WORDS = ("--classifier", "answering:classifier", "--target", "bright=0", "--with", "occlusion", "--threshold", "0.1")
MODULE = """
from counterscan.classifiers.function import FunctionClassifier
from counterscan.core import Card
card = Card(name="mean", shape=(1, 16, 16), classes=("bright",))
classifier = FunctionClassifier(lambda images: 20 * images.max((1, 2, 3))[:, None], card)
"""


SLOW = """
import time
from answering import FunctionClassifier, card
def ask(images):
    time.sleep(0.2)
    return 20 * images.max((1, 2, 3))[:, None]
classifier = FunctionClassifier(ask, card)
"""


@pytest.fixture
def counterscan(tmp_path, monkeypatch):
    """Runs the command in a folder with four pictures and a classifier that cannot be pickled."""
    (tmp_path / "in").mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 90, (16, 16)).astype(np.uint8)
        pixels[4:9, 4:9] = 240
        Image.fromarray(pixels).save(tmp_path / "in" / f"{number}.png")
    (tmp_path / "answering.py").write_text(MODULE)
    (tmp_path / "slow.py").write_text(SLOW)
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, [*words])


@pytest.mark.parametrize("command", [("explain", "in"), ("segment", "in"), ("score", "in"), ("synthesise",)])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--shard", "3/2"), "cannot read the shard '3/2'"),
        (("--engine", "rya"), "did you mean 'ray'"),
        (("--address", "head:6379"), "add --engine ray"),
    ],
)
def test_a_wrong_word_is_told_before_anything_is_loaded(counterscan, command, words, message):
    needed = {
        "score": (),
        "synthesise": ("--generator", "g", "--classifier", "c", "--judge", "j", "--out", "out", "-n", "1"),
    }
    answer = counterscan(*command, *needed.get(command[0], (*WORDS, "--out", "out")), *words)
    assert answer.exit_code == 1, answer.output
    assert message in answer.stderr


def test_parts_say_what_is_left_and_the_last_writes_the_tables(counterscan, tmp_path):
    words = ("explain", "in", *WORDS, "--out", "out", "--batch", "1")
    answer = counterscan(*words, "--shard", "2/2")
    assert answer.exit_code == 0, answer.output
    assert "2 images done: out; missing: 1/2; who finishes last writes the tables" in answer.stdout
    assert "4 images done" in counterscan(*words, "--shard", "1/2").stdout
    assert (tmp_path / "out" / "cases.csv").exists()
    scored = counterscan("score", "out", "--shard", "2/2")
    assert "part 2/2 is measured; missing: 1/2" in scored.stdout
    assert "iou" not in counterscan("score", "out", "--shard", "1/2").stdout
    assert json.loads((tmp_path / "out" / "score.json").read_text())["n"] == 4


def test_a_part_that_was_killed_while_it_wrote_the_tables_is_told_of_and_the_whole_mends_it(counterscan, tmp_path):
    words = ("explain", "in", *WORDS, "--out", "out", "--batch", "1")
    counterscan(*words, "--shard", "1/2")
    lock = tmp_path / "out" / ".shards" / "tables.lock"
    lock.touch()
    waiting = counterscan(*words, "--shard", "2/2").stdout
    assert "2 images done: out; another part is writing the tables; if none is running, run this once more" in waiting
    assert not (tmp_path / "out" / "cases.csv").exists()
    counterscan("score", "out", "--shard", "1/2")
    assert "another part is writing the figures; if none" in counterscan("score", "out", "--shard", "2/2").stdout
    assert "4 images done: out/index.html" in counterscan(*words).stdout
    assert not lock.exists()
    assert "Occlusion" in counterscan("score", "out", "--shard", "1/1").stdout


def test_a_command_that_was_killed_with_its_workers_goes_on_in_parts(counterscan, tmp_path):
    words = ["explain", "in", *WORDS, "--batch", "1"]
    words[words.index("answering:classifier")] = "slow:classifier"
    command = [sys.executable, "-m", "counterscan", *words, "--out", "cut", "--workers", "2"]
    process, until = subprocess.Popen(command, cwd=tmp_path), time.monotonic() + 300
    while not finished(tmp_path / "cut") and time.monotonic() < until:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert 0 < len(finished(tmp_path / "cut")) < 4
    counterscan(*words, "--out", "cut", "--shard", "2/2")
    assert "4 images done: cut/index.html" in counterscan(*words, "--out", "cut", "--shard", "1/2").stdout
    counterscan(*words, "--out", "whole")
    one, other = (list(csv.DictReader((tmp_path / name / "cases.csv").open())) for name in ("cut", "whole"))
    assert [row | {"seconds": ""} for row in one] == [row | {"seconds": ""} for row in other]


def finished(out):
    return list(out.glob("cases/[!.]*/explanation.json"))


def test_workers_make_their_models_by_the_words(counterscan, tmp_path):
    assert counterscan("segment", "in", *WORDS, "--out", "one").exit_code == 0
    answer = counterscan("segment", "in", *WORDS, "--out", "two", "--workers", "2", "--batch", "2")
    assert answer.exit_code == 0, answer.output
    assert "4 images done" in answer.stdout
    for path in (tmp_path / "one" / "masks").rglob("*.png"):
        assert path.read_bytes() == (tmp_path / "two" / "masks" / path.name).read_bytes()
