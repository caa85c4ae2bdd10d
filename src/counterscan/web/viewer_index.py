"""What the viewer knows of its folders: a row a case from cases.csv and scores.csv, to filter, sort and page through.

Explanations are never loaded for it, and nothing here needs torch. Labels and splits stand in each explanation.json;
they are read in the background, a few at a time.
"""

import csv
import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from counterscan.errors import CounterscanError

DEEP, MOST = 3, 500  # how far below a folder runs are looked for, and how many are taken
WORDS = ("name", "path", "patient", "already", "found", "found_at_scan", "slice")  # columns that hold no number
LARGEST_JSON = 1 << 26  # bytes of an explanation.json that is read at all
SOME = 64  # cases read in the background before others get a turn
STATES = ("found", "not found", "already there", "attributed")


@dataclass
class Row:
    """One explanation: whose, what became of it, and every number that is known of it."""

    run: str
    name: str
    key: str  # the same in all runs that explain the same scan
    patient: str = ""
    state: str = "attributed"
    slices: int = 1
    split: str = ""
    labels: tuple[str, ...] = ()
    numbers: dict[str, float] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        """What a browser gets."""
        facts = {name: getattr(self, name) for name in ("run", "name", "patient", "state", "slices", "split")}
        mark = hashlib.sha256(self.key.encode(errors="replace")).hexdigest()[:16]  # a path is nobody's business
        return {**facts, "key": mark, "labels": list(self.labels), "numbers": self.numbers}

    @property
    def changed(self) -> bool:
        """Is there a counterfactual?"""
        return any(name.startswith("p_after_") for name in self.numbers)


@dataclass(frozen=True)
class Query:
    """Which rows are asked for, and in which order; `run` empty means all, each case then once."""

    run: str = ""
    state: str = ""
    label: str = ""
    split: str = ""
    text: str = ""
    column: str = ""
    low: float = float("-inf")
    high: float = float("inf")
    sort: str = "name"
    down: bool = False

    def matches(self, row: Row) -> bool:
        """Is the row among those asked for?"""
        wanted = (
            (not self.run or row.run == self.run)
            and (not self.state or row.state == self.state)
            and (not self.label or self.label in row.labels)
            and (not self.split or row.split == self.split)
            and (not self.text or self.text.lower() in " ".join((row.name, row.patient, *row.labels)).lower())
        )
        if not wanted or not self.column:
            return wanted
        value = row.numbers.get(self.column)
        return value is not None and self.low <= value <= self.high


class Folder:
    """One run: its facts and rows, read again when its tables change."""

    def __init__(self, run: str, folder: Path, title: str = ""):
        self.run, self.folder, self.title = run, folder, title or folder.name
        self.rows: dict[str, Row] = {}
        self.waiting: list[Row] = []  # rows of which explanation.json has not been read
        self._seen: tuple = ()

    @property
    def facts(self) -> dict[str, Any]:
        """What run.json says; empty where it cannot be read."""
        return read_json(self.folder, "run.json")

    @cached_property
    def label(self) -> str:
        """What the method is called."""
        return str(self.facts.get("explainer") or self.title).partition("(")[0]

    @property
    def classifier(self) -> str:
        """What the classifier is called: a shipped name as it is, of a file or folder its own name."""
        name = str(self.facts.get("classifier", ""))
        return Path(name).name if Path(name).is_absolute() else name

    def refresh(self) -> bool:
        """Read the tables again if they changed; was there anything new?"""
        seen = tuple(_stamp(self.folder / name) for name in ("cases.csv", "scores.csv", "cases"))
        if seen == self._seen:
            return False
        self._seen = seen
        listed = [_row(self, line) for line in _lines(self.folder, "cases.csv")]
        rows = [row for row in listed if row] or [Row(self.run, name, name) for name in self._finished()]
        known, self.rows = self.rows, {row.name: row for row in rows}
        for name in self.rows.keys() & known.keys():
            self.rows[name].labels, self.rows[name].split = known[name].labels, known[name].split
        self._score()
        self.waiting = list(self.rows.values())
        return True

    def _finished(self) -> Iterator[str]:
        """Cases of a job that has not come to its end."""
        cases = inside(self.folder, "cases")
        if cases is not None and cases.is_dir():
            yield from sorted(entry.name for entry in os.scandir(cases) if plain(entry.name) and entry.is_dir())

    def _score(self) -> None:
        sums: dict[str, dict[str, list[float]]] = {}
        for line in _lines(self.folder, "scores.csv"):
            row = sums.setdefault(line.get("name") or "", {})
            for name, value in _numbers(line).items():
                row.setdefault(name, []).append(value)
        for name in sums.keys() & self.rows.keys():
            means = {key: sum(values) / len(values) for key, values in sums[name].items()}
            self.rows[name].numbers.update(means)

    def learn(self, row: Row) -> None:
        """Read what only explanation.json says of a case."""
        meta = read_json(self.folder, "cases", row.name, "explanation.json").get("meta", {})
        case = meta.get("case") if isinstance(meta, dict) else None
        if not isinstance(case, dict):
            return
        labels = case.get("labels")
        row.labels = tuple(str(k) for k, value in labels.items() if value) if isinstance(labels, dict) else ()
        row.split = str(case.get("split") or "")
        if row.key == row.name and isinstance(meta.get("row"), dict):  # of a job that has no table yet
            told = _row(self, {key: str(value) for key, value in meta["row"].items()})
            if told is not None and told.name == row.name:
                row.key, row.patient, row.state, row.slices = told.key, told.patient, told.state, told.slices
                row.numbers |= told.numbers


