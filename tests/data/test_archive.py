import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from counterscan.data import archive
from counterscan.data.archive import split_of, write_phantoms
from counterscan.data.batches import read_mask
from counterscan.data.check import check_manifest
from counterscan.data.manifest import read_manifest
from counterscan.data.phantoms import base
from counterscan.errors import CounterscanError


def fake_draw(rng, size, present):
    """A noisy ramp in Hounsfield units; a tumour is a bright square."""
    twin = (np.linspace(-900, 300, size)[None] + rng.normal(size=(size, size)) * 7.3).astype(np.float32)
    mask = np.zeros((size, size), bool)
    mask[10:20, 10:20] = "tumour" in present
    image = np.where(mask, twin + 99.7, twin).astype(np.float32)
    labels = {name: int(name in present) for name in ("tumour", "cyst")}
    masks = {"tumour": mask} if "tumour" in present else {}
    facts = {"size_mm": np.float32(3.5)} if "tumour" in present else {}
    return base.Phantom(image, twin, masks, labels, facts, "A report, in one sentence.", tuple(masks))


@pytest.fixture
def kind(monkeypatch):
    """A drawer that takes no time, in the place of the abdomen's."""
    drawer = SimpleNamespace(
        CLASSES=("tumour", "cyst"),
        CONFOUNDERS=("cyst",),
        WINDOW=(-160.0, 240.0, "HU"),
        COLOUR=False,
        MIRROR=False,
        MODALITY="fake CT",
        draw=fake_draw,
    )
    monkeypatch.setattr(base, "module", lambda _: drawer)
    monkeypatch.setattr(archive, "module", lambda _: drawer)
    monkeypatch.setattr(archive, "CHUNK", 4)
    return "abdomen"


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_an_archive_is_a_manifest_without_faults(kind, tmp_path):
    out = write_phantoms(kind, 10, tmp_path / "a", size=64, seed=3)
    manifest = read_manifest(out)
    assert len(manifest) == 10
    assert manifest.classes == ("tumour", "cyst")
    assert manifest.confounders == ("cyst",)
    assert manifest.window.as_tuple() == (-160, 240, "HU")
    assert check_manifest(manifest).ok
    case = manifest.cases[0]
    assert case.facts["report"] == "A report, in one sentence."
    assert case.patient == "abdomen-3-000000"


def test_pixels_are_hounsfield_units_and_twins_differ_in_the_lesion_only(kind, tmp_path):
    manifest = read_manifest(write_phantoms(kind, 12, tmp_path / "a", size=64))
    for index, case in enumerate(manifest.cases):
        drawn = base.draw(kind, index, size=64)
        image = case.read().pixels[0, 0]
        twin = type(case)(case.twin_path, "twin", intercept=case.intercept).read().pixels[0, 0]
        assert np.abs(image - drawn.image).max() <= 0.5
        mask = read_mask(case.mask_path)[0]
        assert np.array_equal(mask, drawn.mask)
        assert np.array_equal(image != twin, mask)
        assert case.labels["tumour"] == int(mask.any())


def test_colour_is_kept_and_twins_differ_in_the_lesion_only(tmp_path):
    out = write_phantoms("fundus", 6, tmp_path / "a", size=64)
    manifest = read_manifest(out)
    assert check_manifest(manifest).ok
    for index, case in enumerate(manifest.cases):
        phantom = base.draw("fundus", index, size=64)
        pixels = case.read().pixels[0]
        assert pixels.shape == (3, 64, 64)
        assert np.abs(pixels - phantom.image).max() <= 0.51
        assert read_mask(case.mask_path).shape == (1, 64, 64)


def test_where_one_class_excludes_the_others_the_manifest_says_so(tmp_path):
    manifest = read_manifest(write_phantoms("oct", 12, tmp_path / "a", size=64))
    assert manifest.exclusive
    assert manifest.normal == "normal"
    assert manifest.classes == ("normal", "cnv", "drusen", "dme")
    assert all(sum(case.labels.values()) == 1 for case in manifest.cases)


def test_more_workers_give_the_same_files(kind, tmp_path):
    one = write_phantoms(kind, 10, tmp_path / "one", size=64)
    two = write_phantoms(kind, 10, tmp_path / "two", size=64, workers=2)
    assert contents(one) == contents(two)


