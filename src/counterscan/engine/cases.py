"""The work of a batch job: a span of the manifest's rows explained in batches, each case on disk whole or not at all.

A span's cases are grouped in the same batches whatever is done already and whoever does it, so that a job that was
interrupted, or shared out, ends with the results of one that was not.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from counterscan.classifiers.remembered import Remembered
from counterscan.core import Classifier, Explanation
from counterscan.data.manifest import Case
from counterscan.data.opening import check_kind, open_case, whole
from counterscan.data.scans import Scan
from counterscan.engine.job import Job
from counterscan.engine.work import Trouble, Work, elsewhere, one_line
from counterscan.errors import CounterscanError, NeedsGradients, ScanError, TargetError
from counterscan.metrics.lesions import Grid
from counterscan.outputs import CaseFolders, MaskFiles
from counterscan.volumes.stream import grid_of, joined

HOPELESS = (TargetError, NeedsGradients)  # errors that no other image would mend
COUNTS = ("asked", "recalled", "repeated", "changed")  # of a classifier that remembers
Span = tuple[int, int]  # the first row of the manifest that is meant, and the first that is not


@dataclass
class Part:
    """What became of a span: a row per finished case, (path, name, error) per failed one.

    `rest` are spans of it that nothing was done about: a volume is worked on by itself, by whoever is free. `trouble`
    is there where a whole batch failed, and nothing in the span did not. `counts` says what the classifier was asked,
    if that was elsewhere.
    """

    span: Span
    rows: list[dict[str, Any]] = field(default_factory=list)
    failed: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    rest: tuple[Span, ...] = ()
    trouble: Trouble | None = None
    counts: dict[str, int] = field(default_factory=dict)

    def fail(self, case: Case, error: BaseException) -> None:
        """Note that a case failed, and why."""
        self.failed[case.name] = (str(case.path), case.name, one_line(error))


@dataclass(frozen=True)
class Item:
    """One case on its way: its scan once it has been read, its row once it is finished."""

    case: Case
    slices: int
    scan: Scan | None = None
    row: dict[str, Any] | None = None
    grid: Grid | None = None

    @property
    def volume(self) -> bool:
        """Is it a stack of slices, which is explained by itself?"""
        return self.grid is not None or (self.row is not None and "lesions" in self.row)


@dataclass(frozen=True)
class Cases:
    """Explains what is not yet explained of a span; `away` from the process that tells the user."""

    job: Job
    away: bool = False

    @property
    def output(self) -> CaseFolders | MaskFiles:
        """Where results go."""
        return (MaskFiles if self.job.masks_only else CaseFolders)(self.job.out)

    def __call__(self, span: Span) -> Part:
        part, before = Part(span), _counts(self.job.classifier)
        for group in self._groups(part):
            self._finish(group, part)
        if self.away:
            part.counts = {name: count - before[name] for name, count in _counts(self.job.classifier).items()}
        return replace(part, trouble=None) if part.rows else part

    def _groups(self, part: Part) -> Iterator[list[Item]]:
        """Cases in their order in groups of at least `batch` slices; a volume alone."""
        group: list[Item] = []
        start, stop = part.span
        for number in range(start, stop):
            case = self.job.manifest.cases[number]
            try:
                item = self._item(case)
            except (CounterscanError, OSError) as error:
                part.fail(case, error)
                continue
            if item.volume and stop - start > 1:
                part.rest = tuple(span for span in ((number, number + 1), (number + 1, stop)) if span[0] < span[1])
                part.span = (start, number)
                break
            group.append(item)
            if item.volume or sum(item.slices for item in group) >= self.job.batch:
                yield group
                group = []
        if group:
            yield group

    def _item(self, case: Case) -> Item:
        row = self.output.finished(case)
        if row is not None:
            return Item(case, row["slices"], row=row)
        scan = self._read(case)
        return Item(case, len(scan), scan, grid=grid_of(scan, self.job.shape))

    def _finish(self, group: list[Item], part: Part) -> None:
        """The rows of a group, its unfinished cases explained and written; a case that fails alone fails."""
        if all(item.row for item in group):
            part.rows += [item.row for item in group if item.row]
        elif group[0].grid is not None:
            self._finish_volume(group[0], part)
        else:
            group = [item if item.scan else replace(item, scan=self._read(item.case)) for item in group]
            self._write(group, self._explained(group, part), part)

    def _explained(self, group: list[Item], part: Part) -> list[Explanation | None]:
        try:
            return list(self._explain(group))
        except HOPELESS:
            raise
        except CounterscanError as error:  # some image is bad: find out which
            part.trouble = part.trouble or Trouble.of(error)
            if len(group) > 1:
                return [self._explain_alone(item, part) for item in group]
            part.fail(group[0].case, error)
            return [None]

    def _explain_alone(self, item: Item, part: Part) -> Explanation | None:
        try:
            return self._explain([item])[0]
        except CounterscanError as error:
            part.fail(item.case, error)
            return None

    def _write(self, group: list[Item], explained: list[Explanation | None], part: Part) -> None:
        for item, explanation in zip(group, explained, strict=True):
            if item.row or explanation is None:
                part.rows += [item.row] if item.row else []
                continue
            assert item.scan is not None, "a group that is explained has been read"
            try:
                part.rows.append(self.output.write(self.job, item.case, item.scan, explanation))
            except (CounterscanError, OSError) as error:
                part.fail(item.case, error)

    def _finish_volume(self, item: Item, part: Part) -> None:
        """The row of a volume that is explained and written now."""
        assert item.scan is not None and item.grid is not None, "an unfinished volume has been opened"  # noqa: PT018
        try:
            part.rows.append(self.output.write_volume(self.job, item.case, item.scan, item.grid))
        except HOPELESS:
            raise
        except (CounterscanError, OSError) as error:
            if not isinstance(error, ScanError | OSError):
                part.trouble = Trouble.of(error)
            part.fail(item.case, error)

    def _explain(self, group: list[Item]) -> list[Explanation]:
        """One explanation per case of the group, whose slices go through the explainer `batch` at a time."""
        job, scans = self.job, [item.scan for item in group if item.scan]
        images, classifier = torch.cat([scan.images(job.shape) for scan in scans]), job.asked
        parts_of = [job.explainer(classifier, chunk, job.target, seed=job.seed) for chunk in images.split(job.batch)]
        explained = joined(parts_of)
        parts, start = [], 0
        for item in group:
            part = explained.select(slice(start, start + item.slices))
            share = item.slices / len(images)
            cost = {"seconds": explained.meta["seconds"] * share, "queries": round(explained.meta["queries"] * share)}
            parts.append(replace(part, meta={**part.meta, **cost}))
            start += item.slices
        return parts

    def _read(self, case: Case) -> Scan:
        """The scan with the window that it is worked on in: asked for, else the card's in its unit, else its own.

        The pixels of a volume stay in its files.
        """
        scan = open_case(case)
        check_kind(scan, self.job.classifier.card)
        scan = replace(scan, window=self.job.window or scan.window_for(self.job.wanted))
        return scan if grid_of(scan, self.job.shape) else whole(scan)


def work_of(cases: Cases) -> Work[Span, Part]:
    """The same work for any engine."""
    job = cases.job
    return Work(cases, elsewhere(partial(Cases, away=True), job.again, job), lambda span: _told(job, span))


def _told(job: Job, span: Span) -> str:
    names = [case.path.name for case in job.manifest.cases[slice(*span)]]
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]} ({len(names)} cases)"


def _counts(classifier: Classifier) -> dict[str, int]:
    return {name: getattr(classifier, name) for name in COUNTS} if isinstance(classifier, Remembered) else {}
