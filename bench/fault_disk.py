"""A disk that fills up while a command writes: a file system of memory, of a size of its own, in its own mounts.

It is mounted in a user and mount namespace (`unshare --user --mount`), which needs no rights beyond an ordinary user's;
what fills it is a file beside the command's folder, which is removed to make room.
"""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fault_commands import OUT
from fault_runs import Ended, contents, differences, ended

MARK = "COUNTERSCAN_FAULTS_MOUNTS"
SPARE = 16 << 20  # bytes beyond four times what a command leaves
OWN = ("unshare", "--user", "--map-root-user", "--mount")
FULL = ("no space left", "disk is full", "cannot be written", "no room")


def in_own_mounts() -> bool:
    """Start this program again where it may mount; False where the kernel lets nobody do so."""
    if os.environ.get(MARK):
        return True
    if subprocess.run([*OWN, "true"], capture_output=True, check=False).returncode:
        return False
    os.environ[MARK] = "1"
    sys.stdout.flush()
    os.execvp(OWN[0], [*OWN, sys.executable, *sys.argv])


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[Path]:
    """A file system of `size` bytes at `place`."""
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path, free: int) -> Path:
    """Leave `free` bytes; remove the file to make room."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        while True:
            told = os.statvfs(disk)
            try:
                os.posix_fallocate(file.fileno(), 0, max(1, told.f_bavail * told.f_frsize - free))
                return ballast
            except OSError as error:
                if error.errno != errno.ENOSPC:  # which says that somebody else wrote in between
                    raise
                if not told.f_bavail:
                    return ballast


def disks(whole, place: Path, shares: list[float]) -> Iterator[list[str]]:
    """What is wrong with a command that has a share of the room that it needs, and then all that it wants."""
    for number, share in enumerate(shares):
        with small_disk(place / f"{whole.command.name}-{number}", 4 * whole.size + SPARE) as disk:
            ballast, log = fill(disk, int(share * whole.size)), place / f"{whole.command.name}-{number}.log"
            found = ended(whole.command.run, disk / "work", log)
            wrong = _told(found) if found.code else []
            ballast.unlink()
            again = ended(lambda: whole.command.run(again=True), disk / "work", log)
            if again.code not in (0, 3):
                wrong.append(f"with room again it does not go on: {again.lines[-1] if again.lines else again.code}")
            yield wrong + differences(whole.left, contents(disk / "work" / OUT))


def _told(found: Ended) -> list[str]:
    """What is wrong with how a full disk was told."""
    if "Traceback" in found.said or found.code not in (1, 3):
        return [f"a full disk ends in exit code {found.code} and: {found.lines[-1] if found.lines else 'nothing'}"]
    lines = [line for line in found.lines if any(word in line.lower() for word in FULL)]
    return [] if lines else [f"a full disk is not told of: {found.lines[-1]}"]
