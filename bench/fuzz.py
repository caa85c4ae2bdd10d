"""Damaged and hostile files by the million: every reader answers with a value or one line, in bounded time and memory.

    python bench/fuzz.py --inputs 1000000 --out findings --json FILE [--seed 0] [--only nifti] [--minutes 60]

Small valid files of every kind (seeds.py, seeds_texts.py) are changed by bit flips, cuts, splices and edited lengths
(changes.py), and read by a process that may take SECONDS, MEMORY and write no file outside its folder. What it does
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
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from changes import mutated, repaired
from fault_runs import changes, paths
from fuzz_readers import READERS, RESULTS, image
from seeds import Seed, seeds

SECONDS = 2  # of the processor's time for one file
CLOCK = 600  # seconds by the clock, for machines with much to do
START = 300  # of both for the valid files, which come first and load the libraries
MEMORY = 6 << 30  # bytes of address space, of which torch takes most
GROWTH = 400 << 10  # KiB that one small file may add to what the process ever held
WRITING = 16  # of so many inputs one has its results written, too, which takes ten times as long as to read it
TOLD = 5.0  # seconds between two reports of the process that reads
NOTED = 60  # seconds between two notes of how far it is
KINDS = ("crash", "hang", "outside", "memory", "error")  # of faults
Answer = tuple[str, str]  # "value", "refused" or a kind of fault; and what happened


def changed(chosen: list[Seed], seed: int, number: int) -> Seed:
    """Input `number`; the first are the valid files themselves.

    Every other one is drawn among the kinds, for each to have its share; the rest among the files, for most are images,
    whose formats are many.
    """
    if number < len(chosen):
        return chosen[number]
    rng = random.Random(f"{seed} {number}")
    among = chosen
    if rng.random() < 0.5:
        kind = rng.choice(sorted({one.kind for one in chosen}))
        among = [one for one in chosen if one.kind == kind]
    one, other = rng.choice(among), rng.choice(chosen)
    name = rng.choice(list(one.files))
    content = mutated(rng, one.files[name], rng.choice(list(other.files.values())))
    return repaired(one, name, content, rng)


def lay(seed: Seed, folder: Path, writing: bool) -> None:
    """Write the files of `seed`, and nothing else, below `folder`, with a folder for results where those are asked."""
    for part in ("case", "tmp"):
        place = folder / part
        if part == "case" or not place.is_dir() or any(place.iterdir()):
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
    write(seed, folder / "case")
    if writing:
        (folder / "case" / RESULTS).mkdir()


def write(seed: Seed, folder: Path) -> None:
    """Write the files of `seed` into `folder`."""
    for name, content in seed.files.items():
        if "/" in name:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@dataclass
class Report:
    """What became of the inputs before `next` since the last report: how many answered what, and the faults."""

    next: int
    counts: Counter[str] = field(default_factory=Counter)  # "kind answer"
    faults: list[tuple[int, Answer]] = field(default_factory=list)


@dataclass(frozen=True)
class Task:
    """What the process that reads is given: the inputs from `start` to `stop`, but those that were the `end` of one."""

    folder: Path
    chosen: list[Seed]
    seed: int
    start: int
    stop: int
    end: Mapping[int, Answer]


def work(task: Task, now: Any, line: Connection) -> None:
    """Read the valid files, then the inputs of `task`: `now` is the one in hand, -1 before; reports go down `line`."""
    import warnings

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what C libraries print
    warnings.simplefilter("ignore")
    tempfile.tempdir = str(task.folder / "tmp")
    outside: list[str] = []
    for seed in task.chosen:
        lay(seed, task.folder, writing=True)
        _answer(seed, task.folder / "case", outside)
    sys.addaudithook(lambda event, args: _watch(event, args, task.folder, outside))
    report, told = Report(task.start), time.monotonic()
    for number in range(task.start, task.stop):
        seed, now.value = changed(task.chosen, task.seed, number), number
        answer = task.end.get(number) or _tried(seed, task.folder, number, outside)
        report.counts[f"{seed.kind} {answer[0]}"] += 1
        report.faults += [(number, answer)] if answer[0] in KINDS else []
        report.next = number + 1
        if time.monotonic() - told > TOLD:
            line.send(report)
            report, told = Report(report.next), time.monotonic()
    line.send(report)


def _tried(seed: Seed, folder: Path, number: int, outside: list[str]) -> Answer:
    lay(seed, folder, writing=number % WRITING == 0)
    outside.clear()
    return _answer(seed, folder / "case", outside)


def _answer(seed: Seed, folder: Path, outside: list[str]) -> Answer:
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
            ours = path.startswith((f"{folder}/", "/dev/null", "/proc/")) or "__pycache__" in path
            outside += [] if ours else [path]


class Worker:
    """The process that reads, and what it has told."""

    def __init__(self, task: Task):
        context = get_context("spawn")
        self.line, far = context.Pipe()
        self.now = context.RawValue("q", -1)
        self.process = context.Process(target=work, args=(task, self.now, far), daemon=True)
        self.process.start()
        far.close()
        self.seen, self.since, self.used = -1, time.monotonic(), 0.0  # the input in hand, and when it was first seen

    def told(self) -> Report | tuple[int, Answer] | None:
        """The next report, the input that was its end and how, or None where it is still at work."""
        try:
            if self.line.poll(0.5):
                return self.line.recv()
        except (EOFError, OSError):
            self.process.join(5)
            return self.now.value, ("crash", f"crashed: exit code {self.process.exitcode}")
        return self._late()

    def _late(self) -> tuple[int, Answer] | None:
        number, used, clock = self.now.value, self._used(), time.monotonic()
        if number != self.seen:
            self.seen, self.since, self.used = number, clock, used
        allowed = (START, START) if number < 0 else (SECONDS, CLOCK)
        if used - self.used <= allowed[0] and clock - self.since <= allowed[1]:
            return None
        return number, ("hang", f"hung: {used - self.used:.0f} s of the processor, {clock - self.since:.0f} s")

    def _used(self) -> float:
        """Seconds of the processor's time that the process has had."""
        try:
            told = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended, which its line will say
            return self.used
        return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")

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
    end: dict[int, Answer] = {}  # inputs that a process died of or hung at; what came after the last report is redone
    worker, note = None, given.out / "progress.json"
    start = told = noted = time.monotonic()
    while progress.next < given.inputs and time.monotonic() - start < 60 * given.minutes:
        worker = worker or Worker(Task(folder, chosen, given.seed, progress.next, given.inputs, end))
        report = worker.told()
        if isinstance(report, tuple):
            end[report[0]] = report[1]
            worker.stop()
            worker = None
            if report[0] < 0:
                raise SystemExit(f"the valid files are not read: {report[1][1]}")
        elif report is not None:
            _take(report, chosen, given, progress)
            progress.seconds, told = progress.seconds + time.monotonic() - told, time.monotonic()
        if told - noted > NOTED:
            progress.write(note)
            noted = told
            print(progress, flush=True)
    if worker is not None:
        worker.stop()
    progress.write(note)


