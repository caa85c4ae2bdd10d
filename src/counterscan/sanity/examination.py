"""All checks on one explainer and one classifier: what `counterscan sanity` does."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from counterscan.classifiers.wrappers import Fitted
from counterscan.core import Card, Classifier, Explanation, Target
from counterscan.data.batches import Images
from counterscan.data.files import write_whole
from counterscan.engine import Job
from counterscan.errors import CounterscanError
from counterscan.metrics.faithfulness import area, curve
from counterscan.metrics.intervals import Estimate, bootstrap, paired
from counterscan.metrics.masks import MaskRule
from counterscan.metrics.stability import RADIUS, sensitivity
from counterscan.metrics.validity import translate
from counterscan.progress import progress
from counterscan.sanity.checks import ENOUGH, FAILS, PASSES, Check, decide
from counterscan.sanity.randomisation import Randomisation, Stage, compare, random_weights, shuffled_labels
from counterscan.sanity.shortcuts import Views, ask, border_check, evidence_check, probe_check
from counterscan.sanity.slices import images_of, told_of
from counterscan.volumes.stream import joined

MOST = 1000  # images that the classifier is asked; of more, every so manieth
DRAWS = 4  # noisy copies of each image
PIXELS = "Do the pixels that the explanation marks carry the answer, more than pixels taken at random?"
STABLE = "Does the explanation stay where noise changes the image invisibly?"


@dataclass(frozen=True)
class Examination:
    """What was found out: the `checks` in their order, and what the pictures of them are drawn from."""

    checks: tuple[Check, ...]
    images: Images
    views: Views
    true: Explanation
    card: Card
    weights: Randomisation
    shuffled: Stage | None
    facts: dict[str, Any]

    @property
    def failed(self) -> bool:
        """Does any check fail?"""
        return any(check.verdict == FAILS for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """The form of the results, with the checks beside the metrics."""
        found: dict[str, Estimate] = {}
        for check in self.checks:
            found |= {f"{check.name}_{name}": figure for name, figure in check.figures.items()}
        for kind in ("cascading", "independent"):
            for place, stage in enumerate(getattr(self.weights, kind), 1):
                found[f"correlation_{kind}_{place}"] = stage.figures["correlation"]
        metrics = {name: figure.to_dict() for name, figure in found.items()}
        facts = {name: fact for name, fact in self.facts.items() if name != "slices_told"}
        return {**facts, "metrics": metrics, "checks": [check.to_dict() for check in self.checks]}

    def __str__(self) -> str:
        width = max(len(check.verdict) for check in self.checks)
        lines = [self.facts["slices_told"]] if self.facts.get("slices_told") else []
        for check in self.checks:
            lines.append(f"{check.verdict:<{width}}  {check.question}")
            lines += [f"{'':<{width}}  {line}" for line in (check.number, check.words) if line]
        return "\n".join(lines)


def examine(job: Job, *, shuffled: Classifier | None = None, n: int = 24, command: str = "") -> Examination:
    """Make all checks on what `job` would explain, and write sanity.json, pictures and index.html into its folder.

    The classifier is asked all images of the manifest (`MOST` of them at most; of a volume the slice that is furthest
    from the target), and `n` that miss the target are explained, about a dozen times over. `shuffled` is a classifier
    trained on shuffled labels. Raises CounterscanError where fewer than `ENOUGH` images miss the target, or where the
    folder holds something else.
    """
    from counterscan.sanity.page import write_page

    _refuse_foreign(job.out)
    every = -(-len(job.manifest) // MOST)
    manifest = replace(job.manifest, cases=job.manifest.cases[::every])
    classifier = _fitted(job.classifier, job.shape)
    with progress("read", len(manifest)) as done:
        images, shown = images_of(manifest, classifier, job.target, job.window or job.wanted, done)
        done(len(images))  # also where all were read before
    with progress("ask", len(images)) as done:
        views = ask(classifier, images, job.target, done)
    cases = _chosen(views, n, job)
    examination = _explained(job, classifier, shuffled, images, views, cases)
    explained = tuple(manifest.cases[index].name for index in cases)
    examination.facts.update(command=command, slices=shown, slices_told=told_of(shown, explained))
    write_page(examination, job.out)
    write_whole(job.out / "sanity.json", (json.dumps(examination.to_dict(), indent=1) + "\n").encode())
    return examination


def _explained(
    job: Job, classifier: Classifier, shuffled: Classifier | None, images: Images, views: Views, cases: tuple[int, ...]
) -> Examination:
    pixels, patients = images.batch(cases), [images.patients[index] for index in cases]

    def explain(asked: Classifier, target: Target = job.target) -> Explanation:
        chunks = pixels.split(job.batch)
        return joined([job.explainer(asked, chunk, target, seed=job.seed) for chunk in chunks])

    total = (9 + bool(shuffled)) * len(cases)
    with progress("explain", total) as done:
        count = _counter(done, len(cases))
        true = explain(classifier)
        count()
        rule = job.rule or MaskRule.of(true)
        weights = random_weights(classifier, explain, true, rule, patients, count, job.seed)
        stage, learnt = None, None
        if shuffled is not None:
            other = _fitted(shuffled, job.shape)
            target = translate(job.target, classifier.card.classes, other.card)
            stage = compare("shuffled labels", true, [explain(other, target)], rule, patients)
            learnt = None if views.own else ask(other, images, target, lambda _: None).auc("whole")
            count()
        stable = _stability_check(job, classifier, true, patients)
        done(total)  # a classifier of few layers is randomised in fewer steps
    checks = (
        weights.check,
        shuffled_labels(stage, learnt),
        _pixels_check(classifier, true, views.mean, patients),
        stable,
        border_check(views),
        evidence_check(true.heatmap, patients),
        probe_check(images, views),
    )
    return Examination(checks, images, views, true, classifier.card, weights, stage, _facts(job, images, cases))


def _pixels_check(classifier: Classifier, true: Explanation, mean: Tensor, patients: Sequence[str]) -> Check:
    """Deletion in the map's order against deletion in a random one, both into the mean image.

    In log-odds, because probabilities of a sure classifier stay near 1 until the last pixels go.
    """
    drawn = torch.rand(true.heatmap.shape, generator=torch.Generator().manual_seed(0))
    instead = mean.expand_as(true.images)
    areas = {
        name: area(curve(classifier, true.images, order, true.target, instead)).numpy()
        for name, order in (("map", true.heatmap), ("random", drawn))
    }
    value = paired(areas["map"], areas["random"], patients)
    verdict = decide(value, 0.0)
    told = (
        f"With pixels hidden in the map's order (the mean image in their place) the log-odds are "
        f"{areas['map'].mean():.1f} on average, in random order {areas['random'].mean():.1f}."
    )
    words = {
        PASSES: f"What the map marks is what the answer needs. {told}",
        FAILS: f"What the map marks is needed less than chance would have it. {told}",
    }.get(verdict, f"The order of the map is no better than chance, or the images are too few. {told}")
    figures = {f"deletion_{name}": bootstrap(values, patients) for name, values in areas.items()}
    return Check("pixels_matter", PIXELS, verdict, words, "difference in log-odds", value, 0.0, figures)


def _stability_check(job: Job, classifier: Classifier, true: Explanation, patients: Sequence[str]) -> Check:
    parts = []
    for start in range(0, len(true), job.batch):
        part = true.select(slice(start, start + job.batch))
        parts.append(sensitivity(job.explainer, classifier, part, draws=DRAWS, seed=job.seed))
    value = bootstrap(torch.cat(parts).numpy(), patients)
    verdict = decide(value, 1.0)
    told = f"Noise of {RADIUS:.0%} of the window changes the map by {value.value:.2f} of its own size."
    words = {
        PASSES: f"{told} It is steady.",
        FAILS: f"{told} Two scans that look the same get different maps: average several, or use a smoother method.",
    }.get(verdict, told)
    return Check("stable", STABLE, verdict, words, "change", value, 1.0, {"sensitivity": value})


def _chosen(views: Views, n: int, job: Job) -> tuple[int, ...]:
    """`n` images that miss the target, spread over all that do: an explanation of the others shows nothing."""
    missing = np.flatnonzero(views.answers["whole"] > 0)
    if len(missing) < ENOUGH:
        raise CounterscanError(
            f"{len(missing)} of {len(views.labels)} images miss the target {job.target.describe(job.classifier.card)}, "
            f"at least {ENOUGH} are needed; add images, or ask for another target"
        )
    places = np.linspace(0, len(missing) - 1, min(n, len(missing))).round().astype(int)
    return tuple(int(index) for index in missing[places])


def _facts(job: Job, images: Images, cases: tuple[int, ...]) -> dict[str, Any]:
    told = job.describe()
    kept = ("explainer", "classifier", "prior", "target", "manifest", "selection", "seed")
    facts = {"version": metadata.version("counterscan"), **{name: told[name] for name in kept}}
    return {"command": "", **facts, "n": len(images), "explained": len(cases)}


def _fitted(classifier: Classifier, shape: tuple[int, ...]) -> Classifier:
    return classifier if tuple(classifier.card.shape) == shape else Fitted(classifier, shape)


def _counter(done: Callable[[int], None], size: int) -> Callable[[], None]:
    told = [0]

    def count() -> None:
        told[0] += size
        done(told[0])

    return count


def _refuse_foreign(out: Path) -> None:
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "sanity.json").exists())):
        raise CounterscanError(f"{out} holds other files; give an --out that is new or empty")
