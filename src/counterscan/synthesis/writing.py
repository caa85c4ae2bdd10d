"""An archive of made scans, written as it is made: killed at any moment and run again it ends as if it never stopped.

Scans are made in chunks that depend on the seed, on their place and on the scans before them, and on nothing else.
Several may be made at once, before all that come earlier are known: a chunk is taken in its turn, if what has become
known since does not matter to it (none of its scans repeats one of those), else it is made anew. So an archive is the
same whoever makes it. A chunk counts once its note is there, which comes after its images; what a killed run leaves
beside that is removed.
"""

import hashlib
import io
import json
import os
import re
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from counterscan.core import Card
from counterscan.data.dataset import write_dataset_file
from counterscan.data.files import write_whole
from counterscan.data.sums import NAME as SUMS
from counterscan.data.sums import damaged, sums_of, write_sums
from counterscan.data.table import text_of
from counterscan.engine.local import HERE
from counterscan.engine.sharding import NOTES as PARTS
from counterscan.engine.sharding import WHOLE, Notes, Shard, sweep_beside, write_alone
from counterscan.engine.work import Engine
from counterscan.errors import CounterscanError
from counterscan.kept import read_json
from counterscan.progress import progress
from counterscan.synthesis.chunks import Chunk, Chunks, Order, work_of
from counterscan.synthesis.gate import joined
from counterscan.synthesis.making import Making
from counterscan.synthesis.specs import Request, order
from counterscan.synthesis.storage import Storage

CHUNK = 32  # scans made together
HOPELESS = 16  # of one request that failed, with none that did not, before no more of it are tried
NOTES, NOTE = ".chunks", "synthesis.json"
OURS = re.compile(r"\d{6,}\.(png|dcm)(\.part)?")


@dataclass(frozen=True)
class Archive:
    """What is to be written into `out`: `requests`, by `making`, kept in `storage`, all from `seed`.

    `card` is the classifier's. `facts` are all that decides what comes out, and stay in the folder. `again` makes the
    same archive in another process, with networks of its own; without it the archive is pickled.
    """

    out: Path
    requests: tuple[Request, ...]
    making: Making
    storage: Storage
    card: Card
    seed: int = 0
    facts: dict[str, Any] = field(default_factory=dict, repr=False)
    again: Callable[[], "Archive"] | None = field(default=None, repr=False, compare=False)

    @property
    def exclusive(self) -> bool:
        """Does each scan show one class?"""
        return self.card.output != "multilabel"

    def chunks(self) -> list[list[int]]:
        """The request that each scan is for, chunk by chunk."""
        places = order(self.requests)
        return [places[start : start + CHUNK] for start in range(0, len(places), CHUNK)]


def write_archive(archive: Archive, engine: Engine = HERE, shard: Shard = WHOLE) -> dict[str, Any]:
    """Make and write what is missing, then the manifest; answers what `summary.json` holds.

    One part (`shard`) of an archive makes its own chunks; the part that finishes last, or a run of the whole, takes
    them in and writes the manifest. Until then the answer holds which parts are `missing`.
    Raises CounterscanError where the folder holds something else, ScanError where there is no room.
    """
    out = archive.out
    _claim(out, archive.facts)
    if (out / "labels.csv").is_file():
        return _done(out)
    desk = _Desk(archive, shard)
    desk.sweep()
    results = engine(work_of(archive), desk.take)
    with closing(results), progress("synthesise", desk.total, "scans") as tell:
        desk.admit()
        for order, chunk in results:
            desk.put(order.number, chunk)
            tell(desk.count)
    with Notes(out).alone(shard) as mine:
        if (out / "labels.csv").is_file():
            return _done(out)
        missing = desk.missing()
        if missing or not mine:
            return {"shard": str(shard), "missing": [str(one) for one in missing]}
        desk.admit(everybodys=True)
        return _finish(archive, desk.done)


def _done(out: Path) -> dict[str, Any]:
    """What came of an archive that is whole; CounterscanError where a file of it is not as it was written."""
    if (out / SUMS).is_file() and (name := damaged(out / SUMS)):
        raise CounterscanError(
            f"{out / name} is not as it was written; restore it from a copy, or delete labels.csv to make all again"
        )
    _forget_notes(out)
    return read_json(out / "summary.json")


def _forget_notes(out: Path) -> None:
    """Remove what was noted on the way, once the archive is whole; a kill at the very end leaves it."""
    for notes in (NOTES, PARTS):
        shutil.rmtree(out / notes, ignore_errors=True)
    sweep_beside(out / NOTE)