def _take(report: Report, chosen: list[Seed], given: argparse.Namespace, progress: Progress) -> None:
    progress.next = report.next
    progress.counts += report.counts
    for number, (answer, what) in report.faults:
        seed = changed(chosen, given.seed, number)
        progress.faults[_keep(seed, f"input {number}, {answer}\n{what}", given.out, progress.faults)] += 1


def _keep(seed: Seed, what: str, out: Path, faults: Counter[str]) -> str:
    """Put a finding away, three of a kind at most; its kind is where in the code it happened."""
    lines = [line.strip() for line in what.strip().splitlines()]
    places = [line.rpartition("counterscan/")[2] for line in lines if "counterscan/" in line and ", line " in line]
    key = f"{seed.kind}: {places[-1] if places else ''} {lines[-1].partition(':')[0][:60]}"
    if faults[key] < 3:
        place = out / f"{seed.kind}-{hashlib.sha256(key.encode()).hexdigest()[:8]}-{faults[key]}"
        place.mkdir(parents=True, exist_ok=True)
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
    for kind in sorted({key.split()[0] for key in progress.counts}):
        many = sum(count for key, count in progress.counts.items() if key.startswith(f"{kind} "))
        figures[f"fuzz_of_{kind}"] = {"value": many, "low": many, "high": many, "n": n}
    rate = round(n / max(progress.seconds, 1e-9), 1)
    figures["fuzz_inputs_per_second"] = {"value": rate, "low": rate, "high": rate, "n": n}
    words = shlex.join(["python", "bench/fuzz.py", *sys.argv[1:]])
    told = {"command": words, "version": metadata.version("counterscan"), "explainer": "every reader", "n": n}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**told, "metrics": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
