"""A batch job: what it writes, that it goes on where it was, and that one bad image spoils nothing else."""

import csv
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import avg_pool2d

from counterscan.core import Card, Explanation, Target
from counterscan.data.manifest import find_cases
from counterscan.data.sums import damaged
from counterscan.engine import Job, run
from counterscan.engine.local import Workers
from counterscan.engine.sharding import Shard
from counterscan.errors import ClassifierError, CounterscanError
from counterscan.explainers.inpainting import Inpainting
from counterscan.metrics.masks import MaskRule
from counterscan.outputs import CaseFolders

SIDE = 32
CARD = Card(name="bright", shape=(1, 48, 48), classes=("bright",))  # another size than the editor's


class Brightest:
    """Answers whether any large part is brighter than the middle of the window."""

    card = CARD
    differentiable = True

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return avg_pool2d(images, 11, 1).flatten(1).max(1, keepdim=True).values * 20


class Dimmer:
    """Edits what is bright into something dark."""

    card = Card(name="dimmer", kind="editor", shape=(1, SIDE, SIDE), classes=("bright",))

    def __call__(self, images: torch.Tensor, target: Target) -> torch.Tensor:
        return torch.where(images > -0.2, images - 1.2, images).clamp(-1, 1)


def picture(path: Path, *, bright: bool, seed: int) -> Path:
    pixels = np.random.default_rng(seed).integers(10, 60, (60, 50)).astype(np.uint8)
    if bright:
        pixels[20:40, 10:30] = 230
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    for number in range(7):
        picture(tmp_path / "in" / ("a" if number % 2 else "b") / f"{number}.png", bright=number != 3, seed=number)
    return tmp_path / "in"


def job(folder: Path, out: Path, **changes) -> Job:
    ready = Job(
        manifest=find_cases(folder),
        classifier=Brightest(),
        explainer=Inpainting(Dimmer()),
        target=Target(((0, 0.0),)),
        out=out,
        batch=3,
        rule=MaskRule(0.25),
    )
    return dataclasses.replace(ready, **changes)


def everything(out: Path) -> dict[str, bytes]:
    """All files of a finished job but for the times in them."""
    files = {}
    for path in sorted(out.rglob("*")):
        if path.is_file() and path.suffix not in {".html", ".csv"}:
            content = path.read_bytes()
            if path.name == "explanation.json":
                facts = json.loads(content)
                facts["meta"].pop("seconds")
                facts["meta"]["row"].pop("seconds")
                content = json.dumps(facts).encode()
            if path.name == "SHA256SUMS":  # of files with times in them
                assert damaged(path) == ""
                content = b""
            files[path.relative_to(out).as_posix()] = content
    return files


def test_each_case_gets_its_folder(folder, tmp_path):
    outcome = run(job(folder, tmp_path / "out"))
    assert not outcome.failed
    assert outcome.found == 6
    assert outcome.already == ["3"]
    case = tmp_path / "out" / "cases" / "0"
    assert {path.name for path in case.iterdir()} == {
        "explanation.json", "explanation.safetensors", "figure.png", "counterfactual.png", "mask.png", "SHA256SUMS",
    }  # fmt: skip
    explanation = Explanation.load(case)
    assert explanation.images.shape == (1, 1, SIDE, SIDE)
    assert explanation.meta["case"]["name"] == "0"
    rows = list(csv.DictReader((tmp_path / "out" / "cases.csv").open()))
    assert [row["name"] for row in rows] == [case.name for case in find_cases(folder).cases]
    assert float(next(row for row in rows if row["name"] == "0")["p_after_bright"]) < 0.5
    assert (tmp_path / "out" / "index.html").exists()


def test_results_come_back_at_the_resolution_of_the_scan(folder, tmp_path):
    run(job(folder, tmp_path / "out"))
    case = tmp_path / "out" / "cases" / "0"
    before = np.array(Image.open(folder / "b" / "0.png")).astype(float)
    after = np.array(Image.open(case / "counterfactual.png")).astype(float)
    mask = np.array(Image.open(case / "mask.png")) > 0
    assert after.shape == mask.shape == before.shape
    assert (before - after)[25:35, 15:25].min() > 100
    assert np.array_equal(before[:15], after[:15]), "what did not change stays bit for bit"
    assert mask[25:35, 15:25].all()
    assert not mask[:15].any()
    meta = Explanation.load(case).meta
    assert meta["after_scan"][0][0] < 0, "the file that was written is judged, too"


