"""What a second worker is worth: the same job with one worker and with two, one after the other, and once with a kill.

    python bench/workers.py [-n 2000] [--size 128] [--rounds 1] [--work DIR] [--json FILE]

Some chest phantoms are drawn once and linked under as many names as are asked for; `explain --with inpainting` goes
over them with the shipped networks, a judge beside them. Printed are the seconds of each run, two workers' share of one
worker's time (all start-up is counted), and how many files differ. One worker is what `counterscan` does by default:
one process whose networks use every core. In a third run one of two workers is killed half-way. Leaves with 1 where the
share is above 0.6, or where a file is missing or too much.
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from memory import COMMAND, DRAWN, linked, measured
from safetensors.numpy import load_file

from counterscan.data.archive import write_phantoms
from counterscan.data.files import write_whole

ALLOWED = 0.6
SETTINGS = shlex.split("--classifier chest/classifier --judge chest/judge --target normal --with inpainting")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=2000, help="images")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="workers-", dir=given.work) as folder:
        told = compared(Path(folder), given.n, given.size, given.rounds)
    if given.json:
        facts = {"command": shlex.join(["python", *sys.argv]), "version": metadata.version("counterscan"), **told}
        write_whole(given.json, (json.dumps(facts, indent=1) + "\n").encode())
    sys.exit(told["share"] > ALLOWED or bool(told["two"]["files"] or told["killed"]["files"]))


def compared(place: Path, n: int, size: int, rounds: int) -> dict[str, Any]:
    """The seconds with one worker and with two, taking turns; what differs, also after a kill."""
    drawn = sorted((write_phantoms("chest", min(DRAWN, n), place / "drawn", size) / "images").iterdir())
    images = linked(drawn, place / "images", n)
    seconds: dict[str, list[float]] = {"one": [], "two": []}
    for number in range(rounds):
        for name, workers in (("one", 1), ("two", 2)):
            out = place / f"{name}-{number}"
            seconds[name].append(measured(command(images, out, workers))[1])
            print(f"{n} images, {name} worker{'s' * (workers > 1)}: {seconds[name][-1]:.0f} s", flush=True)
    share = sum(seconds["two"]) / sum(seconds["one"])
    print(f"two workers take {share:.2f} of one worker's time", flush=True)
    killed = place / "killed"
    with_a_kill(command(images, killed, 2), killed / "cases", n // 2)
    told = {"images": n, "cores": len(os.sched_getaffinity(0)), "seconds": seconds, "share": share}
    for name, out in (("two", place / "two-0"), ("killed", killed)):
        told[name] = differences(place / "one-0" / "cases", out / "cases")
        print(f"{name} beside one: {told[name]}", flush=True)
    return told


def command(images: Path, out: Path, workers: int) -> list[str]:
    """The job as a person types it."""
    return [*COMMAND, "explain", str(images), *SETTINGS, "--out", str(out), "--workers", str(workers)]


def with_a_kill(words: list[str], cases: Path, half: int) -> None:
    """Run a command, one of whose workers is killed when half of the cases are there."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    watcher = threading.Thread(target=kill_one, args=(process, cases, half))
    watcher.start()
    if process.wait():
        raise SystemExit(f"{words} left with {process.returncode}")
    watcher.join()


def kill_one(process: subprocess.Popen, cases: Path, half: int) -> None:
    """Wait until half of the cases are there, then kill a worker."""
    while process.poll() is None and sum(1 for _ in cases.glob("[!.]*")) < half:
        time.sleep(0.2)
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
            os.kill(int(child), signal.SIGKILL)
            print(f"worker {child} killed after {half} cases", flush=True)
            return
    raise SystemExit("there was no worker to kill")


def differences(one: Path, other: Path) -> dict[str, Any]:
    """How many files only one side has, how many pictures differ, and by how much tensors differ at most."""
    ours, theirs = ({path.relative_to(side) for path in side.rglob("*") if path.is_file()} for side in (one, other))
    shared = sorted(ours & theirs)
    pictures = sum((one / name).read_bytes() != (other / name).read_bytes() for name in shared if name.suffix == ".png")
    furthest = max(apart(one / name, other / name) for name in shared if name.suffix == ".safetensors")
    return {"files": len(ours ^ theirs), "pictures": pictures, "tensors": furthest}


def apart(one: Path, other: Path) -> float:
    """The largest difference of any number in two files of tensors."""
    left, right = load_file(one), load_file(other)
    return max(float(np.abs(left[name].astype(np.float64) - right[name]).max()) for name in left)


if __name__ == "__main__":
    main()
