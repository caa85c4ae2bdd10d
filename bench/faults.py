"""Long commands killed at random moments, with a full disk, and with damaged files: do they end as if undisturbed?

    python bench/faults.py --kills 20 --json results/faults.json [--only explain] [--seed 0] [--skip disk,damage]

A command (SIGKILL) is killed at a random share of the time that it takes undisturbed, and as often before a random
operation on a file, which is torn; it is given again until it ends, and what it wrote must be what an undisturbed run
wrote: the same files with the same bytes, seconds apart, nothing lost, left over or doubled. Then a file system of its
own size fills up in mid-run, and files of a half-finished run are damaged: each time one line must say so, or the
result must be that of an undisturbed run. Nothing is written outside a temporary folder.
"""

import argparse
import json
import random
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from itertools import count
from pathlib import Path

import fault_study
from fault_commands import OUT, Command, commands, lay, load
from fault_damage import DAMAGES, damaged
from fault_disk import disks, fill, in_own_mounts, small_disk
from fault_runs import Ended, Moment, contents, differences, ended

SHARES = 3  # of the room that a command needs, at which the disk is full


@dataclass
class Tally:
    """How many disturbances of a kind there were, and what went wrong."""

    name: str
    count: int = 0
    wrong: list[str] = field(default_factory=list)
    failed: int = 0

    def add(self, count: int, wrong: list[str]) -> None:
        """Take in `count` disturbances of one result, and what is wrong with it."""
        self.count += count
        self.failed += count if wrong else 0
        self.wrong += wrong

    def to_dict(self) -> dict:
        """The share that was survived, with its exact 95 % interval."""
        from scipy.stats import beta

        good, n = self.count - self.failed, self.count
        low = float(beta.ppf(0.025, good, n - good + 1)) if good else 0.0
        high = float(beta.ppf(0.975, good + 1, n - good)) if good < n else 1.0
        return {"value": good / n, "low": round(low, 4), "high": round(high, 4), "n": n}