def test_who_is_there_already_keeps_the_picture(folder, tmp_path):
    run(job(folder, tmp_path / "out"))
    case = tmp_path / "out" / "cases" / "3"
    assert np.array_equal(
        np.array(Image.open(case / "counterfactual.png")), np.array(Image.open(folder / "a" / "3.png"))
    )
    assert not np.array(Image.open(case / "mask.png")).any()


def test_a_volume_is_one_case_and_keeps_its_affine(tmp_path):
    affine = np.array([[0.9, 0.1, 0, 3], [-0.1, 0.9, 0.2, 4], [0, -0.2, 2.5, 5], [0, 0, 0, 1.0]])
    volume = np.random.default_rng(0).integers(0, 60, (40, 36, 5)).astype(np.int16)
    volume[10:20, 10:20, 1:4] = 250  # thick enough to be an object of a volume
    nibabel.save(nibabel.Nifti1Image(volume, affine), tmp_path / "scan.nii.gz")
    outcome = run(job(tmp_path / "scan.nii.gz", tmp_path / "out", window=None))
    assert outcome.rows[0]["slices"] == 5
    mask = nibabel.load(next((tmp_path / "out" / "cases" / "scan").glob("mask*")))
    assert mask.shape == volume.shape
    assert np.allclose(mask.affine, affine, atol=1e-4)
    assert mask.get_fdata()[12:18, 12:18, 2].all()
    assert not mask.get_fdata()[..., 0].any()


def test_bad_images_are_listed_and_the_others_are_done(folder, tmp_path):
    whole = (folder / "b" / "0.png").read_bytes()
    (folder / "a" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "a" / "text.dcm").write_text("not an image")
    outcome = run(job(folder, tmp_path / "out"))
    assert len(outcome.rows) == 7
    assert {name for _, name, _ in outcome.failed} == {"cut", "text"}
    listed = list(csv.DictReader((tmp_path / "out" / "failed.csv").open()))
    assert {Path(row["path"]).name for row in listed} == {"cut.png", "text.dcm"}
    (folder / "a" / "cut.png").write_bytes(whole)
    (folder / "a" / "text.dcm").unlink()
    assert len(run(job(folder, tmp_path / "out")).rows) == 8
    assert not (tmp_path / "out" / "failed.csv").exists()


def test_an_image_that_the_classifier_cannot_answer_fails_alone(folder, tmp_path):
    outcome = run(job(folder, tmp_path / "out", classifier=Moody(), explainer=Inpainting(Brightener())))
    assert [name for _, name, _ in outcome.failed] == ["3"]
    assert len(outcome.rows) == 6


def test_a_classifier_that_never_answers_stops_the_job_at_once(folder, tmp_path):
    asked = []

    class Broken(Brightest):
        def __call__(self, images: torch.Tensor) -> torch.Tensor:
            asked.append(len(images))
            raise ClassifierError("broken answered NaN")

    with pytest.raises(ClassifierError, match="broken answered NaN"):
        run(job(folder, tmp_path / "out", classifier=Broken()))
    assert sum(asked) <= 2 * 3
    assert run(job(folder, tmp_path / "out")).found == 6, "what never began is no job that another one must respect"


def test_another_job_in_the_same_folder_is_refused(folder, tmp_path):
    run(job(folder, tmp_path / "out"))
    with pytest.raises(CounterscanError, match=r"target was bright=0, now bright=1.*--out"):
        run(job(folder, tmp_path / "out", target=Target(((0, 1.0),))))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(CounterscanError, match="new or empty"):
        run(job(folder, tmp_path / "mine"))


def test_an_interrupted_job_ends_as_an_undisturbed_one(folder, tmp_path, monkeypatch):
    run(job(folder, tmp_path / "whole"))
    wrote = []
    write = CaseFolders.write

    def stop_after_four(*args):
        if len(wrote) == 4:
            raise KeyboardInterrupt
        wrote.append(1)
        return write(*args)

    monkeypatch.setattr(CaseFolders, "write", stop_after_four)
    with pytest.raises(KeyboardInterrupt):
        run(job(folder, tmp_path / "cut"))
    (tmp_path / "cut" / "cases" / ".5.part").mkdir()  # what a killed process leaves
    monkeypatch.setattr(CaseFolders, "write", write)
    run(job(folder, tmp_path / "cut"))
    assert everything(tmp_path / "cut") == everything(tmp_path / "whole")


@pytest.mark.parametrize("file", ["figure.png", "explanation.safetensors", "explanation.json", "SHA256SUMS"])
def test_a_finished_case_with_a_damaged_file_is_done_again(folder, tmp_path, file):
    run(job(folder, tmp_path / "out"))
    whole, path = everything(tmp_path / "out"), tmp_path / "out" / "cases" / "0" / file
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.warns(UserWarning, match=f"0 was done, but {file} is not as it was written; it is done again"):
        run(job(folder, tmp_path / "out"))
    assert everything(tmp_path / "out") == whole


