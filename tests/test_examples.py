"""Every script in examples/ runs to its end, is short, and says what it should."""

import re
import runpy
import sys
from pathlib import Path

import pytest
import torch

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
SAYS = {  # what the last lines are about
    "csv_of_dicoms": r"counterfactual\.dcm: CT Image Storage, patient's name in it: False(?s:.)*mask\.dcm: Segment",
    "my_torch_classifier": r"case 7: blob with probability [01]\.\d+, brightest place of the map inside it: True",
    "onnx_black_box": r"case 1: blob with probability 0\.9\d, seen around row 4\d, column 1\d\n\d+ queries in ",
    "public_layouts": r"CNV-\d+-1 \(patient \d+\): normal with probability 0\.",
    "study_of_ten_cases": r"'reader': 'cy', 'accuracy': 1\.0\}\nthe page: .*index\.html",
}


def test_each_has_its_words():
    assert set(SAYS) == {path.stem for path in EXAMPLES}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_is_short_and_says_how_to_run_it(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 60
    assert f"Run: python examples/{path.name}" in text


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_runs(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path)])
    with torch.random.fork_rng():
        runpy.run_path(str(path), run_name="__main__")
    said = capsys.readouterr().out
    assert re.search(SAYS[path.stem], said), said
    assert not list(tmp_path.iterdir()), "an example leaves nothing where it was run"
