"""Damaged and hostile files by the million: every reader answers with a value or one line, in bounded time and memory.

    python bench/fuzz.py --inputs 1000000 --out findings --json FILE [--seed 0] [--only nifti] [--minutes 60]

Small valid files of every kind (seeds.py, seeds_texts.py) are changed by bit flips, cuts, splices and edited lengths
(changes.py), and given to a process that may take SECONDS, MEMORY and write no file outside its folder. What it does
beyond a value or a CounterscanError of one line is kept in the folder of findings: the files, and what happened. Input
number n depends on the seed and n alone; how far it is stands in the folder, so that the same command goes on there.
"""

import argparse
import hashlib
import json
import os
import random
import resource
import shlex
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from importlib import metadata
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from changes import mutated, repaired
from fault_runs import changes, paths
from fuzz_readers import READERS, image
from seeds import Seed, seeds

SECONDS = 2  # of the processor's time for one file
CLOCK = 600  # seconds by the clock, for machines with much to do
START = 120  # more for the first, in which libraries are loaded
MEMORY = 6 << 30  # bytes of address space, of which torch takes most
GROWTH = 400 << 10  # KiB that one small file may add to what the process ever held
NOTED = 60  # seconds between two notes of how far it is
KINDS = ("crash", "hang", "outside", "memory", "error")  # of faults


def changed(chosen: list[Seed], seed: int, number: int) -> Seed:
    """Input `number`; the first are the valid files themselves."""
    if number < len(chosen):
        return chosen[number]
    rng = random.Random(f"{seed} {number}")
    one, other = rng.choice(chosen), rng.choice(chosen)
    name = rng.choice(list(one.files))
    content = mutated(rng, one.files[name], rng.choice(list(other.files.values())))
    return repaired(one, name, content, rng)


def lay(seed: Seed, folder: Path) -> None:
    """Write the files of `seed`, and nothing else, below `folder`."""
    for part in ("case", "tmp"):
        shutil.rmtree(folder / part, ignore_errors=True)
        (folder / part).mkdir(parents=True)
    write(seed, folder / "case")


def write(seed: Seed, folder: Path) -> None:
    """Write the files of `seed` into `folder`."""
    for name, content in seed.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def work(line: Connection, folder: Path, chosen: list[Seed], number_seed: int) -> None:
    """Answer jobs until there are no more: `("value" | "refused" | a kind of fault, what happened)`."""
    import warnings

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what C libraries print
    warnings.simplefilter("ignore")
    tempfile.tempdir = str(folder / "tmp")
    outside: list[str] = []
    sys.addaudithook(lambda event, args: _watch(event, args, folder, outside))
    while (number := line.recv()) is not None:
        seed = changed(chosen, number_seed, number)
        lay(seed, folder)
        outside.clear()
        line.send(_answer(seed, folder / "case", outside))


def _answer(seed: Seed, folder: Path, outside: list[str]) -> tuple[str, str]:
    from counterscan.errors import CounterscanError

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        READERS.get(seed.kind, image)(folder / seed.main, folder)
        answer = ("value", "")
    except CounterscanError as error:
        long = "\n" in str(error) or len(str(error)) > 1000
        answer = ("error", f"a long refusal: {error}") if long else ("refused", str(error))
    except BaseException:
        answer = ("error", traceback.format_exc())
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    if grown > GROWTH or "more memory than there is" in answer[1]:
        answer = ("memory", f"{grown >> 10} MiB more memory\n{answer[1]}")
    return ("outside", f"written outside: {outside}") if outside else answer


def _watch(event: str, args: tuple[Any, ...], folder: Path, outside: list[str]) -> None:
    """Note what is written, made, renamed or removed outside the folder, null device apart."""
    if changes(event, args):
        for path in map(os.path.realpath, paths(event, args)):
            ours = path.startswith((str(folder), "/dev/null", "/proc/")) or "__pycache__" in path
            outside += [] if ours else [path]


