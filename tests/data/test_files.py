import gzip
import os

import pytest

from counterscan.data.files import format_of_content, recognised, with_suffix, write_whole
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
        bytes(128) + b"DICM": "dicom",
        bytes(nifti): "nifti",
        gzip.compress(bytes(nifti)): "nifti",
        gzip.compress(b"text"): None,
        b"\x1f\x8b broken": None,
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
