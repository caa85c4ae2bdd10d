"""`data import` as a person meets it."""

import pytest
from PIL import Image
from typer.testing import CliRunner

from counterscan.cli import app


@pytest.fixture
def covid(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("COVID", "Normal", "Lung_Opacity", "Viral Pneumonia")):
        (tmp_path / "set" / name / "images").mkdir(parents=True)
        Image.new("L", (8, 8), number * 50).save(tmp_path / f"set/{name}/images/{name}-1.png")
    return tmp_path


def counterscan(*words):
    return CliRunner().invoke(app, ["data", *words])


def test_what_is_imported_passes_the_check(covid):
    answer = counterscan("import", "covid19-radiography", "set", "--out", "out")
    assert answer.exit_code == 0, answer.output
    assert "4 images of 4 patients" in answer.stdout
    checked = counterscan("check", "out")
    assert checked.exit_code == 0, checked.output
    assert "nothing to mend" in checked.stdout


def test_missing_images_leave_with_3(covid):
    (covid / "aptos/train_images").mkdir(parents=True)
    Image.new("L", (8, 8)).save(covid / "aptos/train_images/a.png")
    (covid / "aptos/train.csv").write_text("id_code,diagnosis\na,0\nb,1\n")
    answer = counterscan("import", "aptos2019", "aptos", "--out", "out")
    assert answer.exit_code == 3
    assert "1 are listed but not there" in answer.stdout


def test_a_wrong_folder_is_one_line(covid):
    answer = counterscan("import", "kits", "set", "--out", "out")
    assert answer.exit_code == 1
    assert answer.stderr.splitlines()[-1].startswith("error: ")
    assert answer.stderr.splitlines()[-1].endswith("did you mean 'covid19-radiography'?")