@pytest.mark.parametrize("file", ["masks/**/0.png", "cases/0.json"])
def test_a_damaged_mask_is_made_again(folder, tmp_path, file):
    run(job(folder, tmp_path / "out", masks_only=True))
    (path,), (written,) = ((tmp_path / "out").glob(name) for name in (file, "masks/**/0.png"))
    before, mask = path.read_bytes(), written.read_bytes()
    path.write_bytes(before[: len(before) // 2])
    with pytest.warns(UserWarning, match="0 was done"):
        assert len(run(job(folder, tmp_path / "out", masks_only=True)).rows) == 7
    assert written.read_bytes() == mask
    assert damaged(tmp_path / "out" / "cases" / "0.sha256") == ""


def test_a_damaged_note_of_what_a_job_is_is_named(folder, tmp_path):
    run(job(folder, tmp_path / "out"))
    (tmp_path / "out" / "run.json").write_text('{"explainer": "Inp')
    with pytest.raises(CounterscanError, match=r"run\.json is damaged .* delete that folder to begin anew"):
        run(job(folder, tmp_path / "out"))


KILLED = """
import sys, time
sys.path.insert(0, {here!r})
import test_engine as t
from pathlib import Path
class Slow(t.Dimmer):
    def __call__(self, images, target):
        time.sleep(0.2)
        return super().__call__(images, target)
t.run(t.job(Path({folder!r}), Path({out!r}), explainer=t.Inpainting(Slow())))
"""


def test_a_killed_job_goes_on_and_ends_the_same(folder, tmp_path):
    run(job(folder, tmp_path / "whole"))
    program = KILLED.format(here=str(Path(__file__).parent), folder=str(folder), out=str(tmp_path / "cut"))
    process = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "OMP_NUM_THREADS": "1"})
    until = time.monotonic() + 300
    while not list(tmp_path.glob("cut/cases/*/explanation.json")) and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(list(tmp_path.glob("cut/cases/*/explanation.json")))
    assert 0 < done < 7
    run(job(folder, tmp_path / "cut"))
    assert everything(tmp_path / "cut") == everything(tmp_path / "whole")


def test_segment_writes_masks_as_the_input_is_laid_out(folder, tmp_path):
    outcome = run(job(folder, tmp_path / "out", masks_only=True))
    masks = sorted(path.relative_to(tmp_path / "out" / "masks") for path in (tmp_path / "out" / "masks").rglob("*.png"))
    assert masks == sorted(path.relative_to(folder) for path in folder.rglob("*.png"))
    assert outcome.rows[0]["mask"] == "masks/a/1.png"
    assert np.array(Image.open(tmp_path / "out" / "masks" / "a" / "1.png"))[25:35, 15:25].all()
    assert not (tmp_path / "out" / "index.html").exists()
    assert len(run(job(folder, tmp_path / "out", masks_only=True)).rows) == 7


def test_the_judge_answers_before_and_after(folder, tmp_path):
    run(job(folder, tmp_path / "out", judge=Brightest(), names={"judge": "bright"}))
    meta = Explanation.load(tmp_path / "out" / "cases" / "0").meta
    assert meta["judge_before"][0][0] > 0 > meta["judge_after"][0][0]


def tables(out: Path) -> dict[str, list[list[str]]]:
    """The tables of a finished job, without the times in them."""
    found = {}
    for path in sorted(out.glob("*.csv")):
        rows = list(csv.DictReader(path.open()))
        found[path.name] = [[value for name, value in row.items() if name != "seconds"] for row in rows]
    return found


def test_who_does_it_and_in_what_order_does_not_matter(folder, tmp_path, elsewhere):
    (folder / "a" / "text.dcm").write_text("not an image")
    run(job(folder, tmp_path / "one"))
    outcome = run(job(folder, tmp_path / "many"), elsewhere(ahead=2))
    assert everything(tmp_path / "many") == everything(tmp_path / "one")
    assert tables(tmp_path / "many") == tables(tmp_path / "one")
    assert [row["name"] for row in outcome.rows] == [
        case.name for case in find_cases(folder).cases if case.name != "text"
    ]


def test_what_is_done_already_is_given_to_nobody(folder, tmp_path, elsewhere):
    run(job(folder, tmp_path / "out"))
    cut = sorted((tmp_path / "out" / "cases").iterdir())[0]
    shutil.rmtree(cut)
    engine = elsewhere()
    assert len(run(job(folder, tmp_path / "out"), engine).rows) == 7
    assert len(engine.tasks) == 1
    assert cut.is_dir()


