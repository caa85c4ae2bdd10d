"""The command as a person meets it: what it prints, what it writes, and the code that it leaves with."""

import json
import sys
import warnings
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from counterscan import cli, engine
from counterscan.data.manifest import read_manifest
from counterscan.errors import CounterscanError

MODEL = """
import numpy as np
from counterscan.core import Card

def bright(images):
    return images.max((1, 2, 3))[:, None] * 20

bright.card = Card(name="bright", shape=(1, 32, 32), classes=("effusion",))

def broken(images):
    return np.full((len(images), 1), np.nan)

broken.card = bright.card
"""
WORDS = ["--classifier", "toy_model:bright", "--target", "effusion=0", "--with", "rise", "--set", "masks=16"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to work in, with a classifier and three images, one of them without anything bright."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "toy_model", raising=False)
    (tmp_path / "toy_model.py").write_text(MODEL)
    for number in range(3):
        pixels = np.random.default_rng(number).integers(10, 60, (40, 40)).astype(np.uint8)
        if number:
            pixels[10:20, 10:20] = 240
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{number}.png")
    return tmp_path


def counterscan(*words: object):
    """Run the command in this process."""
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def test_explain_writes_a_page_and_says_who_was_there_already(place):
    answer = counterscan("explain", "in", *WORDS, "--out", "answer")
    assert answer.exit_code == 0, answer.output
    assert "3 images done: answer/index.html" in answer.stdout
    assert "1 was there already and keeps its picture: 0" in answer.stdout
    assert (place / "answer" / "index.html").exists()
    assert (place / "answer" / "cases" / "1" / "figure.png").exists()
    assert json.loads((place / "answer" / "run.json").read_text())["explainer"].startswith("RISE(masks=16")


def test_volumes_are_told_with_their_lesions_and_pages(place):
    values = np.random.default_rng(0).integers(10, 60, (32, 32, 6)).astype(np.int16)
    values[10:20, 10:20, 1:5] = 240
    nibabel.save(nibabel.Nifti1Image(values, np.diag([1.0, 1.0, 3.0, 1.0])), place / "ct.nii.gz")
    answer = counterscan("segment", "ct.nii.gz", *WORDS, "--threshold", 0.1, "--out", "answer")
    assert answer.exit_code == 0, answer.output
    (line,) = [line for line in answer.stdout.splitlines() if "lesion" in line]
    count = json.loads((place / "answer" / "cases" / "ct.json").read_text())["lesions"]
    assert line.startswith(f"1 volume with {count} lesion")
    assert "pages in answer/volumes" in line
    assert (place / "answer" / "volumes" / "ct.html").exists()


def test_several_inputs_are_explained_together(place):
    answer = counterscan("explain", "in/0.png", "in/2.png", *WORDS, "--out", "answer")
    assert answer.exit_code == 0, answer.output
    assert {path.name for path in (place / "answer" / "cases").iterdir()} == {"0", "2"}


def test_a_bad_image_among_good_ones_is_listed_and_the_code_is_3(place):
    (place / "in" / "bad.dcm").write_text("this is no image")
    answer = counterscan("explain", "in", *WORDS, "--out", "answer")
    assert answer.exit_code == 3
    assert "3 images done" in answer.stdout
    assert "1 failed" in answer.stderr
    assert "bad.dcm is not a DICOM" in answer.stderr


def test_when_all_images_are_bad_it_is_a_users_error(place):
    (place / "text.dcm").write_text("this is no image")
    answer = counterscan("explain", "text.dcm", *WORDS, "--out", "answer")
    assert answer.exit_code == 1
    assert answer.stderr.splitlines()[-1].startswith("error: ")
    assert "text.dcm is not a DICOM" in answer.stderr
    assert (place / "answer" / "failed.csv").exists()
    assert counterscan("explain", "in/1.png", *WORDS, "--out", "answer").exit_code == 0


def test_segment_needs_to_know_what_a_mask_is(place):
    answer = counterscan("segment", "in", *WORDS, "--out", "masks")
    assert answer.exit_code == 1
    assert "--threshold" in answer.stderr
    answer = counterscan("segment", "in", *WORDS, "--threshold", "0.01", "--out", "masks")
    assert answer.exit_code == 0, answer.output
    assert {path.name for path in (place / "masks" / "masks").iterdir()} == {"0.png", "1.png", "2.png"}
    assert not np.array(Image.open(place / "masks" / "masks" / "0.png")).any()


def test_a_mask_rule_comes_from_a_file(place):
    (place / "rule.json").write_text(json.dumps({"mask_rule": {"threshold": 0.5, "relative": 1}}))
    words = ["segment", "in", *WORDS, "--rule", "rule.json", "--out", "masks"]
    answer = counterscan(*words, "--dry-run")
    assert json.loads(answer.stdout)["mask_rule"]["threshold"] == 0.5
    assert not (place / "masks").exists()
    (place / "rule.json").write_text("{}")
    assert "holds no mask rule" in counterscan(*words).stderr


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"--target": "effusoin=0"}, "did you mean 'effusion'?"),
        ({"--target": "effusion=maybe"}, "cannot read 'effusion=maybe'"),
        ({"--with": "layer-cma"}, "did you mean 'layer-cam'?"),
        ({"--with": "layer-cam", "--set": "layer="}, "needs gradients"),
        ({"--with": "inpainting"}, "--prior"),
        ({"--set": "maks=16"}, "did you mean 'masks'?"),
        ({"--set": "masks"}, "key=value"),
        ({"--classifier": "toy_model:brigth"}, "did you mean 'bright'?"),
        ({"--classifier": "chest/clasifier"}, "no classifier is called"),
        ({"--classifier": "toy_model:broken"}, "NaN"),
        ({"--window": "high"}, "low:high"),
        ({"--fold": "3"}, "fold"),
    ],
    ids=lambda value: " ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_a_users_error_is_one_line_that_names_the_cure(place, changes, line):
    words = dict(zip(WORDS[::2], WORDS[1::2], strict=True)) | changes
    answer = counterscan("explain", "in", *[word for pair in words.items() for word in pair], "--out", "answer")
    assert answer.exit_code == 1, answer.output
    lines = [text for text in answer.stderr.splitlines() if not text.startswith("explain:")]  # progress goes there, too
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert line in lines[0]


