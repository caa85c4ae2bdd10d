"""Files that are either whole or not there, and what kind of image a file holds, told by its content."""

import gzip
import os
from pathlib import Path

from counterscan.errors import ScanError

SUFFIXES = {  # the first of each is what new files are called
    "png": (".png",),
    "jpeg": (".jpg", ".jpeg"),
    "tiff": (".tiff", ".tif"),
    "dicom": (".dcm", ".dicom", ".ima"),
    "nifti": (".nii.gz", ".nii"),
}
SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"\x02\x00", "dicom"),  # DICOM without its preamble begins with group 0002 or 0008
    (b"\x08\x00", "dicom"),
)


def write_whole(path: Path, content: bytes) -> Path:
    """Write `content` so that `path` never holds part of it, whenever the process is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(content)
    os.replace(part, path)
    return path


def with_suffix(path: str | Path, suffix: str, others: tuple[str, ...] = ()) -> Path:
    """`path` if it ends as the format does, else with `suffix` added."""
    path = Path(path)
    ends = tuple(end for end in (suffix, *others))
    return path if path.name.lower().endswith(ends) else path.with_name(path.name + suffix)


def format_of_name(path: Path) -> str | None:
    """The format that a file's name promises, or None."""
    name = path.name.lower()
    return next((kind for kind, ends in SUFFIXES.items() if name.endswith(ends)), None)


def format_of_content(path: Path) -> str | None:
    """The format that a file's first bytes show, or None."""
    with path.open("rb") as file:
        head = file.read(352)
    if head[:2] == b"\x1f\x8b":
        head = _unzipped_head(path)
    if head[128:132] == b"DICM":
        return "dicom"
    if head[344:348] == b"n+1\0" or head[4:8] == b"n+2\0":
        return "nifti"
    return next((kind for start, kind in SIGNATURES if head.startswith(start)), None)


def _unzipped_head(path: Path) -> bytes:
    try:
        with gzip.open(path) as file:
            return file.read(352)
    except (OSError, EOFError):
        return b""


def recognised(path: Path) -> str:
    """The format of an existing file; ScanError says why it is no image."""
    if path.is_dir():
        raise ScanError(f"{path} is a folder, not an image; name a file in it")
    if not path.is_file():
        raise ScanError(f"{path} does not exist; check the spelling")
    if path.stat().st_size == 0:
        raise ScanError(f"{path} is empty (0 bytes); copy it again from where it came")
    kind = format_of_content(path)
    if kind is None:
        raise ScanError(f"{path} is not a DICOM, NIfTI, PNG, JPEG or TIFF image; convert it to one of these")
    return kind