class Archive:
    """All runs below the folders that were named, and those that uploads add."""

    def __init__(self, folders: Sequence[Path]):
        found = [(top, path) for top in folders for path in _runs(top)]
        several = len(folders) > 1
        self.folders = {
            str(index): Folder(str(index), path, _title(top, path, several)) for index, (top, path) in enumerate(found)
        }
        self.private: dict[str, Folder] = {}  # of uploads: reached by whoever knows their name, in no list
        self.generation = 0
        self._answers: dict[tuple, list[Row]] = {}
        self._lock = threading.Lock()
        if folders and not found:
            raise CounterscanError(
                f"{folders[0]} holds no explanations; name the --out of `counterscan explain`, or a folder of several"
            )

    def refresh(self) -> None:
        """See what has changed on disk."""
        with self._lock:
            changed = [folder.refresh() for folder in self.folders.values()]  # each, not until the first
            if any(changed):
                self._renew()

    def folder(self, run: str) -> Folder | None:
        """The run of that name, also one of an upload."""
        return self.folders.get(run) or self.private.get(run)

    def row(self, run: str, name: str) -> Row | None:
        """One explanation, if there is such a one."""
        folder = self.folder(run)
        return folder.rows.get(name) if folder else None

    def beside(self, row: Row) -> list[Row]:
        """Every explanation of the same scan, the row among them."""
        if row.run in self.private:
            return [row]
        return self._by_key.get(row.key, [row])

    @property
    def _by_key(self) -> dict[str, list[Row]]:
        generation, known = self._keys
        if generation != self.generation:
            known = {}
            for folder in self.folders.values():
                for row in folder.rows.values():
                    known.setdefault(row.key, []).append(row)
            self._keys = (self.generation, known)
        return known

    _keys: tuple[int, dict[str, list[Row]]] = (-1, {})

    def ask(self, query: Query) -> list[Row]:
        """The rows that match, in order; of several methods of one case the first that does."""
        key = (self.generation, query)
        found = self._answers.get(key)
        if found is None:
            if len(self._answers) > 32:
                self._answers.clear()
            found = self._answers[key] = self._sorted(query)
        return found

    def _sorted(self, query: Query) -> list[Row]:
        rows = [row for folder in list(self.folders.values()) for row in list(folder.rows.values())]
        rows = sorted(filter(query.matches, rows), key=lambda row: not row.changed)  # counterfactuals lead
        matching = {row.key if not query.run else row.name: row for row in reversed(rows)}  # the first of each stays
        if query.sort == "name":
            return sorted(matching.values(), key=lambda row: (_natural(row.name), row.run), reverse=query.down)
        known = [row for row in matching.values() if query.sort in row.numbers]
        known.sort(key=lambda row: (row.numbers[query.sort], _natural(row.name)), reverse=query.down)
        unknown = sorted(
            (row for row in matching.values() if query.sort not in row.numbers), key=lambda r: _natural(r.name)
        )
        return known + unknown  # unknown last, whichever way

    def read_on(self, stop: threading.Event) -> None:
        """Read what tables do not say, until all is known; for a thread of its own."""
        while not stop.wait(0.01):
            waiting = next((folder for folder in self.folders.values() if folder.waiting), None)
            if waiting is None:
                stop.wait(0.5)
                continue
            with self._lock:
                some, waiting.waiting = waiting.waiting[:SOME], waiting.waiting[SOME:]
            for row in some:
                waiting.learn(row)
                time.sleep(0)
            if not waiting.waiting:
                self._renew()

    def _renew(self) -> None:
        self.generation += 1
        self._answers.clear()

    def told(self) -> dict[str, Any]:
        """What there is to choose from."""
        rows = [row for folder in self.folders.values() for row in folder.rows.values()]
        left = sum(len(folder.waiting) for folder in self.folders.values())
        return {
            "generation": self.generation,
            "known": 1 - left / len(rows) if rows else 1.0,
            "cases": len({row.key for row in rows}),
            "runs": [_told(folder) for folder in self.folders.values()],
            "states": {state: count for state in STATES if (count := sum(row.state == state for row in rows))},
            "labels": _counted(label for row in rows for label in row.labels),
            "splits": _counted(row.split for row in rows if row.split),
            "columns": list(dict.fromkeys(name for row in rows for name in row.numbers)),
        }


