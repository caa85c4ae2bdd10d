import gzip
import os
import resource
import zipfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from counterscan.data.files import DETACHED, SUFFIXES, format_of_content, recognised, with_suffix, write_whole
from counterscan.data.scans import read_scan
from counterscan.errors import ScanError


def test_a_file_is_there_only_when_it_is_whole(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "a.bin"
    write_whole(path, b"old")

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, b"new, and much longer")
    assert path.read_bytes() == b"old"


def test_endings_are_added_once(tmp_path):
    assert with_suffix(tmp_path / "a", ".png").name == "a.png"
    assert with_suffix(tmp_path / "a.png", ".png").name == "a.png"
    assert with_suffix(tmp_path / "a.JPEG", ".jpg", (".jpeg",)).name == "a.JPEG"
    assert with_suffix(tmp_path / "a.v2", ".nii.gz").name == "a.v2.nii.gz"


def test_content_decides_what_a_file_is(tmp_path):
    nifti = bytearray(352)
    nifti[344:348] = b"n+1\0"
    cases = {
        b"\x89PNG\r\n\x1a\nrest": "png",
        b"\xff\xd8\xff\xe0": "jpeg",
        b"II*\x00": "tiff",
        b"MM\x00+": "tiff",
        b"NRRD0004\n": "nrrd",
        b"ObjectType = Image\n": "mha",
        b"NDims = 3\n": "mha",
        bytes(128) + b"DICM": "dicom",
        bytes(nifti): "nifti",
        gzip.compress(bytes(nifti)): "nifti",
        gzip.compress(b"text"): None,
        b"\x1f\x8b broken": None,
        gzip.compress(b"text")[:10] + b"\xff" * 9: None,  # a block of a kind that there is not
        b"hello": None,
    }
    for number, (content, kind) in enumerate(cases.items()):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(content)
        assert format_of_content(path) == kind


def test_what_is_no_image_is_refused_by_name(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "notes.dcm").write_text("see the other folder")
    for path, words in [
        (tmp_path, "is a folder"),
        (tmp_path / "none.png", "does not exist"),
        (tmp_path / "empty.png", "empty"),
        (tmp_path / "notes.dcm", "not a DICOM"),
    ]:
        with pytest.raises(ScanError, match=words) as caught:
            recognised(path)
        assert str(path) in str(caught.value)


def test_pipes_and_devices_are_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    for path in (tmp_path / "a.png", Path("/dev/zero")):
        with pytest.raises(ScanError, match="pipe or a device"):
            recognised(path)


@pytest.mark.parametrize("content", [b"see the other folder\n", b""])
@pytest.mark.parametrize("ending", sorted({end for ends in (*SUFFIXES.values(), *DETACHED.values()) for end in ends}))
def test_text_with_any_ending_is_one_line_that_names_the_file(tmp_path, ending, content):
    path = tmp_path / f"notes{ending}"
    path.write_bytes(content)
    with pytest.raises(ScanError, match=r"is not a DICOM, NIfTI|is empty") as caught:
        read_scan(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "x\0.png", "a.png/b.png"])
def test_names_that_no_file_can_have_are_refused(tmp_path, name):
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(ScanError, match=r"cannot be opened|does not exist"):
        read_scan(tmp_path / name)


def test_a_zip_archive_says_what_to_do(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.dcm", "w") as archive:
        archive.writestr("b.dcm", "x")
    with pytest.raises(ScanError, match="zip archive"):
        read_scan(tmp_path / "a.dcm")


def write_limited(path, limit):
    """What `write_whole` says where no file may grow beyond `limit` bytes, as on a disk that is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        write_whole(path, bytes(10_000))
    except ScanError as error:
        return str(error)


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(tmp_path):
    write_whole(tmp_path / "a.nii", b"old")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        said = pool.submit(write_limited, tmp_path / "a.nii", 1000).result()
    assert said is not None
    assert "a.nii cannot be written (File too large); make room" in said
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii"]
    assert (tmp_path / "a.nii").read_bytes() == b"old"