def _claim(out: Path, facts: dict[str, Any]) -> None:
    """Note what the folder is for, or refuse it when it holds something else; what never finished a chunk does not."""
    note, text = out / NOTE, json.dumps(facts, indent=1) + "\n"
    filled = out.exists() and (not out.is_dir() or any(not one.name.startswith(NOTE) for one in out.iterdir()))
    if note.is_file():  # asked after that, for another part may just have begun
        if (out / "labels.csv").is_file() or any((out / NOTES).glob("*.npz")):
            _check_same(note, json.loads(text))
            return
    elif filled:
        raise CounterscanError(f"{out} holds other files and no archive; give an --out that is new or empty")
    write_alone(note, text.encode())


def _check_same(note: Path, wanted: dict[str, Any]) -> None:
    """Refuse to go on with an archive that was asked for in other words, or that nobody can tell from one."""
    before = read_json(note, "restore it from a copy, or delete that folder to begin anew")
    other = [name for name in wanted if name != "command" and before.get(name) != wanted[name]]
    if other:
        raise CounterscanError(
            f"{note.parent} holds another archive ({other[0]} was {str(before.get(other[0]))[:80]}, now "
            f"{str(wanted[other[0]])[:80]}); give another --out, or delete that folder"
        )


@dataclass
class _Desk:
    """Which chunks are to be made, are `made`, and are `done`: taken in, in their order."""

    archive: Archive
    shard: Shard
    done: list[Chunk] = field(default_factory=list)
    made: dict[int, Chunk] = field(default_factory=dict)
    known: Tensor = field(default_factory=lambda: torch.zeros(0, 0))

    def __post_init__(self) -> None:
        self.asked = self.archive.chunks()
        for chunk in _notes(self.archive.out, len(self.asked)):
            self._append(chunk)
        self._look()
        mine = [number for number in range(len(self.done), len(self.asked)) if number in self.shard]
        self.queue = deque(number for number in mine if number not in self.made)

    @property
    def total(self) -> int:
        """How many scans are this part's."""
        return sum(len(places) for number, places in enumerate(self.asked) if number in self.shard)

    @property
    def count(self) -> int:
        """How many of them were made, or missed."""
        chunks = {**dict(enumerate(self.done)), **self.made}
        return sum(len(one.rows) + len(one.missed) for number, one in chunks.items() if number in self.shard)

    def take(self) -> Order | None:
        """The next chunk to be made, with what is known by now."""
        return self._order(self.queue.popleft()) if self.queue else None

    def put(self, number: int, chunk: Chunk) -> None:
        """Keep a chunk that was made, until its turn has come."""
        chunk.save(_path(self.archive.out, number, made=True))
        self.made[number] = chunk
        self.admit()

    def admit(self, everybodys: bool = False) -> None:
        """Take in the chunks whose turn has come; not those of a part, for which others are waited for."""
        while (number := len(self.done)) in self.made and (self.shard.whole or everybodys):
            chunk, path = self.made.pop(number), _path(self.archive.out, number)
            if not self._holds(number, chunk):
                chunk = Chunks(self.archive)(self._order(number))
                chunk.save(_path(self.archive.out, number, made=True))
                self._sweep(number, chunk)
            os.replace(_path(self.archive.out, number, made=True), path)
            self._append(chunk)

    def missing(self) -> tuple[Shard, ...]:
        """The parts that have not made all their chunks."""
        self._look()
        left = [number for number in range(len(self.done), len(self.asked)) if number not in self.made]
        return tuple(one for one in self.shard.all if any(number in one for number in left))

    def sweep(self) -> None:
        """Remove the images that a killed run left of chunks that it did not finish."""
        chunks = {**dict(enumerate(self.done)), **self.made}
        known = {Path(row["path"]).name for chunk in chunks.values() for row in chunk.rows}
        for path in (self.archive.out / "images").glob("*"):
            if OURS.fullmatch(path.name) and path.name not in known and _chunk_of(path) in self.shard:
                path.unlink()

    def _look(self) -> None:
        """See what was made, here or elsewhere."""
        for number in range(len(self.done), len(self.asked)):
            path = _path(self.archive.out, number, made=True)
            if number not in self.made and path.is_file() and (chunk := Chunk.load(path, self.archive.out)):
                self.made[number] = chunk

    def _append(self, chunk: Chunk) -> None:
        self.done.append(chunk)
        self.known = joined(self.known, chunk.features)

    def _order(self, number: int) -> Order:
        """All that is known is told; of what was given up a guess, unless all that comes before is done."""
        told = self.done if number == len(self.done) else [*self.done, *self.made.values()]
        places = tuple(self.asked[number])
        return Order(number, number * CHUNK, places, frozenset(_hopeless(told)), self.known, len(self.done))

    def _holds(self, number: int, chunk: Chunk) -> bool:
        """Would the chunk have become the same, had all that comes before been known?"""
        labels = {self.archive.requests[place].labels for place in self.asked[number]}
        if set(chunk.given_up) != _hopeless(self.done) & labels:
            return False
        since = self.known[sum(len(one.rows) for one in self.done[: chunk.upto]) :]
        return not any(self.archive.making.gate.repeats(one, since) for one in chunk.features)

    def _sweep(self, number: int, chunk: Chunk) -> None:
        """Remove images that were taken before the chunk was made anew, and are not now."""
        known = {Path(row["path"]).name for row in chunk.rows}
        for index in range(number * CHUNK, number * CHUNK + len(self.asked[number])):
            for path in (self.archive.out / "images").glob(f"{index:06d}.*"):
                if path.name not in known:
                    path.unlink()


