import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from counterscan.data import zipped
from counterscan.data.manifest import find_cases
from counterscan.data.zipped import is_zip, unzipped
from counterscan.errors import ScanError


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Where archives are unpacked, to look whether anything is left."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(zipped.tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


def archive(path, entries, **settings):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **settings) as file:
        for name, content in entries:
            file.writestr(name, content)
    return path


def test_files_are_unpacked_once_without_the_folder_around_them(tmp_path):
    path = archive(tmp_path / "s.zip", [("study/a/1.dcm", b"one"), ("study/2.dcm", b"two"), ("__MACOSX/x", b"")])
    assert is_zip(path)
    folder = unzipped(path)
    assert sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.dcm")) == ["2.dcm", "a/1.dcm"]
    assert (folder / "a" / "1.dcm").read_bytes() == b"one"
    assert unzipped(path) == folder
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700


def test_an_archive_is_named_like_a_folder(tmp_path):
    picture = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4))
    for name in ("a.png", "b.png"):
        picture.save(tmp_path / name)
    files = [(f"set/{name}", (tmp_path / name).read_bytes()) for name in ("a.png", "b.png")]
    plain = find_cases(archive(tmp_path / "plain.zip", files))
    assert [case.name for case in plain.cases] == ["a", "b"]
    assert plain.cases[0].read().pixels.max() == 15
    told = find_cases(archive(tmp_path / "told.zip", [*files, ("set/labels.csv", "path,label\nb.png,sick\n")]))
    assert [(case.name, case.labels) for case in told.cases] == [("b", {"sick": 1})]


def test_other_files_are_no_archive(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"no archive")
    os.mkfifo(tmp_path / "pipe.zip")
    assert not any(is_zip(tmp_path / name) for name in ("a.zip", "pipe.zip", "none.zip", "."))


def link():
    info = zipfile.ZipInfo("a/link.dcm")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../out.dcm", "outside itself"),
        ("a/../../out.dcm", "outside itself"),
        ("/out.dcm", "outside itself"),
        ("C:\\out.dcm", "outside itself"),
        ("..\\out.dcm", "outside itself"),
        (link(), "a link or a device"),
    ],
)
def test_names_that_lead_out_are_refused_and_nothing_is_written(tmp_path, place, name, words):
    path = archive(tmp_path / "s.zip", [("good.dcm", b"x"), (name, b"evil")])
    with pytest.raises(ScanError, match=words) as caught:
        unzipped(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(place.iterdir())
    assert not list(tmp_path.rglob("out.dcm"))


def test_a_bomb_is_refused_before_it_unpacks(tmp_path, place, monkeypatch):
    path = archive(tmp_path / "s.zip", [("a.dcm", bytes(3_000_000))])
    monkeypatch.setattr(zipped, "LARGEST", 2_000_000)
    with pytest.raises(ScanError, match="too much"):
        unzipped(path)
    monkeypatch.setattr(zipped, "ENTRIES", 0)
    with pytest.raises(ScanError, match="1 files"):
        unzipped(path)
    assert not list(place.iterdir())


def test_an_entry_that_is_longer_than_it_says_is_refused(tmp_path, place):
    path = archive(tmp_path / "s.zip", [("a.dcm", bytes(100_000))])
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = (10).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(ScanError, match="damaged"):
        unzipped(path)
    assert not list(place.iterdir())


def test_damaged_twice_named_and_encrypted_archives_are_refused(tmp_path, place):
    whole = archive(tmp_path / "s.zip", [("a.dcm", np.random.default_rng(0).bytes(5000))]).read_bytes()
    cases = {
        "cut.zip": (whole[:-40], "damaged"),
        "flipped.zip": (whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:], "damaged"),
        "encrypted.zip": (_flag(whole), "encrypted"),
    }
    for name, (content, words) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ScanError, match=words):
            unzipped(tmp_path / name)
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = archive(tmp_path / "twice.zip", [("a.dcm", b"1"), ("a.dcm", b"2")])
    with pytest.raises(ScanError, match=r"a\.dcm twice"):
        unzipped(twice)
    assert not list(place.iterdir())


def _flag(content):
    content = bytearray(content)
    for start, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(start) + place] |= 1
    return bytes(content)


def test_nothing_is_left_when_the_process_ends(tmp_path, place):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.png")
    path = archive(tmp_path / "s.zip", [("a.png", (tmp_path / "a.png").read_bytes())])
    code = (
        "import sys, pathlib; from counterscan.data.scans import read_scan\n"
        "from counterscan.data.zipped import unzipped\n"
        "print(read_scan(unzipped(pathlib.Path(sys.argv[1])) / 'a.png').path)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], env={**os.environ, "TMPDIR": str(place)}, capture_output=True, text=True
    )
    assert done.stdout.strip().endswith("a.png"), done.stderr
    assert not Path(done.stdout.strip()).exists()
    assert not list(place.iterdir())
