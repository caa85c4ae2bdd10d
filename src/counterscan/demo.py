"""The main job on phantoms: explain fresh ones, score the answers against the exact truth, write a page to look at."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from counterscan.classifiers.load import load_classifier
from counterscan.core import Classifier, Target
from counterscan.data.archive import write_phantoms
from counterscan.data.batches import load_batch
from counterscan.data.manifest import Manifest, read_manifest
from counterscan.data.window import Window
from counterscan.engine import Job, run
from counterscan.errors import WeightsError
from counterscan.explainers.base import Explainer
from counterscan.explainers.build import build_explainer
from counterscan.jobs import choose_rule
from counterscan.metrics.calibration import search
from counterscan.metrics.masks import MaskRule
from counterscan.metrics.truth import read_truth
from counterscan.registry import RECIPES, shipped_weights
from counterscan.report import write_page
from counterscan.score import score

KINDS = ("chest", "abdomen")
METHODS: dict[str, dict[str, Any]] = {
    "inpainting": {},
    "layer-cam": {},
    "grad-cam": {},
    "rise": {"masks": 64, "bfloat16": True},
}
COLUMNS = ("flip_rate", "judge_flip_rate", "iou", "healthy_mask_share", "twin_ratio", "seconds")
TRAINING = 6000  # phantoms of each kind that --train learns from
BATCH = 8


@dataclass(frozen=True)
class Models:
    """What a kind of phantom is explained with: names or folders, as the command takes them."""

    classifier: str
    judge: str
    prior: str


def run_demo(
    out: Path, *, n: int = 24, train: bool = False, seed: int = 2024, say: Callable[[str], None] = print
) -> str:
    """Explain `n` fresh phantoms of each kind into `out`; the answer is a small table and where the page is.

    `train` first trains everything into `out/trained`; what is trained already is used. Raises WeightsError where
    nothing is shipped and nothing is to be trained.
    """
    models = {kind: trained(kind, out / "trained" / kind, say) for kind in KINDS} if train else shipped(say)
    folders, tables = [], []
    for kind in models:
        say(f"{kind}: explaining {n} phantoms by {', '.join(METHODS)}")
        results = explain_all(kind, models[kind], out / kind, n, seed)
        folders += [out / kind / name for name in METHODS]
        tables.append(table(kind, results))
    page = write_page(folders, out / "index.html", title="counterscan demo: phantoms with exact truth")
    return "\n".join([*tables, f"the page: {page}"])


def shipped(say: Callable[[str], None]) -> dict[str, Models]:
    """The weights that come with the library, by kind of phantom; a kind that lacks some is named and left out."""
    found = {}
    for kind in KINDS:
        models = Models(f"{kind}/classifier", f"{kind}/judge", f"{kind}/inpainting")
        missing = [name for name in vars(models).values() if name not in shipped_weights()]
        if missing:
            say(f"{kind}: no weights {', '.join(missing)} are shipped; --train trains them")
        else:
            found[kind] = models
    if not found:
        raise WeightsError("no weights for the demo are shipped; train them: counterscan demo --train")
    return found


def trained(kind: str, folder: Path, say: Callable[[str], None]) -> Models:
    """Classifier, judge and editor trained from scratch; each is trained once, and goes on where it was stopped."""
    archive = write_phantoms(kind, TRAINING, folder / "phantoms", seed=1, workers=os.cpu_count() or 1)
    models = Models(*(str(folder / name) for name in ("classifier", "judge", "inpainting")))
    recipes = {
        models.classifier: RECIPES["classifier"](share="first", steps=2000),
        models.judge: RECIPES["classifier"](network="vgg", share="second", steps=1500, seed=1),
        models.prior: RECIPES["inpainting"](classifier=models.classifier, steps=2000),
    }
    for target, recipe in recipes.items():
        if not (Path(target) / "card.json").exists():
            say(f"{kind}: training {Path(target).name}")
            recipe.train(read_manifest(archive), Path(target), resume=True, say=say, command="counterscan demo --train")
    return models


def explain_all(kind: str, models: Models, out: Path, n: int, seed: int) -> dict[str, dict[str, Any]]:
    """Explain and score the same fresh phantoms by every method; attributions get a mask rule tuned on others."""
    classifier, judge = load_classifier(models.classifier), load_classifier(models.judge)
    test = read_manifest(write_phantoms(kind, n, out / "phantoms", seed=seed))
    tuning = read_manifest(write_phantoms(kind, max(n // 2, 8), out / "tuning", seed=seed + 1))
    disease = [name for name in test.classes if name not in test.confounders]
    target = Target.parse(",".join(f"{name}=0" for name in disease), classifier.card)
    results = {}
    for name, settings in METHODS.items():
        explainer = build_explainer(name, prior=models.prior if name == "inpainting" else None, **settings)
        job = Job(
            manifest=test,
            classifier=classifier,
            explainer=explainer,
            target=target,
            out=out / name,
            judge=judge,
            rule=choose_rule(explainer, None, None) or tuned_rule(explainer, classifier, target, tuning),
            batch=BATCH,
            names={**vars(models), "manifest": str(test.root), "command": "counterscan demo"},
        )
        run(job)
        results[name] = score(job.out, test, judge, command="counterscan demo")
    return results


def tuned_rule(explainer: Explainer, classifier: Classifier, target: Target, tuning: Manifest) -> MaskRule:
    """The rule that suits the explainer's maps of other phantoms best."""
    window = Window(*classifier.card.window) if classifier.card.window else None
    heatmaps, truths = [], []
    for start in range(0, len(tuning), BATCH):
        cases = tuning.cases[start : start + BATCH]
        answer = explainer(classifier, load_batch(cases, classifier.card.shape, window), target)
        heatmaps += list(answer.heatmap * ~target.reached(answer.before)[:, None, None, None])
        for index, case in enumerate(cases):
            mask = read_truth(tuning, case, answer.select(slice(index, index + 1))).mask
            assert mask is not None, "phantoms have masks"
            truths.append(mask[0])
    return search(heatmaps, truths).rule


def table(kind: str, results: dict[str, dict[str, Any]]) -> str:
    """The figures of one kind of phantom, a line an explainer."""
    heads = [kind, *(name.replace("_", " ") for name in COLUMNS)]
    cells = [heads, *([name, *_cells(result["metrics"])] for name, result in results.items())]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([*lines, ""])


def _cells(metrics: dict[str, dict[str, Any]]) -> list[str]:
    return [f"{metrics[name]['value']:.2f}" if name in metrics else "-" for name in COLUMNS]
