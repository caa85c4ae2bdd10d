"""Zip archives of images: unpacked into a folder that is gone when the process ends, and never outside it."""

import atexit
import re
import shutil
import stat
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from counterscan.errors import ScanError

LARGEST = 16 << 30  # bytes when unpacked
ENTRIES = 100_000
CHUNK = 1 << 20
CURE = "unzip it yourself, look at what is in it, and name the folder"
_unpacked: dict[tuple[Path, int, int], Path] = {}


def is_zip(path: Path) -> bool:
    """Is `path` a file that begins as a zip archive does?"""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def unzipped(path: Path) -> Path:
    """The folder that the archive's files were unpacked into, once a process; without a wrapping folder of its own.

    Raises ScanError for an archive that is damaged, encrypted or too large, or that names anything but plain files
    inside itself. Nothing of such an archive is left on the disk.
    """
    state = path.stat()
    key = (path.resolve(), state.st_size, state.st_mtime_ns)
    if key not in _unpacked:
        folder = Path(tempfile.mkdtemp(prefix="counterscan-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        try:
            _unpack(path, folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        _unpacked[key] = _inner(folder)
    return _unpacked[key]


def _unpack(path: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check(path, entries, shutil.disk_usage(folder).free)
            for entry in entries:
                _write(path, archive, entry, folder / _place(path, entry))
    except ScanError:
        raise
    except OSError as error:
        raise ScanError(f"{path} cannot be unpacked ({error.strerror or _line(error)}); {CURE}") from error
    except Exception as error:  # zipfile, zlib, bzip2 and LZMA raise their own
        raise ScanError(f"{path} is a damaged zip archive ({_line(error)}); copy it again") from error


def _check(path: Path, entries: list[zipfile.ZipInfo], free: int) -> None:
    """Refuse what is too much, before anything is written; `_write` holds the entries to what they say here."""
    size = sum(entry.file_size for entry in entries)
    if len(entries) > ENTRIES or size > LARGEST:
        raise ScanError(f"{path} unpacks to {len(entries):,} files of {size >> 20:,} MiB, which is too much; {CURE}")
    if size > free // 2:
        raise ScanError(f"{path} unpacks to {size >> 20:,} MiB, for which {tempfile.gettempdir()} has no room; {CURE}")
    for entry in entries:
        _place(path, entry)


def _place(path: Path, entry: zipfile.ZipInfo) -> PurePosixPath:
    """Where an entry goes, relative to the folder."""
    name = entry.filename.replace("\\", "/")
    place = PurePosixPath(name)
    shown = "".join(letter if letter.isprintable() else "?" for letter in name[:80])
    if name.startswith("/") or re.match(r"[A-Za-z]:", name) or ".." in place.parts or not place.parts:
        raise ScanError(f"{path} names a file outside itself ({shown}), which may be an attack; {CURE}")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ScanError(f"{path} holds a link or a device ({shown}), which may lead anywhere; {CURE}")
    if entry.flag_bits & 1:
        raise ScanError(f"{path} is encrypted; unzip it with its password, and name the folder")
    return place


def _write(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, place: Path) -> None:
    if entry.is_dir() or entry.filename.endswith("\\"):
        place.mkdir(parents=True, exist_ok=True)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.exists():
        raise ScanError(f"{path} holds {place.name} twice in one folder; {CURE}")
    left = entry.file_size
    with archive.open(entry) as source, place.open("xb") as target:
        while part := source.read(CHUNK):
            left -= len(part)
            if left < 0:
                raise zipfile.BadZipFile(f"{place.name} is longer than it says")
            target.write(part)


def _inner(folder: Path) -> Path:
    """The one folder that all lies in, as archives of a folder have it, else the folder itself."""
    inside = [one for one in folder.iterdir() if one.name not in ("__MACOSX", ".DS_Store")]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
