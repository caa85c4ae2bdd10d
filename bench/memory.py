"""Peak memory of counterscan over few and many images, which should be the same.

    python bench/memory.py [--counts 1000 10000] [--size 128] [--work DIR] [--jobs segment explain]

Some chest phantoms are written once and linked under as many names as are asked for. `segment` and `explain`, both with
Grad-CAM in batches of 8, then go over all of them, each in a process of its own, whose largest resident memory and time
are printed. Leaves with 1 where the most images take more than a tenth more memory than the fewest.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from counterscan.data.archive import write_phantoms

DRAWN = 32  # different images
ALLOWED = 1.1
COMMAND = [sys.executable, "-c", "from counterscan.cli import app; app()"]
SETTINGS = [
    "--classifier",
    "chest/classifier",
    "--target",
    "normal",
    "--with",
    "grad-cam",
    "--threshold",
    "0.5",
    "--batch",
    "8",
]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--jobs", nargs="+", default=["segment", "explain"])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="memory-", dir=given.work) as folder:
        place = Path(folder)
        drawn = sorted((write_phantoms("chest", DRAWN, place / "drawn", given.size) / "images").iterdir())
        grown = [compared(job, drawn, place, sorted(given.counts)) for job in given.jobs]
    sys.exit(max(grown) > ALLOWED)


def compared(job: str, drawn: list[Path], place: Path, counts: list[int]) -> float:
    """Do a job over several numbers of images; the memory of the most over that of the fewest."""
    peaks = []
    for count in counts:
        images, out = linked(drawn, place / f"{job}-images", count), place / f"{job}-out"
        peak, seconds = measured([*COMMAND, job, str(images), *SETTINGS, "--out", str(out)])
        peaks.append(peak)
        print(f"{job:8s} {count:6d} images  {peak:6.0f} MiB  {seconds:7.0f} s", flush=True)
        shutil.rmtree(images)
        shutil.rmtree(out)
    print(f"{job:8s} {counts[-1]} images take {peaks[-1] / peaks[0]:.2f} times the memory of {counts[0]}", flush=True)
    return peaks[-1] / peaks[0]


def linked(drawn: list[Path], folder: Path, count: int) -> Path:
    """A folder in which `count` names stand for the images that were drawn."""
    folder.mkdir()
    for number in range(count):
        os.link(drawn[number % len(drawn)], folder / f"{number:06d}.png")
    return folder


def measured(command: list[str]) -> tuple[float, float]:
    """Largest resident memory in MiB and seconds of a command, which must succeed."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} left with {process.returncode}")
    return usage.ru_maxrss / 1024, time.monotonic() - started


if __name__ == "__main__":
    main()
