"""What is measured of explanations, case by case: in this process, in several, or in parts kept in a folder."""

import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from counterscan.core import Classifier, Explanation
from counterscan.data.files import write_whole
from counterscan.data.manifest import Case, Manifest
from counterscan.engine.sharding import NOTES, Shard
from counterscan.engine.work import Engine, Work, elsewhere
from counterscan.errors import CounterscanError, ManifestError
from counterscan.kept import finished_cases
from counterscan.metrics.calibration import LEVELS, SHARES, iou_curve
from counterscan.metrics.confidence import Objects
from counterscan.metrics.identity import Verifier, identity
from counterscan.metrics.intervals import Estimate, bootstrap
from counterscan.metrics.masks import MaskRule
from counterscan.metrics.truth import Truth, read_truth
from counterscan.metrics.validity import attempted
from counterscan.pictures import grey
from counterscan.progress import progress
from counterscan.registry import METRICS

TOGETHER = 8  # cases that are measured as one task
Span = tuple[int, int]  # the first case that is meant, and the first that is not


@dataclass
class Scores:
    """Values per image, as they come: nothing here grows with the images' size.

    `rule` made the last mask, and `matched` counts the cases that the manifest of the truth knows.
    """

    names: list[str] = field(default_factory=list)
    slices: list[int] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)
    curves: dict[bool, list[np.ndarray]] = field(default_factory=lambda: {False: [], True: []})
    objects: Objects = field(default_factory=Objects)
    rule: MaskRule | None = None
    matched: int = 0

    def add(
        self,
        name: str,
        explanation: Explanation,
        truth: Truth,
        verifier: Verifier | None = None,
        **judges: Classifier | None,
    ) -> None:
        """Measure one case, each of its slices an image."""
        self.names += [name] * len(explanation)
        self.slices += range(len(explanation))
        self.patients += truth.patients
        found = {metric: METRICS[metric](explanation, truth=truth, **judges) for metric in METRICS}
        if verifier is not None:
            found |= identity(explanation, verifier, truth)
        for metric, values in found.items():
            self.values.setdefault(metric, []).extend(values.tolist())
        for relative, curves in self.curves.items():
            curves += _curves(explanation, truth, relative)
        self.objects.add(explanation, truth)
        self.rule = MaskRule.of(explanation)

    def join(self, more: "Scores") -> None:
        """Take in the values of further cases."""
        for mine, theirs in zip(self._lists(), more._lists(), strict=True):
            mine += theirs
        for metric, values in more.values.items():
            self.values.setdefault(metric, []).extend(values)
        self.rule, self.matched = more.rule or self.rule, self.matched + more.matched

    def to_dict(self) -> dict[str, Any]:
        """As JSON; floats come back as they were."""
        curves = [[curve.tolist() for curve in self.curves[relative]] for relative in (False, True)]
        rule = None if self.rule is None else self.rule.to_dict()
        return {"lists": self._lists()[2:], "curves": curves, "values": self.values, "rule": rule} | {
            "matched": self.matched
        }

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> "Scores":
        """What `to_dict` made."""
        scores = cls(values=facts["values"], matched=facts["matched"])
        scores.rule = None if facts["rule"] is None else MaskRule.from_dict(facts["rule"])
        curves = [[np.array(curve, np.float32) for curve in some] for some in facts["curves"]]
        for mine, known in zip(scores._lists(), [*curves, *facts["lists"]], strict=True):
            mine += known
        return scores

    def _lists(self) -> list[list]:
        objects = self.objects
        told: list[list] = [self.names, self.slices, self.patients, objects.confidence, objects.hits, objects.patients]
        return [self.curves[False], self.curves[True], *told]

    def estimates(self) -> dict[str, Estimate]:
        """The mean of each metric that is defined for some image, with its interval by patient.

        `confidence_error` is the expected calibration error of how sure masks say they are of their objects.
        """
        found = {name: bootstrap(values, self.patients) for name, values in self._with_best().items()}
        if self.objects.hits:
            found["confidence_error"] = self.objects.error()
        return {name: estimate for name, estimate in found.items() if estimate.n}

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row an image: its name, slice and patient, and what is defined of its values."""
        columns = self._with_best()
        for index, name in enumerate(self.names):
            row = {"name": name, "slice": self.slices[index], "patient": self.patients[index]}
            known = {key: values[index] for key, values in columns.items()}
            yield {**row, **{key: "" if np.isnan(value) else float(f"{value:.6g}") for key, value in known.items()}}

    def _with_best(self) -> dict[str, list[float]]:
        """The values, and `best_iou`: IoU at the one threshold, absolute or relative, that is best on these images."""
        best, highest = np.full(len(self.names), np.nan), -1.0
        for curves in self.curves.values():
            table = np.array(curves, dtype=np.float32)
            lesion = ~np.isnan(table).any(1) if len(table) else np.zeros(0, bool)
            means = table[lesion].mean(0) if lesion.any() else np.zeros(1)
            if lesion.any() and means.max() > highest:
                best, highest = table[:, means.argmax()].astype(float), float(means.max())
        return {**self.values, "best_iou": best.tolist()}


@dataclass(frozen=True)
class Models:
    """Who is asked while explanations are measured."""

    classifier: Classifier | None = None
    judge: Classifier | None = None
    verifier: Verifier | None = None


@dataclass(frozen=True)
class Measuring:
    """Measures a span of the cases `names` that `explain` wrote into `folder`; masks are made by `rule`, if given."""

    folder: Path
    names: tuple[str, ...]
    truth: Manifest | None
    rule: MaskRule | None
    models: Models = field(default_factory=Models)

    def __call__(self, span: Span) -> Scores:
        scores, models = Scores(), self.models
        paths = [self.folder / "cases" / name for name in self.names[slice(*span)]]
        for name, explanation, known in _beside_truth(paths, self.truth, self._known, self.rule):
            truth = known or Truth(patients=_patients(explanation, name))
            scores.add(name, explanation, truth, models.verifier, classifier=models.classifier, judge=models.judge)
            scores.matched += known is not None
            _keep_truth(self.folder / "truth", name, truth)
        return scores

    @cached_property
    def _known(self) -> dict[str, Case]:
        return _index(self.truth)

    @property
    def spans(self) -> list[Span]:
        """All cases, `TOGETHER` at a time."""
        count = len(self.names)
        return [(start, min(start + TOGETHER, count)) for start in range(0, count, TOGETHER)]

    def work(self, again: Callable[[], Models] | None) -> Work[Span, Scores]:
        """The work for any engine; `again` makes the models in another process, without it they are pickled."""
        away = elsewhere(self.asking(Models()).asking, again, self.models)
        return Work(self, away, lambda span: ", ".join(self.names[slice(*span)]))

    def asking(self, models: Models) -> "Measuring":
        """The same, where others are asked."""
        return replace(self, models=models)


def measured(
    measuring: Measuring, again: Callable[[], Models] | None, engine: Engine, shard: Shard
) -> tuple[Scores, tuple[Shard, ...]]:
    """What is measured of all cases, and which parts of the job are missing; what parts measured is in files."""
    ready: dict[Span, Scores] = {}
    spans, kept = measuring.spans, _Kept.of(measuring)
    queue = [span for number, span in enumerate(spans) if number in shard and not kept.path(span).exists()]
    todo = iter(queue)
    results = engine(measuring.work(again), lambda: next(todo, None))
    with closing(results), progress("score", sum(map(_size, queue)), "cases") as tell:
        for span, scores in results:
            ready[span] = scores
            if not shard.whole:
                kept.write(span, scores)
            tell(sum(map(_size, ready)))
    left = [number for number, span in enumerate(spans) if span not in ready and not kept.path(span).exists()]
    if left:
        return Scores(), tuple(one for one in shard.all if any(number in one for number in left))
    return _joined(ready.get(span) or kept.read(span) for span in spans), ()


def _size(span: Span) -> int:
    return span[1] - span[0]


def forget_parts(folder: Path) -> None:
    """Remove what parts of a job measured, once the whole is told."""
    shutil.rmtree(folder / NOTES, ignore_errors=True)


@dataclass(frozen=True)
class _Kept:
    """Where parts of a job keep what they measured; a folder for each question, for answers go with it."""

    folder: Path

    @classmethod
    def of(cls, measuring: Measuring) -> "_Kept":
        models = measuring.models
        asked = [getattr(one, "card", None) for one in (models.classifier, models.judge, models.verifier)]
        known = measuring.truth.cases if measuring.truth else ()
        run = (measuring.folder / "run.json").read_text()
        question = (metadata.version("counterscan"), run, measuring.names, known, measuring.rule, asked)
        digest = hashlib.sha256(repr(question).encode()).hexdigest()[:16]
        return cls(measuring.folder / NOTES / f"score-{digest}")

    def path(self, span: Span) -> Path:
        return self.folder / f"{span[0]:08d}.json"

    def write(self, span: Span, scores: Scores) -> None:
        write_whole(self.path(span), json.dumps(scores.to_dict()).encode())

    def read(self, span: Span) -> Scores:
        return Scores.from_dict(json.loads(self.path(span).read_text()))


def _joined(parts: Iterator[Scores]) -> Scores:
    scores = Scores()
    for part in parts:
        scores.join(part)
    return scores


def case_folders(folder: str | Path) -> list[Path]:
    """The folders of finished cases, by name; an error where there is none."""
    if found := finished_cases(Path(folder)):
        return found
    raise CounterscanError(f"{folder} holds no finished explanations; run counterscan explain again")


def with_truth(
    folder: str | Path, truth: Manifest | None, rule: MaskRule | None, every: int = 1
) -> Iterator[tuple[str, Explanation, Truth]]:
    """Name, explanation (carrying `rule` if given) and truth of each case, one at a time."""
    paths, matched = case_folders(folder)[::every], False
    for name, explanation, known in _beside_truth(paths, truth, _index(truth), rule):
        matched = matched or known is not None
        yield name, explanation, known or Truth(patients=_patients(explanation, name))
    if truth is not None and not matched:
        raise stranger(truth, folder, len(paths))


def stranger(truth: Manifest, folder: str | Path, count: int) -> ManifestError:
    """What is raised where a manifest knows none of the cases."""
    return ManifestError(f"{truth.root} knows none of the {count} cases in {folder}; give the manifest they are from")


def _beside_truth(
    paths: Sequence[Path], truth: Manifest | None, known: dict[str, Case], rule: MaskRule | None
) -> Iterator[tuple[str, Explanation, Truth | None]]:
    """Name, explanation and truth of some cases; None where the manifest does not know the case."""
    for path in paths:
        explanation = Explanation.load(path)
        if rule is not None:
            explanation = replace(explanation, meta={**explanation.meta, "mask_rule": rule.to_dict()})
        facts = explanation.meta.get("case", {})
        case = known.get(facts.get("path", "")) or known.get(facts.get("name", path.name))
        told = None if case is None or truth is None else read_truth(truth, case, explanation)
        yield path.name, explanation, told


def _patients(explanation: Explanation, name: str) -> tuple[str, ...]:
    return (explanation.meta.get("case", {}).get("patient") or name,) * len(explanation)


def _index(manifest: Manifest | None) -> dict[str, Case]:
    cases = manifest.cases if manifest else ()
    return {key: case for case in cases for key in (case.name, str(case.path))}


def _curves(explanation: Explanation, truth: Truth, relative: bool) -> Iterator[np.ndarray]:
    empty = np.full(len(SHARES if relative else LEVELS), np.nan, np.float32)
    heatmaps = explanation.heatmap * attempted(explanation).view(-1, *[1] * (explanation.heatmap.ndim - 1))
    for index in range(len(explanation)):
        if truth.mask is None or not truth.mask[index].any():
            yield empty
        else:
            heat = heatmaps[index, 0].float().numpy()
            yield iou_curve(heat, truth.mask[index, 0].numpy(), relative).astype(np.float32)


def _keep_truth(folder: Path, name: str, truth: Truth) -> None:
    """Pictures of mask and twin for the page, the slices of a volume below one another."""
    for ending, known in (("mask", truth.mask), ("twin", truth.twin)):
        if known is not None:
            images = known.float() * 2 - 1 if ending == "mask" else known
            file = io.BytesIO()
            grey(torch.cat(list(images), dim=-2)).save(file, "PNG")
            write_whole(folder / f"{name}.{ending}.png", file.getvalue())
