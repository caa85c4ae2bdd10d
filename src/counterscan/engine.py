"""Explain many scans: in batches, resumable, each case on disk whole or not at all, a bad one never the end of all.

A job can be killed at any moment and run again. Cases are grouped in the same batches whatever is done already, so a
job that was interrupted ends with the results of one that was not.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from counterscan.classifiers.wrappers import Fitted
from counterscan.core import Classifier, Explanation, Target
from counterscan.data.files import write_whole
from counterscan.data.manifest import Case, Manifest
from counterscan.data.opening import check_kind, open_case, whole
from counterscan.data.scans import Scan
from counterscan.data.window import Window
from counterscan.errors import CounterscanError, NeedsGradients, ScanError, TargetError
from counterscan.explainers.base import Explainer
from counterscan.metrics.lesions import Grid
from counterscan.metrics.masks import MaskRule
from counterscan.outputs import CaseFolders, MaskFiles, lesion_rows, write_table
from counterscan.progress import progress
from counterscan.volumes.stream import grid_of, joined

HOPELESS = (TargetError, NeedsGradients)  # errors that no other image would mend


@dataclass(frozen=True)
class Job:
    """What is asked for: every case of `manifest` explained into the folder `out`.

    `rule` makes masks of maps (None: the explainer's own, see `MaskRule.of`); `window` overrides what the cards and the
    scans say; `batch` slices go through the explainer at once; `masks_only` writes masks and nothing else. `names` adds
    what a person called things (classifier, prior, manifest, command) to run.json.
    """

    manifest: Manifest
    classifier: Classifier
    explainer: Explainer
    target: Target
    out: Path
    judge: Classifier | None = None
    window: Window | None = None
    rule: MaskRule | None = None
    seed: int = 0
    batch: int = 8
    masks_only: bool = False
    names: dict[str, str] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """Where the work is done: the prior's shape where the explainer has a prior, else the classifier's."""
        priors = [getattr(self.explainer, item.name) for item in fields(self.explainer)]  # type: ignore[arg-type]
        shapes = [prior.card.shape for prior in priors if hasattr(prior, "card") and prior.card.kind != "classifier"]
        return tuple(shapes[0] if shapes else self.classifier.card.shape)

    @property
    def asked(self) -> Classifier:
        """The classifier for images of the working shape."""
        same = tuple(self.classifier.card.shape) == self.shape
        return self.classifier if same else Fitted(self.classifier, self.shape)

    @property
    def wanted(self) -> Window | None:
        """The window that the cards ask for, where they ask for one."""
        return Window(*self.classifier.card.window) if self.classifier.card.window else None

    def describe(self) -> dict[str, Any]:
        """The facts that run.json holds."""
        card = self.classifier.card
        return {
            "command": self.names.get("command", ""),
            "kind": "segment" if self.masks_only else "explain",
            "explainer": repr(self.explainer),
            "classifier": self.names.get("classifier", card.name),
            "classifier_sha256": card.sha256,
            "classes": list(card.classes),
            "prior": self.names.get("prior", ""),
            "target": self.target.describe(card),
            "judge": self.names.get("judge", ""),
            "manifest": self.names.get("manifest", str(self.manifest.root)),
            "dataset": self.names.get("dataset", ""),
            "selection": self.names.get("selection", ""),
            "cases": len(self.manifest.cases),
            "window": None if self.window is None else [self.window.low, self.window.high, self.window.unit],
            "mask_rule": None if self.rule is None else self.rule.to_dict(),
            "working_shape": list(self.shape),
            "seed": self.seed,
            "batch": self.batch,
            "version": metadata.version("counterscan"),
        }


@dataclass(frozen=True)
class Outcome:
    """What became of a job: a row per finished case (see `outputs.row`), and (path, name, error) per failed one."""

    rows: list[dict[str, Any]]
    failed: list[tuple[str, str, str]]

    @property
    def already(self) -> list[str]:
        """Names of the cases whose answer was the target before anything was done."""
        return [row["name"] for row in self.rows if row["already"]]

    @property
    def found(self) -> int:
        """How many of the others reached it."""
        return sum(bool(row["found"]) and not row["already"] for row in self.rows)


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


def run(job: Job) -> Outcome:
    """Explain what is not yet explained, then write cases.csv, failed.csv and, for `explain`, the page index.html.

    Raises CounterscanError where the folder holds another job, or where every image fails.
    """
    claim(job.out, job.describe())
    output = (MaskFiles if job.masks_only else CaseFolders)(job.out)
    output.sweep()
    failed: dict[str, tuple[str, str, str]] = {}
    rows: list[dict[str, Any]] = []
    with progress("segment" if job.masks_only else "explain", len(job.manifest.cases), "cases") as done:
        for group in _groups(job, output, failed):
            rows += _finish(job, output, group, failed, hopeful=bool(rows))
            done(len(rows) + len(failed))
    outcome = Outcome(rows, list(failed.values()))
    write_table(job.out / "cases.csv", rows)
    write_table(job.out / "lesions.csv", list(lesion_rows(output, rows)))
    write_table(job.out / "failed.csv", [dict(zip(("path", "name", "error"), f, strict=True)) for f in outcome.failed])
    if not rows:
        _, _, first = outcome.failed[0]
        raise ScanError(
            first + (f" (all {len(failed)} images failed, see {job.out / 'failed.csv'})" * (len(failed) > 1))
        )
    if not job.masks_only:
        from counterscan.report import write_page

        write_page(job.out)
    return outcome


def claim(out: Path, facts: dict[str, Any]) -> None:
    """Write run.json into `out`, or refuse a folder that holds something else; a job that goes on finds its own.

    A job that never finished a case (its first words were wrong) holds nothing.
    """
    path = out / "run.json"
    if path.exists():
        before = json.loads(path.read_text())
        free = {"command", "version", "cases"}
        other = [name for name, value in facts.items() if name not in free and before.get(name) != value]
        if other and any(not case.name.startswith(".") for case in out.glob("cases/*")):
            raise CounterscanError(
                f"{out} holds another job ({other[0]} was {before.get(other[0])}, now {facts[other[0]]}); "
                "give another --out, or delete that folder"
            )
    elif out.exists() and (not out.is_dir() or any(p.name != "run.json.part" for p in out.iterdir())):
        raise CounterscanError(f"{out} holds other files and no job; give an --out that is new or empty")
    write_whole(path, (json.dumps(facts, indent=1) + "\n").encode())


def _groups(job: Job, output: CaseFolders | MaskFiles, failed: dict) -> Iterator[list[Item]]:
    """Cases in their order in groups of at least `batch` slices: the same groups, whatever is finished already."""
    group: list[Item] = []
    for case in job.manifest.cases:
        try:
            item = _item(job, case, output.finished(case))
        except (CounterscanError, OSError) as error:
            failed[case.name] = (str(case.path), case.name, _line(error))
            continue
        if item.volume:
            if group:
                yield group
            yield [item]
            group = []
            continue
        group.append(item)
        if sum(item.slices for item in group) >= job.batch:
            yield group
            group = []
    if group:
        yield group


def _item(job: Job, case: Case, row: dict[str, Any] | None) -> Item:
    if row is not None:
        return Item(case, row["slices"], row=row)
    scan = _read(job, case)
    return Item(case, len(scan), scan, grid=grid_of(scan, job.shape))


def _finish(
    job: Job, output: CaseFolders | MaskFiles, group: list[Item], failed: dict, *, hopeful: bool
) -> list[dict[str, Any]]:
    """The rows of a group, its unfinished cases explained and written; a case that fails alone is put into `failed`."""
    if all(item.row for item in group):
        return [item.row for item in group if item.row]
    if group[0].grid is not None:
        return _finish_volume(job, output, group[0], failed, hopeful=hopeful)
    group = [item if item.scan else replace(item, scan=_read(job, item.case)) for item in group]
    parts: list[Explanation | None]
    try:
        parts = list(_explain(job, group))
    except HOPELESS:
        raise
    except CounterscanError as error:  # some image is bad: find out which
        if len(group) == 1 and not hopeful:
            raise
        parts = [_explain_alone(job, item, failed) for item in group]
        if not hopeful and not any(part is not None for part in parts):
            raise error from None
    rows = []
    for item, part in zip(group, parts, strict=True):
        if item.row or part is None:
            rows += [item.row] if item.row else []
            continue
        assert item.scan is not None, "a group that is explained has been read"
        try:
            rows.append(output.write(job, item.case, item.scan, part))
        except (CounterscanError, OSError) as error:
            failed[item.case.name] = (str(item.case.path), item.case.name, _line(error))
    return rows


def _finish_volume(
    job: Job, output: CaseFolders | MaskFiles, item: Item, failed: dict, *, hopeful: bool
) -> list[dict[str, Any]]:
    """The row of a volume that is explained and written now, or none and a line in `failed`."""
    assert item.scan is not None and item.grid is not None, "an unfinished volume has been opened"  # noqa: PT018
    try:
        return [output.write_volume(job, item.case, item.scan, item.grid)]
    except HOPELESS:
        raise
    except (CounterscanError, OSError) as error:
        if not hopeful and not isinstance(error, ScanError | OSError):
            raise
        failed[item.case.name] = (str(item.case.path), item.case.name, _line(error))
        return []


def _explain_alone(job: Job, item: Item, failed: dict) -> Explanation | None:
    try:
        return _explain(job, [item])[0]
    except CounterscanError as error:
        failed[item.case.name] = (str(item.case.path), item.case.name, _line(error))
        return None


def _explain(job: Job, group: list[Item]) -> list[Explanation]:
    """One explanation per case of the group, whose slices go through the explainer `batch` at a time."""
    scans = [item.scan for item in group if item.scan]
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


def _read(job: Job, case: Case) -> Scan:
    """The scan with the window that it is worked on in: asked for, else the card's in its unit, else its own.

    The pixels of a volume stay in its files.
    """
    scan = open_case(case)
    check_kind(scan, job.classifier.card)
    scan = replace(scan, window=job.window or scan.window_for(job.wanted))
    return scan if grid_of(scan, job.shape) else whole(scan)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