def inside(folder: Path, *parts: str) -> Path | None:
    """The path below `folder`, which has no links in it; None for a link, and for a name that leads elsewhere."""
    path = folder
    for part in parts:
        if not plain(part):
            return None
        path = path / part
        if path.is_symlink():
            return None
    return path


def plain(name: str) -> bool:
    """Is it the name of one file or folder, and of nothing that is half-written or hidden?"""
    return bool(name) and not name.startswith(".") and not any(mark in name for mark in ("/", "\\", "\0"))


def read_json(folder: Path, *parts: str) -> dict[str, Any]:
    """A JSON object below `folder`; empty where there is none that can be read."""
    path = inside(folder, *parts)
    try:
        if path is None or path.stat().st_size > LARGEST_JSON:
            return {}
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _runs(top: Path) -> Iterator[Path]:
    """The folders with explanations in `top`, which may be one itself; links are not followed."""
    waiting, left = [(top.resolve(), 0)], MOST
    while waiting and left:
        folder, depth = waiting.pop(0)
        facts = read_json(folder, "run.json")
        if facts:
            if facts.get("kind", "explain") == "explain":
                left -= 1
                yield folder
            continue
        if depth < DEEP:
            waiting += [(path, depth + 1) for path in _below(folder)]


def _below(folder: Path) -> list[Path]:
    try:
        return sorted(
            Path(e.path) for e in os.scandir(folder) if e.is_dir(follow_symlinks=False) and not e.name.startswith(".")
        )
    except OSError:
        return []


def _title(top: Path, path: Path, several: bool) -> str:
    below = path.relative_to(top.resolve()).as_posix()
    return path.name if below == "." else f"{top.resolve().name}/{below}" if several else below


def _told(folder: Folder) -> dict[str, Any]:
    facts = folder.facts
    kept = {name: str(facts.get(name, "")) for name in ("explainer", "target", "version")}
    return {**kept, "run": folder.run, "title": folder.title, "label": folder.label, "classifier": folder.classifier,
            "cases": len(folder.rows)}  # fmt: skip


def _row(folder: Folder, line: dict[str, str]) -> Row | None:
    name = line.get("name") or ""
    if not plain(name):
        return None
    found = line.get("found")
    state = "already there" if line.get("already") == "True" else "found" if found == "True" else "not found"
    numbers = _numbers(line)
    return Row(
        run=folder.run,
        name=name,
        key=line.get("path") or name,
        patient=line.get("patient") or "",
        state=state if found or state == "already there" else "attributed",
        slices=max(1, int(numbers.pop("slices", 1))),
        numbers=numbers,
    )


def _numbers(line: dict[str, str]) -> dict[str, float]:
    found = {}
    for key, text in line.items():
        if key and text and key not in WORDS:
            try:
                value = float(text)
            except (ValueError, TypeError):
                continue
            if value - value == 0:  # finite, as JSON wants it
                found[key] = value
    return found


def _lines(folder: Path, name: str) -> Iterator[dict[str, str]]:
    path = inside(folder, name)
    try:
        if path is not None and path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                yield from csv.DictReader(file)
    except (OSError, ValueError, csv.Error):
        return


def _stamp(path: Path) -> tuple[int, int]:
    try:
        facts = path.lstat()
    except OSError:
        return (0, 0)
    return (facts.st_mtime_ns, facts.st_size)


def _counted(values: Iterator[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return dict(sorted(counts.items()))


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Two before ten."""
    parts = [part for part in re.split(r"([0-9]+)", name.lower()) if part]
    return [(0, int(part), "") if part[0] in "0123456789" else (1, 0, part) for part in parts]