def _notes(out: Path, number: int) -> Iterator[Chunk]:
    """The chunks that are done, up to the first that is not: what comes later depends on it."""
    for path in (_path(out, chunk) for chunk in range(number)):
        chunk = Chunk.load(path, out) if path.is_file() else None
        if chunk is None:
            return
        yield chunk


def _path(out: Path, number: int, made: bool = False) -> Path:
    """Where the note of a chunk is: of one that is only `made`, or of one that is done."""
    return out / NOTES / f"{'made-' * made}{number:08d}.npz"


def _chunk_of(image: Path) -> int:
    return int(image.name.partition(".")[0]) // CHUNK


def _hopeless(done: Sequence[Chunk]) -> set[str]:
    """Requests that failed `HOPELESS` times and never did not."""
    failed = Counter(one["asked"] for chunk in done for one in chunk.missed)
    made = {row["asked"] for chunk in done for row in chunk.rows}
    return {labels for labels, times in failed.items() if times >= HOPELESS and labels not in made}


def _finish(archive: Archive, done: Sequence[Chunk]) -> dict[str, Any]:
    """Write what is of the whole archive; the manifest comes last."""
    out = archive.out
    rows = [row for chunk in done for row in chunk.rows]
    told = summary(archive, done)
    if not rows:
        raise CounterscanError(f"not one scan was taken; {told['failed'][0]}")
    rows = [{**row, "latent": number} for number, row in enumerate(rows)]
    classes = archive.card.classes
    write_dataset_file(out / "dataset.toml", archive.storage.dataset_file(classes, archive.facts.get("command", "")))
    latents = io.BytesIO()
    np.save(latents, torch.cat([chunk.latents for chunk in done if len(chunk.latents)]).numpy())
    write_whole(out / "latents.npy", latents.getvalue())
    write_whole(out / "summary.json", (json.dumps(told, indent=1) + "\n").encode())
    sums = sums_of(out, (out / name for name in ("dataset.toml", "latents.npy", "summary.json")))
    content = text_of(rows).encode()
    sums |= {"labels.csv": hashlib.sha256(content).hexdigest()}
    write_sums(out / SUMS, sums | {name: told for chunk in done for name, told in chunk.sums.items()})
    write_whole(out / "labels.csv", content)
    _forget_notes(out)
    return told


def summary(archive: Archive, done: Sequence[Chunk]) -> dict[str, Any]:
    """What was asked for and what came of it, for each request and in all; `failed` has a line for each that lacks."""
    rows = [row for chunk in done for row in chunk.rows]
    missed = [one for chunk in done for one in chunk.missed]
    requests = [_told(request.labels, request.count, rows, missed) for request in archive.requests]
    failed = [one.pop("failed") for one in requests if "failed" in one]
    total = {"asked": sum(one["asked"] for one in requests), "written": len(rows)}
    return {**total, "requests": requests, "failed": failed}


def _told(labels: str, count: int, rows: Sequence[dict], missed: Sequence[dict]) -> dict[str, Any]:
    good, bad = ([one for one in some if one["asked"] == labels] for some in (rows, missed))
    tries = sum(one["tries"] for one in (*good, *bad))
    refusals = Counter(why for one in good for why in one["refusals"].split())
    refusals.update(why for one in bad for why in one["refusals"])
    told: dict[str, Any] = {"labels": labels, "asked": count, "written": len(good), "tries": tries}
    told["refused"] = dict(refusals)
    if bad:
        nearest = max((one for one in bad if one["tries"]), key=lambda one: one["score"])
        reasons = ", ".join(f"{times} by {why}" for why, times in refusals.most_common())
        told["failed"] = (
            f"{labels}: {len(bad)} of {count} not reached in {tries} tries (refused {reasons}); "
            f"the nearest was answered {nearest['nearest']}"
        )
    return told
