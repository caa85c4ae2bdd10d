"""Damaged and hostile files for an hour: every reader answers with a value or one line, in bounded time and memory.

    python bench/fuzz.py --minutes 60 --out findings [--seed 0] [--only nifti]

Small valid files of every format (seeds.py) are changed by bit flips, cuts, splices and edited lengths (changes.py),
and given to a process that may take SECONDS, MEMORY and no file outside its folder. What it does beyond a value or a
CounterscanError of one line is kept in the folder of findings: the files, and what happened.
"""

import argparse
import hashlib
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from changes import mutated, repaired
from seeds import Seed, seeds

SECONDS = 10  # of the processor's time for one file; thirty times that by the clock, for machines with much to do
START = 120  # more for the first, in which libraries are loaded
MEMORY = 6 << 30  # bytes of address space, of which torch takes most
GROWTH = 400 << 10  # KiB that one small file may add to what the process ever held


def ask(seed: Seed, folder: Path) -> None:
    """Do with the files of `seed` in `folder` all that a user would."""
    from counterscan.classifiers.load import read_card
    from counterscan.data.manifest import find_cases, read_manifest
    from counterscan.data.results import MapSource
    from counterscan.data.scans import read_scan
    from counterscan.weights.store import load_weights

    path = folder / seed.main
    if seed.kind == "manifest":
        read_manifest(path).leaks("split")
    elif seed.kind == "card":
        read_card(path)
    elif seed.kind == "weights":
        load_weights(folder)
    elif seed.kind in ("zip", "series"):
        for case in find_cases(path if seed.kind == "zip" else folder).cases:
            case.read()
    else:
        scan = read_scan(path)
        scan.images((1, 32, 32))
        scan.write(scan.pixels, folder / "out" / "counterfactual")
        scan.write_mask(scan.pixels[:, 0] > scan.window.low, folder / "out" / "mask")
        if isinstance(scan.source, MapSource):
            scan.source.write_map(scan.pixels[:, 0], folder / "out" / "heatmap")


def work(line: Connection, folder: Path) -> None:
    """Answer jobs until there are no more: `("value" | "refused" | "fault", what happened)`."""
    import warnings

    from counterscan.errors import CounterscanError

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what C libraries print
    warnings.simplefilter("ignore")
    tempfile.tempdir = str(folder / "tmp")
    outside: list[str] = []
    sys.addaudithook(lambda event, args: _watch(event, args, folder, outside))
    while seed := line.recv():
        outside.clear()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            ask(seed, folder / "case")
            answer = ("value", "")
        except CounterscanError as error:
            long = "\n" in str(error) or len(str(error)) > 1000
            answer = ("fault", f"a long refusal: {error}") if long else ("refused", str(error))
        except BaseException:
            answer = ("fault", traceback.format_exc())
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        if grown > GROWTH or "more memory than there is" in answer[1]:
            answer = ("fault", f"{grown >> 10} MiB more memory\n{answer[1]}")
        line.send(("fault", f"written outside: {outside}") if outside else answer)


def _watch(event: str, args: tuple[Any, ...], folder: Path, outside: list[str]) -> None:
    """Note what is opened for writing outside the folder, null device apart."""
    if event == "open" and isinstance(args[0], str | bytes) and args[2] & (os.O_WRONLY | os.O_RDWR):
        path = os.path.realpath(os.fsdecode(args[0]))
        if not path.startswith(str(folder)) and not path.startswith(("/dev/", "/proc/")) and "__pycache__" not in path:
            outside.append(path)


