"""Peak memory of commands over few and many images, which should be the same.

    python bench/memory.py --work DIR [--counts 1000 10000] [--size 128] [--jobs explain score] [--json FILE]

Chest phantoms are written, checked, explained and masked (Grad-CAM, batches of 8), scored with a judge, and learned
from for a few steps; `synthesise` makes a hundredth as many scans and one batch of 32 more. Each command is a process
of its own, whose largest resident memory and time are printed. Leaves with 1 where the most images take more than a
tenth more memory than the fewest.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ALLOWED = 1.1
BATCH = 32  # scans that `synthesise` works on at once
COMMAND = [sys.executable, "-c", "from counterscan.cli import app; app()"]
ASKED = "--classifier chest/classifier --target normal --with grad-cam --threshold 0.5 --batch 8"
JOBS = {  # in this order: later ones need what earlier ones wrote
    "phantoms": "phantoms chest --n {n} --size {size} --seed 1 --out {work}/archive",
    "check": "data check {work}/archive",
    "train": "train classifier --data {work}/archive --set steps=10 --out {work}/trained",
    "segment": "segment {work}/archive " + ASKED + " --out {work}/masks",
    "explain": "explain {work}/archive " + ASKED + " --out {work}/explained",
    "score": "score {work}/explained --judge chest/judge",
    "synthesise": "synthesise --generator chest/growing-gan --classifier chest/classifier --judge chest/judge "
    "--labels effusion=1 -n {few} --out {work}/synthetic",
}
NEEDED = dict.fromkeys(("check", "train", "segment", "explain"), ("phantoms",)) | {"score": ("phantoms", "explain")}
FINE = {"synthesise": (0, 3)}  # codes to leave with; 3 where scans were given up that classifier and judge refuse


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder; 0.4 MB an image are needed")
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--jobs", nargs="+", default=list(JOBS), choices=list(JOBS))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = [peaks(count, given) for count in sorted(given.counts)]
    grown = {job: round(found[-1][job]["mib"] / found[0][job]["mib"], 3) for job in given.jobs}
    for job, ratio in grown.items():
        print(f"{job}: {max(given.counts)} images take {ratio:.2f} times the memory of {min(given.counts)}", flush=True)
    if given.json:
        told = {"command": shlex.join(["python", *sys.argv]), "counts": sorted(given.counts), "size": given.size}
        rows = {job: {"peaks": [one[job] for one in found], "ratio": grown[job]} for job in given.jobs}
        given.json.write_text(json.dumps({**told, "jobs": rows}, indent=1) + "\n")
    sys.exit(max(grown.values()) > ALLOWED)


def peaks(count: int, given: argparse.Namespace) -> dict[str, dict[str, float]]:
    """The largest memory and the seconds of each job over `count` images."""
    found = {}
    needed = {*given.jobs, *(other for job in given.jobs for other in NEEDED.get(job, ()))}
    given.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="memory-", dir=given.work) as work:
        for job, words in JOBS.items():
            if job in needed:
                told = words.format(n=count, few=BATCH + count // 100, size=given.size, work=work)
                found[job] = measured([*COMMAND, *shlex.split(told)], FINE.get(job, (0,)))
                print(f"{job:10s} {count:6d} images {found[job]['mib']:6.0f} MiB {found[job]['s']:7.0f} s", flush=True)
    return found


def measured(command: list[str], fine: tuple[int, ...]) -> dict[str, float]:
    """Largest resident memory in MiB and seconds of a command, which must leave with one of the codes `fine`."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in fine:
        raise SystemExit(f"{shlex.join(command)} left with {process.returncode}")
    return {"mib": round(usage.ru_maxrss / 1024), "s": round(time.monotonic() - started)}


if __name__ == "__main__":
    main()