@dataclass(frozen=True)
class Undisturbed:
    """A command's own time, its operations on files, and what it leaves."""

    command: Command
    seconds: float
    operations: int
    place: Path

    @cached_property
    def left(self) -> dict[str, str]:
        """What it leaves."""
        return contents(self.place / OUT)

    @cached_property
    def size(self) -> int:
        """The bytes that this takes on a disk."""
        return sum(-(-path.stat().st_size // 4096) * 4096 for path in (self.place / OUT).rglob("*"))

    @classmethod
    def of(cls, command: Command, place: Path) -> "Undisturbed":
        """Run it once."""
        found = ended(command.run, place, place.with_suffix(".log"))
        if found.code not in (0, 3):
            raise SystemExit(f"{command.name} does not run: {found.said}")
        return cls(command, found.seconds, found.operations, place)


def killed(whole: Undisturbed, place: Path, moments: Iterator[Moment], kills: int) -> Iterator[tuple[int, list[str]]]:
    """Kill the command until it was killed so often; a result at a time: how often it was killed, and what is wrong."""
    made, rounds = 0, count()
    while made < kills:
        made_here, found = 0, None
        folder = place / f"{whole.command.name}-{next(rounds)}"
        while found is None or found.killed:
            moment = next(moments) if made < kills else None
            found = ended(lambda: whole.command.run(again=made_here > 0), folder, folder.with_suffix(".log"), moment)  # noqa: B023
            made_here, made = made_here + found.killed, made + found.killed
        yield made_here, _wrong(whole, found, folder)


def _wrong(whole: Undisturbed, found: Ended, folder: Path) -> list[str]:
    if found.code not in (0, 3):
        return [f"{whole.command.name} does not go on: {found.lines[-1] if found.lines else found.code}"]
    return differences(whole.left, contents(folder / OUT))


def times(rng: random.Random, seconds: float) -> Iterator[Moment]:
    """Moments at random shares of some seconds."""
    while True:
        yield Moment(seconds=max(0.001, rng.random() * seconds))


def operations(rng: random.Random, most: int) -> Iterator[Moment]:
    """Moments before one of the first `most` operations on files."""
    while True:
        yield Moment(number=rng.randint(1, most))


def disturb_command(command: Command, place: Path, asked: argparse.Namespace, say: Callable[[Tally], None]) -> None:
    """Kill it, fill its disk, damage its files."""
    rng = random.Random(f"{asked.seed} {command.name}")
    whole = Undisturbed.of(command, place / f"{command.name}-whole")
    for kind, moments in (("time", times(rng, whole.seconds)), ("file", operations(rng, whole.operations))):
        tally = Tally(f"{command.name}_killed_at_a_{kind}")
        for times_killed, wrong in killed(whole, place / kind, moments, asked.kills):
            tally.add(times_killed, wrong)
        say(tally)
    if "disk" not in asked.skip:
        tally = Tally(f"{command.name}_disk_full")
        for wrong in disks(whole, place / "disk", [rng.random() for _ in range(SHARES)]):
            tally.add(1, wrong)
        say(tally)
    if "damage" not in asked.skip:
        say(_all_damage(whole, place))


def _all_damage(whole: Undisturbed, place: Path) -> Tally:
    tally = Tally(f"{whole.command.name}_damaged")
    for damage in (one for one in DAMAGES if one.command == whole.command.name):
        tally.add(1, damaged(damage, whole, place / "damage"))
    return tally


def disturb_study(ground: Path, place: Path, asked: argparse.Namespace, say: Callable[[Tally], None]) -> None:
    """Kill a study's server while readers answer, fill its disk, damage its files."""
    rng, tally = random.Random(f"{asked.seed} study"), Tally("study_killed_at_a_time")
    whole = fault_study.studied(ground, place / "study-whole", [])
    if wrong := whole.differences():
        raise SystemExit(f"the study does not run: {wrong}")
    for number in count():
        if tally.count >= asked.kills:
            break
        kills = [(rng.random() * whole.seconds, None) for _ in range(asked.kills - tally.count)]
        found = fault_study.studied(ground, place / f"study-{number}", kills)
        tally.add(found.kills, found.differences(whole))
    say(tally)
    if "disk" not in asked.skip:
        tally = Tally("study_disk_full")
        tally.add(1, _study_on_a_full_disk(ground, place, whole, rng.random()))
        say(tally)
    if "damage" not in asked.skip:
        shutil.copytree(place / "study-whole" / fault_study.STUDY, place / "study-done" / fault_study.STUDY)
        analyse = Command("study", ("study", "analyse", fault_study.STUDY, "--out", OUT))
        say(_all_damage(Undisturbed.of(analyse, place / "study-done"), place))


def _study_on_a_full_disk(ground: Path, place: Path, whole: fault_study.Round, share: float) -> list[str]:
    with small_disk(place / "study-disk", 64 << 20) as disk:
        full = (share * whole.seconds, lambda: fill(disk, 0))
        room = (whole.seconds / 4, lambda: (disk / "ballast").unlink())
        return fault_study.studied(ground, disk / "study", [full, room]).differences(whole)


def main() -> None:
    """Disturb each command, print what came of it, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="explain, segment, synthesise, train, phantoms, study; with commas")
    parser.add_argument("--skip", default="", help="disk, damage; with a comma")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    if "disk" not in asked.skip and not in_own_mounts():
        print("no disk of an own size can be mounted here (unshare --user --mount is refused): that is left out")
        asked.skip += ",disk"
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        tallies = disturb(Path(folder).resolve(), asked)
    sys.exit(1 if any(tally.wrong for tally in tallies) else 0)


def disturb(folder: Path, asked: argparse.Namespace) -> list[Tally]:
    """All that was asked for, told as it comes."""
    tallies: list[Tally] = []

    def say(tally: Tally) -> None:
        tallies.append(tally)
        print(f"{tally.name:32} {tally.count - tally.failed} of {tally.count}", *tally.wrong, sep="\n    ", flush=True)
        if asked.json:
            _write(asked.json, tallies)

    load()
    ground, place = folder / "ground", folder / "place"
    for part in (lay, fault_study.lay):
        if (found := ended(lambda: part(ground), ground, folder / "lay.log")).code:  # noqa: B023
            raise SystemExit(found.said)
    for name, command in commands(ground).items():
        if name in (asked.only or name).split(","):
            disturb_command(command, place, asked, say)
    if "study" in (asked.only or "study").split(","):
        disturb_study(ground, place, asked, say)
    return tallies


def _write(path: Path, tallies: list[Tally]) -> None:
    figures = {tally.name: tally.to_dict() for tally in tallies}
    words = shlex.join(["python", "bench/faults.py", *sys.argv[1:]])
    told = {"command": words, "version": metadata.version("counterscan"), "explainer": "all", "n": 0}
    told["n"] = sum(tally.count for tally in tallies)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**told, "metrics": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