def test_a_killed_run_goes_on_and_ends_the_same(kind, tmp_path, monkeypatch):
    whole = write_phantoms(kind, 10, tmp_path / "whole", size=64)
    real, drawn = archive.draw, []

    def dies(kind, index, **rest):
        if index == 6:
            raise KeyboardInterrupt
        return real(kind, index, **rest)

    monkeypatch.setattr(archive, "draw", dies)
    with pytest.raises(KeyboardInterrupt):
        write_phantoms(kind, 10, tmp_path / "killed", size=64)
    assert not (tmp_path / "killed" / "labels.csv").exists()

    def watched(kind, index, **rest):
        drawn.append(index)
        return real(kind, index, **rest)

    monkeypatch.setattr(archive, "draw", watched)
    told = []
    killed = write_phantoms(kind, 10, tmp_path / "killed", size=64, progress=told.append)
    assert drawn == [0, 4, 5, 6, 7, 8, 9]  # the first is drawn to check the arguments
    assert told == [8, 10]
    assert contents(killed) == contents(whole)


def test_a_whole_archive_is_left_alone(kind, tmp_path):
    out = write_phantoms(kind, 5, tmp_path / "a", size=64)
    before = (out / "labels.csv").stat().st_mtime_ns
    write_phantoms(kind, 5, tmp_path / "a", size=64)
    assert (out / "labels.csv").stat().st_mtime_ns == before


def test_another_series_or_other_files_are_not_overwritten(kind, tmp_path):
    write_phantoms(kind, 5, tmp_path / "a", size=64)
    with pytest.raises(CounterscanError, match="another series"):
        write_phantoms(kind, 6, tmp_path / "a", size=64)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.txt").write_text("mine")
    with pytest.raises(CounterscanError, match="other files"):
        write_phantoms(kind, 5, tmp_path / "b", size=64)


def test_a_damaged_manifest_is_named_and_made_again_once_it_is_deleted(kind, tmp_path):
    out = write_phantoms(kind, 5, tmp_path / "a", size=64)
    before = contents(out)
    (out / "labels.csv").write_bytes(before["labels.csv"][:100])
    with pytest.raises(CounterscanError, match=r"labels.csv is not as it was written; .* delete labels.csv to draw"):
        write_phantoms(kind, 5, out, size=64)
    (out / "labels.csv").unlink()
    write_phantoms(kind, 5, out, size=64)
    assert contents(out) == before


def test_a_damaged_note_of_a_chunk_makes_it_anew(kind, tmp_path, monkeypatch):
    whole = contents(write_phantoms(kind, 10, tmp_path / "whole", size=64))
    finish, out = archive._finish, tmp_path / "a"
    monkeypatch.setattr(archive, "_finish", lambda *_: None)  # killed before the manifest
    write_phantoms(kind, 10, out, size=64)
    monkeypatch.setattr(archive, "_finish", finish)
    note = out / ".rows" / "00000004.json"
    note.write_text(note.read_text()[:20])
    (out / "images" / "000005.png").write_bytes(b"not what was drawn")
    write_phantoms(kind, 10, out, size=64)
    assert contents(out) == whole


def test_what_a_kill_at_the_very_beginning_and_end_leaves_goes_away(kind, tmp_path):
    out = tmp_path / "a"
    out.mkdir()
    (out / "series.json.part").write_text("{")
    write_phantoms(kind, 5, out, size=64)
    before = contents(out)
    (out / ".rows").mkdir()
    (out / ".rows" / "00000000.json").write_text("[]")
    write_phantoms(kind, 5, out, size=64)
    assert contents(out) == before
    assert "series.json.part" not in before


def test_a_wrong_wish_leaves_no_folder_behind(tmp_path):
    for wish in ({"kind": "brain"}, {"size": 32}, {"findings": ["tumor"]}, {"n": 0}):
        arguments = {"kind": "abdomen", "n": 3, "out": tmp_path / "a", **wish}
        with pytest.raises(CounterscanError):
            write_phantoms(**arguments)
        assert not (tmp_path / "a").exists()


def test_splits_are_seventy_fifteen_fifteen_and_do_not_move():
    splits = [split_of(1, index) for index in range(4000)]
    shares = [splits.count(name) / 4000 for name in ("train", "validation", "test")]
    assert np.allclose(shares, [0.7, 0.15, 0.15], atol=0.02)
    assert splits[:100] == [split_of(1, index) for index in range(100)]
    assert splits[:100] != [split_of(2, index) for index in range(100)]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_sigkill_leaves_no_half_file_and_the_run_goes_on(tmp_path):
    """The real drawer, in a process of its own that is killed in the middle."""
    code = (
        "import counterscan.data.archive as archive; archive.CHUNK = 4; "
        f"archive.write_phantoms('chest', 40, {str(tmp_path / 'a')!r}, size=64)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 60
    while not (tmp_path / "a" / ".rows" / "00000004.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    from PIL import Image

    for path in (tmp_path / "a").rglob("*.png"):
        with Image.open(path) as picture:
            picture.load()
    subprocess.run([sys.executable, "-c", code], check=True)
    assert len(read_manifest(tmp_path / "a")) == 40
    assert not (tmp_path / "a" / ".rows").exists()
    assert not list((tmp_path / "a").rglob("*.part"))
