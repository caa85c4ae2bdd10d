"""Files that are either whole or not there, and what kind of image a file holds, told by its content."""

import contextlib
import gzip
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from counterscan.errors import ScanError

SUFFIXES = {  # the first of each is what new files are called
    "png": (".png",),
    "jpeg": (".jpg", ".jpeg"),
    "tiff": (".tiff", ".tif"),
    "dicom": (".dcm", ".dicom", ".ima"),
    "nifti": (".nii.gz", ".nii"),
    "mha": (".mha",),
    "nrrd": (".nrrd",),
}
DETACHED = {"nifti": (".hdr", ".hdr.gz"), "mha": (".mhd",), "nrrd": (".nhdr",)}  # heads whose pixels lie beside them
SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"II+\x00", "tiff"),  # of more than 4 GiB
    (b"MM\x00+", "tiff"),
    (b"NRRD000", "nrrd"),
    (b"\x02\x00", "dicom"),  # DICOM without its preamble begins with group 0002 or 0008
    (b"\x08\x00", "dicom"),
)
META_IMAGE = re.compile(rb"\s*(ObjectType\s*=\s*Image|NDims\s*=\s*\d)")
KNOWN = "DICOM, NIfTI, MHA, NRRD, PNG, JPEG or TIFF"


def write_whole(path: Path, content: bytes) -> Path:
    """Write `content` so that `path` never holds part of it, whenever the process is killed.

    Raises ScanError where there is no room, or no right to write.
    """
    with written_whole(path) as part:
        part.write_bytes(content)
    return path


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """`write_whole` for what is written in pieces: a path beside `path`, whose file takes its name at the end."""
    part = path.with_name(f"{path.name}.part")
    try:
        with telling_why(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield part
            os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def telling_why(path: Path) -> Iterator[None]:
    """Within, where there is no room, or no right to write, ScanError says so of `path`."""
    try:
        yield
    except OSError as error:
        cause = error.strerror or type(error).__name__
        raise ScanError(f"{path} cannot be written ({cause}); make room there, or name another folder") from error


def with_suffix(path: str | Path, suffix: str, others: tuple[str, ...] = ()) -> Path:
    """`path` if it ends as the format does, else with `suffix` added."""
    path = Path(path)
    ends = tuple(end for end in (suffix, *others))
    return path if path.name.lower().endswith(ends) else path.with_name(path.name + suffix)


def format_of_name(path: Path) -> str | None:
    """The format that a file's name promises, or None."""
    name = path.name.lower()
    return next((kind for kind, ends in SUFFIXES.items() if name.endswith((*ends, *DETACHED.get(kind, ())))), None)


def format_of_content(path: Path) -> str | None:
    """The format that a file's first bytes show, or None, also where it cannot be opened."""
    try:
        with path.open("rb") as file:
            head = file.read(352)
    except OSError:
        return None
    if head[:2] == b"\x1f\x8b":
        head = _unzipped_head(path)
    if head[128:132] == b"DICM":
        return "dicom"
    if head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0"):
        return "nifti"
    if META_IMAGE.match(head):
        return "mha"
    return next((kind for start, kind in SIGNATURES if head.startswith(start)), None)


def _unzipped_head(path: Path) -> bytes:
    try:
        with gzip.open(path) as file:
            return file.read(352)
    except (OSError, EOFError, zlib.error):
        return b""


def recognised(path: Path) -> str:
    """The format of an existing file; ScanError says why it is no image."""
    try:
        kind = _checked(path)
    except OSError as error:
        raise ScanError(
            f"{path} cannot be opened ({error.strerror or type(error).__name__}); check the name and your rights"
        ) from error
    if kind is None:
        raise ScanError(f"{path} is not a {KNOWN} image; convert it to one of these")
    return kind


def _checked(path: Path) -> str | None:
    if path.is_dir():
        raise ScanError(f"{path} is a folder, not an image; name a file in it")
    if not path.is_file():
        if path.exists():  # opening a pipe waits for ever, and a device never ends
            raise ScanError(f"{path} is a pipe or a device, not a file; save what comes out of it, and name that")
        raise ScanError(f"{path} does not exist; check the spelling")
    if path.stat().st_size == 0:
        raise ScanError(f"{path} is empty (0 bytes); copy it again from where it came")
    if path.suffix.lower() == ".img":
        raise ScanError(f"{path} holds the pixels of a pair; name its header, {path.stem}.hdr")
    with path.open("rb") as file:
        if file.read(4) == b"PK\x03\x04":
            raise ScanError(f"{path} is a zip archive, not an image; unzip it, and name what is in it")
    return format_of_content(path)