@pytest.mark.parametrize("inputs", ["empty", "nowhere", "in/nothing.png", "bad.csv"])
def test_inputs_that_are_not_there_are_a_users_error(place, inputs):
    (place / "empty").mkdir()
    (place / "bad.csv").write_text("file,label\na.png,normal\n")
    answer = counterscan("explain", inputs, *WORDS, "--out", "answer")
    assert answer.exit_code == 1, answer.output
    assert answer.stderr.startswith("error: ")
    assert len(answer.stderr.splitlines()) == 1
    assert not (place / "answer").exists()


LEAKING = "path,effusion,split,patient_id\n0.png,0,train,p\n1.png,1,test,p\n"


def test_a_warning_is_one_plain_line_told_once(place, monkeypatch):
    (place / "in" / "labels.csv").write_text(LEAKING)
    answer = counterscan("data", "check", "in")
    lines = [line for line in answer.stderr.splitlines() if "patient p" in line]
    assert len(lines) == 1
    assert lines[0].startswith("counterscan: in/labels.csv: patient p is in splits")
    assert "UserWarning" not in answer.stderr

    def warns(job, engine, shard):
        for number in range(4):
            warnings.warn(f"one\n  {number % 2}", stacklevel=1 + number // 2)
        raise CounterscanError("the end")

    monkeypatch.setattr(engine, "run", warns)
    answer = counterscan("explain", "in/0.png", *WORDS, "--out", "answer")
    assert answer.stderr.splitlines() == ["counterscan: one 0", "counterscan: one 1", "error: the end"]


def test_a_library_user_keeps_pythons_own_warnings(place):
    (place / "in" / "labels.csv").write_text(LEAKING)
    counterscan("data", "check", "in")
    with pytest.warns(UserWarning, match="patient p is in splits"):
        read_manifest(place / "in")


def test_wrong_usage_leaves_with_2(place):
    assert counterscan("explain", "in").exit_code == 2
    assert counterscan("explian").exit_code == 2
    assert counterscan("explain", "in", *WORDS, "--out", "answer", "--batch", "0").exit_code == 2


def test_another_job_in_the_same_folder_is_refused(place):
    assert counterscan("explain", "in", *WORDS, "--out", "answer").exit_code == 0
    answer = counterscan("explain", "in", *WORDS, "--seed", "4", "--out", "answer")
    assert answer.exit_code == 1
    assert "seed was 0, now 4" in answer.stderr


def test_ctrl_c_says_how_to_go_on(place, monkeypatch):
    def interrupted(job, engine, shard):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "run", interrupted)
    answer = counterscan("explain", "in", *WORDS, "--out", "answer")
    assert answer.exit_code == 130
    assert answer.stderr == "stopped; run the same command to go on\n"


def test_what_nobody_foresaw_keeps_its_traceback(place, monkeypatch):
    def astonished(job, engine, shard):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(engine, "run", astonished)
    answer = counterscan("explain", "in", *WORDS, "--out", "answer")
    assert isinstance(answer.exception, ZeroDivisionError)


def test_phantoms_are_written_and_checked(place):
    answer = counterscan("phantoms", "chest", "-n", 4, "--size", 64, "--findings", "effusion", "--out", "archive")
    assert answer.exit_code == 0, answer.output
    assert (place / "archive" / "labels.csv").exists()
    answer = counterscan("data", "check", "archive")
    assert answer.exit_code == 0, answer.output
    assert "effusion" in answer.stdout
    (place / "archive" / "images" / "000001.png").write_bytes(b"cut")
    answer = counterscan("data", "check", "archive")
    assert answer.exit_code == 3
    assert "000001.png" in answer.stdout
    answer = counterscan("phantoms", "chest", "--findings", "efusion", "--out", "other")
    assert answer.exit_code == 1
    assert "did you mean 'effusion'?" in answer.stderr


def test_list_names_everything(place):
    answer = counterscan("list")
    assert answer.exit_code == 0, answer.output
    assert all(name in answer.stdout for name in ("explainers:", "inpainting", "layer-cam", "recipes:", "metrics:"))
    assert "rise" in counterscan("list", "explainers").stdout
    assert "did you mean 'metrics'?" in counterscan("list", "metrcs").stderr


def test_train_prints_or_refuses_a_recipe(place):
    words = ["train", "classifier", "--data", "in", "--out", "run"]
    answer = counterscan(*words, "--set", "steps=5", "--dry-run")
    assert answer.exit_code == 0, answer.output
    assert "steps=5" in answer.stdout
    assert "did you mean 'steps'?" in counterscan(*words, "--set", "step=5").stderr
    assert "did you mean 'classifier'?" in counterscan("train", "clasifier", "--data", "in", "--out", "run").stderr
    assert "labels.csv" in counterscan(*words).stderr
    assert not Path("run").exists()
