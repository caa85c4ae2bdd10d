"""Whether files are as they were written: their sha256 in a file that `sha256sum --check` reads, too."""

import hashlib
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

from counterscan.data.files import write_whole
from counterscan.errors import ScanError

NAME, HEAD = "SHA256SUMS", "# sha256 of {} files"


def sum_of(path: Path) -> str:
    """The sha256 (hex) of a file, read in pieces; ScanError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ScanError(f"{path} cannot be read ({error.strerror}); restore it from a copy") from error


def sums_of(root: Path, files: Iterable[Path]) -> dict[str, str]:
    """The sums of `files` by their paths from the folder `root`, in their order."""
    return {Path(os.path.relpath(path, root)).as_posix(): sum_of(path) for path in sorted(files)}


def write_sums(path: Path, sums: Mapping[str, str]) -> Path:
    """Write `sums` by the files' paths from the folder of `path`, whole or not at all.

    The first line says how many there are, for a file that lacks some of its lines to be known by it.
    """
    lines = [HEAD.format(len(sums)), *(f"{one}  {name}" for name, one in sums.items())]
    return write_whole(path, ("\n".join(lines) + "\n").encode())


def damaged(path: Path) -> str:
    """The first of the files that `path` tells of that is not as it was, "" where all are.

    That is `path` itself where it is missing, empty or not what `write_sums` writes.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        head = [line for line in lines[:1] if line.startswith("#")]  # the first that were written had none
        sums = {name: told for told, name in (line.split("  ", 1) for line in lines[len(head) :])}
    except (OSError, ValueError):
        return path.name
    whole = sums and all(sums) and head in ([], [HEAD.format(len(sums))])
    return changed(path.parent, sums) if whole else path.name


def changed(root: Path, sums: Mapping[str, str]) -> str:
    """The first of the files with these sums, by their paths from `root`, that is not as it was; "" where all are."""
    return next((name for name, told in sums.items() if not _is(root / name, told)), "")


def intact(path: Path, name: str) -> bool:
    """Are all files as they were that `path` tells of? Where they are not, a warning says that `name` is made again.

    What was made before there were sums has none, and is taken as it is.
    """
    wrong = damaged(path) if path.is_file() else ""
    if wrong:
        warnings.warn(f"{name} was done, but {wrong} is not as it was written; it is done again", stacklevel=2)
    return not wrong


def _is(path: Path, told: str) -> bool:
    try:
        return sum_of(path) == told
    except ScanError:
        return False
