"""Explain many scans: resumable, shared out, each case on disk whole or not at all, a bad one never the end of all.

A job can be killed at any moment and run again. Workers write cases; what is of the whole job (tables, the page) is
written once, by this process, in the manifest's order.
"""

import json
import shutil
from collections import deque
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from counterscan.data.manifest import Case
from counterscan.engine.cases import Cases, Part, Span, work_of
from counterscan.engine.job import Job, Outcome
from counterscan.engine.local import HERE
from counterscan.engine.sharding import NOTES, WHOLE, Notes, Shard, sweep_beside, write_alone
from counterscan.engine.work import Engine
from counterscan.errors import CounterscanError, ScanError
from counterscan.kept import read_json
from counterscan.outputs import CaseFolders, MaskFiles, lesion_rows, write_table
from counterscan.progress import progress

Output = CaseFolders | MaskFiles


def run(job: Job, engine: Engine = HERE, shard: Shard = WHOLE) -> Outcome:
    """Explain what is not yet explained, then write cases.csv, failed.csv and, for `explain`, the page index.html.

    Where this is one part of a job (`shard`), the tables are written by the part that finishes last, or by a run of the
    whole. Raises CounterscanError where the folder holds another job, or where every image fails.
    """
    claim(job.out, job.describe())
    cases = Cases(job)
    if shard.whole:
        cases.output.sweep()
    sheet = _Sheet(job, cases.output, shard)
    results = engine(work_of(cases), sheet.take)
    with closing(results), progress("segment" if job.masks_only else "explain", sheet.total, "cases") as tell:
        tell(sheet.done)
        for _, part in results:
            sheet.put(part)
            tell(sheet.done)
    if not shard.whole:
        return _shared(job, cases.output, sheet.outcome(), shard)
    outcome = _finished(job, cases.output, sheet.outcome())
    _forget_parts(job.out)
    return outcome


def claim(out: Path, facts: dict[str, Any]) -> None:
    """Write run.json into `out`, or refuse a folder that holds something else; a job that goes on finds its own.

    A job that never finished a case (its first words were wrong) holds nothing. Parts of a job may come at once.
    """
    path = out / "run.json"
    filled = out.exists() and (not out.is_dir() or any(not one.name.startswith(path.name) for one in out.iterdir()))
    if filled and not path.exists():  # in this order, for another part may just have begun
        raise CounterscanError(f"{out} holds other files and no job; give an --out that is new or empty")
    if path.exists() and any(not case.name.startswith(".") for case in out.glob("cases/*")):
        before = read_json(path, "restore it from a copy, or delete that folder to begin anew")
        free = {"command", "version", "cases"}
        other = [name for name, value in facts.items() if name not in free and before.get(name) != value]
        if other:
            raise CounterscanError(
                f"{out} holds another job ({other[0]} was {before.get(other[0])}, now {facts[other[0]]}); "
                "give another --out, or delete that folder"
            )
    write_alone(path, (json.dumps(facts, indent=1) + "\n").encode())


@dataclass
class _Sheet:
    """What is to be done of a job, and what is; spans that are finished already are only read."""

    job: Job
    output: Output
    shard: Shard
    queue: deque[Span] = field(default_factory=deque)
    parts: dict[int, Part] = field(default_factory=dict)
    open: set[int] = field(default_factory=set)
    total: int = 0
    hopeful: bool = False

    def __post_init__(self) -> None:
        count, batch = len(self.job.manifest), self.job.batch
        spans = [(start, min(start + batch, count)) for start in range(0, count, batch)]
        for span in (span for number, span in enumerate(spans) if number in self.shard):
            self.total += span[1] - span[0]
            rows = [self.output.finished(case) for case in self.job.manifest.cases[slice(*span)]]
            known = [row for row in rows if row is not None]
            if len(known) == len(rows):
                self.parts[span[0]] = Part(span, known)
            else:
                self.queue.append(span)
                self.open.add(span[0])

    @property
    def done(self) -> int:
        """How many cases are finished, or failed."""
        return sum(len(part.rows) + len(part.failed) for part in self.parts.values())

    def take(self) -> Span | None:
        """The next span, if there is one at present."""
        return self.queue.popleft() if self.queue else None

    def put(self, part: Part) -> None:
        """Take in what became of a span; raises where nothing has come of the job, and another image would not help."""
        start, stop = part.span
        self.open.remove(start)
        self.open.update(span[0] for span in part.rest)
        self.queue.extendleft(reversed(part.rest))
        if stop > start:
            self.parts[start] = part
        for name, count in part.counts.items():
            setattr(self.job.classifier, name, getattr(self.job.classifier, name) + count)
        self._judge()

    def _judge(self) -> None:
        """In the manifest's order, as if one process had done it: does a failed batch come before any success?"""
        first_open = min(self.open, default=len(self.job.manifest))
        for start in sorted(self.parts) if not self.hopeful else ():
            part = self.parts[start]
            if start >= first_open or part.rows:
                self.hopeful = start < first_open
                return
            if part.trouble is not None:
                raise part.trouble.error()

    def outcome(self) -> Outcome:
        """Rows and failures in the manifest's order."""
        parts = [self.parts[start] for start in sorted(self.parts)]
        failed = {name: line for part in parts for name, line in part.failed.items()}
        return Outcome([row for part in parts for row in part.rows], _ordered(self.job, failed))


def _ordered(job: Job, failed: dict[str, tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    return [failed[case.name] for case in job.manifest.cases if case.name in failed]


def _shared(job: Job, output: Output, outcome: Outcome, shard: Shard) -> Outcome:
    """Note that this part is done; if no other one is missing, what became of the whole."""
    notes = Notes(job.out)
    facts = {"cases": len(job.manifest)}
    notes.write(shard, {**facts, "failed": outcome.failed})
    if missing := notes.missing(shard, **facts):
        return replace(outcome, missing=missing, partly=True)
    with notes.alone(shard) as mine:
        if not mine:
            return replace(outcome, partly=True)
        failed = {name: (path, name, error) for note in notes.read(shard) for path, name, error in note["failed"]}
        rows = [row for case in job.manifest.cases if (row := _row(output, case, failed)) is not None]
        return _finished(job, output, Outcome(rows, _ordered(job, failed)))


def _row(output: Output, case: Case, failed: dict[str, Any]) -> dict[str, Any] | None:
    return None if case.name in failed else output.finished(case)


def _finished(job: Job, output: Output, outcome: Outcome) -> Outcome:
    """Write what is of the whole job."""
    rows, failed = outcome.rows, outcome.failed
    write_table(job.out / "cases.csv", rows)
    write_table(job.out / "lesions.csv", list(lesion_rows(output, rows)))
    write_table(job.out / "failed.csv", [dict(zip(("path", "name", "error"), line, strict=True)) for line in failed])
    if not rows:
        _, _, first = failed[0]
        raise ScanError(
            first + (f" (all {len(failed)} images failed, see {job.out / 'failed.csv'})" * (len(failed) > 1))
        )
    if not job.masks_only:
        from counterscan.report import write_page

        write_page(job.out)
    return outcome


def _forget_parts(out: Path) -> None:
    """Remove what parts of a job noted, and what those that were killed left, once the whole is done."""
    shutil.rmtree(out / NOTES, ignore_errors=True)
    sweep_beside(out / "run.json")
