"""Sums tell which file is not as it was, in the form of sha256sum."""

import hashlib
import shutil
import subprocess

import pytest

from counterscan.data.sums import NAME, damaged, intact, sum_of, sums_of, write_sums
from counterscan.errors import ScanError


@pytest.fixture
def sums(tmp_path):
    """The sums of two files, one in a folder and with a name that has spaces."""
    files = [tmp_path / "a.bin", tmp_path / "b c" / "d  e.bin"]
    for number, file in enumerate(files):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(bytes([number] * 1000))
    return write_sums(tmp_path / NAME, sums_of(tmp_path, files))


def test_what_is_as_it_was_is_not_damaged(sums):
    assert damaged(sums) == ""
    assert sum_of(sums.parent / "a.bin") == hashlib.sha256(bytes(1000)).hexdigest()


@pytest.mark.parametrize("change", [b"", b"\0" * 999, b"\0" * 500 + b"\1" + b"\0" * 499, None])
def test_the_file_that_is_not_as_it_was_is_named(sums, change):
    file = sums.parent / "b c" / "d  e.bin"
    file.unlink() if change is None else file.write_bytes(change)
    assert damaged(sums) == "b c/d  e.bin"


@pytest.mark.parametrize("change", [b"", b"no sums at all", b"\xff\xfe", None])
def test_sums_that_are_damaged_themselves_vouch_for_nothing(sums, change):
    sums.unlink() if change is None else sums.write_bytes(change)
    assert damaged(sums) == NAME


def test_what_is_not_intact_is_warned_of_and_what_never_had_sums_is_taken_as_it_is(sums):
    assert intact(sums, "a case")
    (sums.parent / "a.bin").write_bytes(b"")
    with pytest.warns(UserWarning, match="a case was done, but a.bin is not as it was written; it is done again"):
        assert not intact(sums, "a case")
    sums.unlink()
    assert intact(sums, "a case")


def test_sums_that_were_cut_short_vouch_for_nothing(sums):
    whole = sums.read_bytes()
    for end in range(len(whole) - 1):  # the last letter ends a line
        sums.write_bytes(whole[:end])
        assert damaged(sums)


def test_files_may_lie_beside_the_folder_of_the_sums(sums):
    beside = write_sums(sums.parent / "b c" / "x.sha256", sums_of(sums.parent / "b c", [sums.parent / "a.bin"]))
    assert beside.read_text().endswith("  ../a.bin\n")
    assert damaged(beside) == ""


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_the_usual_program_reads_them(sums):
    subprocess.run(["sha256sum", "--check", "--strict", "--status", NAME], cwd=sums.parent, check=True)


def test_a_file_that_is_not_there_has_no_sum(tmp_path):
    with pytest.raises(ScanError, match=r"gone.bin cannot be read \(No such file or directory\); restore it"):
        sum_of(tmp_path / "gone.bin")