class Dying(Dimmer):
    """Kills the first process that it is asked in."""

    def __call__(self, images: torch.Tensor, target: Target) -> torch.Tensor:
        mark = Path(os.environ["COUNTERSCAN_TEST_MARK"])
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(images, target)


def test_two_workers_one_of_them_killed_end_as_one_process(folder, tmp_path, monkeypatch):
    run(job(folder, tmp_path / "one", explainer=Inpainting(Dimmer())))
    monkeypatch.syspath_prepend(Path(__file__).parents[1])  # where a worker finds this file
    monkeypatch.setenv("COUNTERSCAN_TEST_MARK", str(tmp_path / "died"))
    run(job(folder, tmp_path / "two", explainer=Inpainting(Dying())), Workers(2))
    assert (tmp_path / "died").exists()
    ours, theirs = everything(tmp_path / "two"), everything(tmp_path / "one")
    assert ours.keys() == theirs.keys()
    assert all(ours[name] == theirs[name] for name in ours if not name.endswith(".json"))
    assert tables(tmp_path / "two") == tables(tmp_path / "one")


def test_a_volume_is_handed_on_by_itself(tmp_path, elsewhere):
    for number in range(3):
        volume = np.random.default_rng(number).integers(0, 60, (40, 36, 5)).astype(np.int16)
        volume[10:20, 10:20, 1:4] = 250
        (tmp_path / "in").mkdir(exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(volume, np.diag([1, 1, 2, 1.0])), tmp_path / "in" / f"{number}.nii.gz")
    picture(tmp_path / "in" / "p.png", bright=True, seed=1)
    engine = elsewhere(ahead=1)
    outcome = run(job(tmp_path / "in", tmp_path / "out"), engine)
    assert [row["slices"] for row in outcome.rows] == [5, 5, 5, 1]
    assert {(0, 1), (1, 2), (2, 3)} <= set(engine.tasks)


def test_parts_on_machines_that_share_a_folder_end_as_the_whole(folder, tmp_path):
    (folder / "a" / "text.dcm").write_text("not an image")
    run(job(folder, tmp_path / "whole"))
    first = run(job(folder, tmp_path / "parts"), shard=Shard(2, 3))
    assert 0 < len(first.rows) < 7
    assert first.missing == (Shard(1, 3), Shard(3, 3))
    assert not (tmp_path / "parts" / "cases.csv").exists()
    run(job(folder, tmp_path / "parts", names={"command": "typed elsewhere"}), shard=Shard(1, 3))
    last = run(job(folder, tmp_path / "parts"), shard=Shard(3, 3))
    assert not last.missing
    assert len(last.rows) == 7
    assert [name for _, name, _ in last.failed] == ["text"]
    assert tables(tmp_path / "parts") == tables(tmp_path / "whole")
    assert (tmp_path / "parts" / "index.html").exists()


def test_a_run_of_the_whole_does_what_parts_have_left(folder, tmp_path):
    run(job(folder, tmp_path / "whole"))
    run(job(folder, tmp_path / "parts"), shard=Shard(1, 2))
    assert len(run(job(folder, tmp_path / "parts")).rows) == 7
    assert everything(tmp_path / "parts") == everything(tmp_path / "whole")
    assert not (tmp_path / "parts" / ".shards").exists()


def test_more_parts_than_batches_is_no_fault(folder, tmp_path):
    outcome = run(job(folder, tmp_path / "out"), shard=Shard(9, 9))
    assert (outcome.rows, len(outcome.missing)) == ([], 8)


class Moody(Brightest):
    """Cannot answer where an image is dark."""

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        if (images.flatten(1).max(1).values < 0).any():
            raise ClassifierError("moody answered NaN")
        return super().__call__(images)


class Brightener(Dimmer):
    """Edits all into something bright."""

    def __call__(self, images: torch.Tensor, target: Target) -> torch.Tensor:
        return images * 0.5 + 0.5


@pytest.mark.parametrize("hopeless", [True, False])
def test_the_first_batch_decides_whether_a_job_is_hopeless_whoever_does_it(tmp_path, elsewhere, hopeless):
    for number in range(6):
        picture(tmp_path / "in" / f"{number}.png", bright=(number < 3) != hopeless, seed=number)
    moody = job(tmp_path / "in", tmp_path / "out", classifier=Moody(), explainer=Inpainting(Brightener()))
    if hopeless:
        with pytest.raises(ClassifierError, match="moody answered NaN"):
            run(moody, elsewhere(ahead=2))
        return
    assert [name for _, name, _ in run(moody, elsewhere(ahead=2)).failed] == ["3", "4", "5"]