class Worker:
    """A process that is asked one thing at a time, and replaced when it dies or is late."""

    def __init__(self, folder: Path, chosen: list[Seed], seed: int):
        context, self.given = get_context("spawn"), (folder, chosen, seed)
        self.line, far = context.Pipe()
        self.process = context.Process(target=work, args=(far, folder, chosen, seed), daemon=True)
        self.process.start()
        far.close()
        self.known: set[str] = set()  # kinds that it has met, and whose libraries it has loaded

    def answer(self, number: int, kind: str) -> tuple[str, str]:
        """What became of input `number`, which is of some `kind`; a fault if the process died or was late."""
        try:
            self.line.send(number)
            started = time.monotonic()
            if not self.line.poll(SECONDS):  # most are answered by then
                allowed = self._used() + (SECONDS if kind in self.known else START)
                while not self.line.poll(0.5):
                    if self._used() > allowed or time.monotonic() - started > CLOCK:
                        return "hang", f"hung: {self._used() - allowed + SECONDS:.0f} s more than allowed"
            self.known.add(kind)
            return self.line.recv()
        except (EOFError, OSError):
            self.process.join(5)
            return "crash", f"crashed: exit code {self.process.exitcode}"

    def _used(self) -> float:
        """Seconds of the processor's time that the process has had."""
        told = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")

    def again(self) -> "Worker":
        """Another one in its place."""
        self.stop()
        return Worker(*self.given)

    def stop(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()


@dataclass
class Progress:
    """How far it is, kept in the folder of findings."""

    of: str  # a digest of the valid files and the seed
    next: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)  # "kind answer"
    faults: Counter[str] = field(default_factory=Counter)

    @classmethod
    def read(cls, path: Path, of: str) -> "Progress":
        """Where it was, or the beginning."""
        if not path.exists():
            return cls(of)
        told = json.loads(path.read_text())
        if told["of"] != of:
            raise SystemExit(f"{path.parent} holds findings of other files or another seed; name another --out")
        return cls(of, told["next"], told["seconds"], Counter(told["counts"]), Counter(told["faults"]))

    def write(self, path: Path) -> None:
        """Keep it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(vars(self), indent=1) + "\n")
        os.replace(part, path)

    def of_kind(self, answer: str) -> int:
        """How many inputs had this answer."""
        return sum(count for key, count in self.counts.items() if key.endswith(f" {answer}"))

    def __str__(self) -> str:
        kinds = sorted({key.split()[0] for key in self.counts})
        table = ", ".join(f"{kind} {self.counts[f'{kind} value']}/{self.counts[f'{kind} refused']}" for kind in kinds)
        rate = self.next / self.seconds if self.seconds else 0
        return f"{self.next} inputs, {rate:.0f} a second (read/refused: {table}), {len(self.faults)} kinds of fault"


def main() -> None:
    """Fuzz until all inputs were tried or the time is over, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop earlier; the same command goes on")
    parser.add_argument("--out", type=Path, default=Path("findings"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="only files with this in their name or kind")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    chosen = [seed for seed in seeds() if given.only in seed.name or given.only == seed.kind]
    of = hashlib.sha256(repr([given.seed, chosen]).encode()).hexdigest()
    progress = Progress.read(given.out / "progress.json", of)
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory if memory.is_dir() else None) as place:
        fuzz(chosen, given, progress, Path(place).resolve())
    print(f"{progress}\n" + "\n".join(f"{many} x {key}" for key, many in progress.faults.items()))
    if given.json:
        _tell(given.json, progress)
    sys.exit(1 if progress.faults else 0)


def fuzz(chosen: list[Seed], given: argparse.Namespace, progress: Progress, folder: Path) -> None:
    """Try the inputs that are left."""
    worker, note = Worker(folder, chosen, given.seed), given.out / "progress.json"
    start = told = time.monotonic()
    while progress.next < given.inputs and time.monotonic() - start < 60 * given.minutes:
        seed = changed(chosen, given.seed, progress.next)
        answer, what = worker.answer(progress.next, seed.kind)
        progress.counts[f"{seed.kind} {answer}"] += 1
        if answer in KINDS:
            progress.faults[_keep(seed, f"input {progress.next}, {answer}\n{what}", given.out, progress.faults)] += 1
            worker = worker.again() if answer in ("hang", "crash") else worker
        progress.next += 1
        if time.monotonic() - told > NOTED:
            progress.seconds, told = progress.seconds + time.monotonic() - told, time.monotonic()
            progress.write(note)
            print(progress, flush=True)
    progress.seconds += time.monotonic() - told
    progress.write(note)
    worker.stop()


def _keep(seed: Seed, what: str, out: Path, faults: Counter[str]) -> str:
    """Put a finding away, three of a kind at most; its kind is where in the code it happened."""
    lines = [line.strip() for line in what.strip().splitlines()]
    places = [line.rpartition("counterscan/")[2] for line in lines if "counterscan/" in line and ", line " in line]
    key = f"{seed.kind}: {places[-1] if places else ''} {lines[-1].partition(':')[0][:60]}"
    if faults[key] < 3:
        place = out / f"{seed.kind}-{hashlib.sha256(key.encode()).hexdigest()[:8]}-{faults[key]}"
        write(seed, place)
        (place / "what.txt").write_text(f"{seed.kind} {seed.main}\n{what}\n")
    return key


def _tell(path: Path, progress: Progress) -> None:
    """Write the figures: how many inputs had a fault of each kind, with exact 95 % Poisson intervals, and the rate."""
    from scipy.stats import chi2

    figures, n = {}, progress.next
    for kind in KINDS:
        count = progress.of_kind(kind)
        low = float(chi2.ppf(0.025, 2 * count) / 2) if count else 0.0
        high = float(chi2.ppf(0.975, 2 * count + 2) / 2)
        figures[f"fuzz_{kind}"] = {"value": count, "low": round(low, 2), "high": round(high, 2), "n": n}
    for name, value in (("read", progress.of_kind("value")), ("refused", progress.of_kind("refused"))):
        figures[f"fuzz_{name}"] = {"value": value, "low": value, "high": value, "n": n}
    rate = round(n / max(progress.seconds, 1e-9), 1)
    figures["fuzz_inputs_per_second"] = {"value": rate, "low": rate, "high": rate, "n": n}
    words = shlex.join(["python", "bench/fuzz.py", *sys.argv[1:]])
    told = {"command": words, "version": metadata.version("counterscan"), "explainer": "every reader", "n": n}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**told, "metrics": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