class Worker:
    """A process that is asked one thing at a time, and replaced when it dies or is late."""

    def __init__(self, folder: Path):
        context, self.fresh = get_context("spawn"), True
        self.line, far = context.Pipe()
        self.process = context.Process(target=work, args=(far, folder), daemon=True)
        self.process.start()
        far.close()

    def answer(self, seed: Seed) -> tuple[str, str]:
        """What became of `seed`; a fault if the process died or was late."""
        try:
            self.line.send(seed)
            allowed, started = self._used() + SECONDS + START * self.fresh, time.monotonic()
            while not self.line.poll(0.5):
                if self._used() > allowed or time.monotonic() - started > 30 * SECONDS:
                    return "fault", f"hung: {self._used() - allowed + SECONDS:.0f} s"
            self.fresh = False
            return self.line.recv()
        except (EOFError, OSError):
            self.process.join(5)
            return "fault", f"crashed: exit code {self.process.exitcode}"

    def _used(self) -> float:
        """Seconds of the processor's time that the process has had."""
        told = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()


def main() -> None:
    """Fuzz for some minutes, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--out", type=Path, default=Path("findings"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    rng = random.Random(given.seed)
    chosen = [seed for seed in seeds() if given.only in seed.name]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        faults = fuzz(chosen, rng, Path(place).resolve(), given.out, given.minutes * 60)
    sys.exit(1 if faults else 0)


def fuzz(chosen: list[Seed], rng: random.Random, folder: Path, out: Path, seconds: float) -> int:
    """Ask about changed seeds until the time is over; answers how many different faults there were."""
    worker = Worker(folder)
    counts: Counter[tuple[str, str]] = Counter()
    faults: Counter[str] = Counter()
    start = told = time.monotonic()
    while time.monotonic() - start < seconds:
        seed = rng.choice(chosen)
        changed = _changed(rng, seed, rng.choice(chosen)) if sum(counts.values()) >= len(chosen) else seed
        _lay(changed, folder)
        kind, what = worker.answer(changed)
        counts[seed.kind, kind] += 1
        if kind == "fault":
            faults[_keep(changed, what, out, faults)] += 1
            if what.startswith(("hung", "crashed")):
                worker.stop()
                worker = Worker(folder)
        if time.monotonic() - told > 60:
            told = time.monotonic()
            print(f"{told - start:.0f} s: {_told(counts, faults)}", flush=True)
    worker.stop()
    print(f"{seconds:.0f} s: {_told(counts, faults)}\n" + "\n".join(f"{many} x {key}" for key, many in faults.items()))
    return len(faults)


def _changed(rng: random.Random, seed: Seed, other: Seed) -> Seed:
    name = rng.choice(list(seed.files))
    content = mutated(rng, seed.files[name], rng.choice(list(other.files.values())))
    return repaired(seed, name, content, rng)


def _lay(seed: Seed, folder: Path) -> None:
    for part in ("case", "tmp"):
        shutil.rmtree(folder / part, ignore_errors=True)
        (folder / part).mkdir(parents=True)
    for name, content in seed.files.items():
        (folder / "case" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "case" / name).write_bytes(content)


def _keep(seed: Seed, what: str, out: Path, faults: Counter[str]) -> str:
    """Put a finding away, three of a kind at most; its kind is where in the code it happened."""
    lines = [line.strip() for line in what.strip().splitlines()]
    places = [line.rpartition("counterscan/")[2] for line in lines if "counterscan/" in line and ", line " in line]
    key = f"{seed.kind}: {places[-1] if places else ''} {lines[-1].partition(':')[0][:60]}"
    if faults[key] < 3:
        place = out / f"{seed.kind}-{hashlib.sha256(key.encode()).hexdigest()[:8]}-{faults[key]}"
        for name, content in seed.files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content)
        (place / "what.txt").write_text(f"{seed.kind} {seed.main}\n{what}\n")
    return key


def _told(counts: Counter[tuple[str, str]], faults: Counter[str]) -> str:
    kinds = sorted({kind for kind, _ in counts})
    table = ", ".join(f"{kind} {counts[kind, 'value']}/{counts[kind, 'refused']}" for kind in kinds)
    return f"{sum(counts.values())} files (read/refused: {table}), {len(faults)} kinds of fault"


if __name__ == "__main__":
    main()
