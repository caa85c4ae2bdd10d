"""COIN's published experiment on phantoms: Gaussian anomalies in kidneys, micro IoU, and why the CAMs fail.

    counterscan phantoms gaussian --n 300 --seed 20262 --out runs/published/test
    counterscan phantoms gaussian --n 120 --seed 20261 --out runs/published/validation
    python bench/published.py --work runs/published --classifier C --inpainting P --coin O --progressive Q

Every method under the published mask rule and under one chosen on validation images; CAMs at the published layer (the
last stage) and at the one that is best on validation images. A result that is under results/ already is not measured
again, and what a method answered to a batch is kept under WORK/kept, so that a run that was stopped goes on where it
was, within a method too; remove that folder when a method's code has changed. `--few 16` tries everything on the first
images of each part, and writes its results to WORK/few-16. `--sheet` draws what the editors answer.
`docs/write_tables.py` makes the table of docs/published-experiment.md from the results.
"""

import argparse
import hashlib
import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from counterscan.classifiers.load import load_classifier
from counterscan.classifiers.torch import candidate_layers
from counterscan.core import Classifier, Explanation, Target
from counterscan.data.batches import Images, open_images
from counterscan.data.manifest import read_manifest
from counterscan.data.window import Window
from counterscan.explainers.base import CounterfactualExplainer, Explainer
from counterscan.explainers.build import build_explainer
from counterscan.metrics.calibration import search
from counterscan.metrics.intervals import bootstrap
from counterscan.metrics.masks import MaskRule, mask_of
from counterscan.metrics.overlap import Overlaps, micro_dice, micro_iou
from counterscan.metrics.truth import Truth
from counterscan.metrics.validity import attempted
from counterscan.pictures import contact_sheet, difference_picture, grey
from counterscan.registry import METRICS

RESULTS = Path(os.path.relpath(Path(__file__).parents[1] / "results"))  # commands are kept as one would type them
CAMS = ("layer-cam", "grad-cam", "score-cam")
EDITORS = {  # the explainer of each, and its settings: COIN's objective and its one pass as published, and ours
    "inpainting": ("inpainting", {}),
    "coin": ("inpainting", {"passes": 1, "confined": False}),
    "progressive": ("progressive", {}),
}
MEASURED = ("iou", "dice", "auprc", "pointing_game", "healthy_mask_share", "flip_rate", "twin_ratio", "l1")
BATCH, TRIED, SHOWN = 16, 48, 8  # images at once, validation images a layer is chosen on, images of the sheet


class Experiment:
    """The classifier, the images of both parts with their truth, and what is measured on them."""

    def __init__(self, arguments: argparse.Namespace):
        self.arguments = arguments
        self.classifier = load_classifier(arguments.classifier)
        self.target = Target.parse(arguments.target, self.classifier.card)
        self.parts = {part: self._open(Path(arguments.work) / part) for part in ("validation", "test")}
        self.results = Path(arguments.work) / f"few-{arguments.few}" if arguments.few else RESULTS
        self.results.mkdir(exist_ok=True)

    @property
    def editors(self) -> list[str]:
        """The methods among EDITORS that an editor is given for."""
        return [method for method in EDITORS if getattr(self.arguments, method)]

    def _open(self, folder: Path) -> tuple[Images, Truth]:
        card = self.classifier.card
        manifest = read_manifest(folder)
        manifest = replace(manifest, cases=manifest.cases[: self.arguments.few])
        images = open_images(manifest, card.shape, Window(*card.window) if card.window else None)
        every = range(len(images))
        return images, Truth(images.masks(every), images.twin(every), images.patients)

    def explained(self, explainer: Explainer, part: str, n: int | None = None) -> Explanation:
        """The explanations of the first `n` images; attributions only of those that are not yet as asked."""
        images, _ = self.parts[part]
        chosen = torch.arange(len(images))[:n].split(BATCH)
        return joined([self.kept(explainer, images.batch(some)) for some in chosen])

    def kept(self, explainer: Explainer, images: Tensor) -> Explanation:
        """The explanation of a batch, made once for these weights, settings and images."""
        cards = [self.classifier.card, *(value.card for value in vars(explainer).values() if hasattr(value, "card"))]
        told = "\n".join([repr(explainer), self.arguments.target, *(card.sha256 for card in cards)])
        key = hashlib.sha256(told.encode() + images.numpy().tobytes()).hexdigest()[:20]
        folder = Path(self.arguments.work) / "kept" / key
        if not (folder / "explanation.json").exists():
            explain(explainer, self.classifier, images, self.target).save(folder)
        return Explanation.load(folder)

    def tuned(self, explanation: Explanation, **grid: Any) -> tuple[MaskRule, float]:
        """The rule with the best IoU on these validation images, and that; healthy ones do not count, as published."""
        _, truth = self.parts["validation"]
        heat = explanation.heatmap * attempted(explanation).view(-1, 1, 1, 1)
        found = search(heat, truth.mask[: len(heat)], healthy_limit=1.0, **grid)
        return found.rule, found.iou

    def best_layer(self, method: str) -> str:
        """The layer whose map, above the best threshold, has the best IoU on validation images."""
        tried = {}
        for layer in candidate_layers(self.classifier):
            explainer = build_explainer(method, layer=layer.name, **settings(method))
            explanation = self.explained(explainer, "validation", TRIED)
            _, tried[layer.name] = self.tuned(explanation, blurs=(0.0,), smallest=(0.0,))
            print(f"{method} at {layer.name} {layer.spatial}: IoU {tried[layer.name]:.3f} on validation", flush=True)
        return max(tried, key=lambda name: tried[name])

    def variants(self, method: str) -> Iterator[tuple[str, Explainer]]:
        """What is measured of a method: a suffix for its files, and the explainer."""
        if method in EDITORS:
            name, given = EDITORS[method]
            yield "", build_explainer(name, prior=getattr(self.arguments, method), **given)
        elif method == "rise":
            yield "", build_explainer("rise", masks=self.arguments.masks, bfloat16=True)
        else:
            last = candidate_layers(self.classifier)[-1].name
            yield "-last", build_explainer(method, layer=last, **settings(method))
            yield "", build_explainer(method, layer=self.best_layer(method), **settings(method))

    def measure(self, method: str) -> None:
        """Write the results of a method, or leave them where they are."""
        suffixes = ["-last", ""] if method in CAMS else [""]
        if all((self.results / f"published-{method}{suffix}.json").exists() for suffix in suffixes):
            return
        for suffix, explainer in self.variants(method):
            print(f"{explainer!r}", flush=True)
            rule, iou = self.tuned(self.explained(explainer, "validation"))
            explanation = self.explained(explainer, "test")
            published = MaskRule.of(replace(explanation, meta={}))
            for name, chosen in (("-published", published), ("", rule)):
                result = self.result(explainer, explanation, chosen)
                if not name:
                    result["calibration"] = {"validation": f"{self.arguments.work}/validation", "iou": round(iou, 4)}
                write(self.results / f"published-{method}{suffix}{name}.json", result)

    def result(self, explainer: Explainer, explanation: Explanation, rule: MaskRule) -> dict:
        """The results of an explainer on the test images under a rule, in the form of all results."""
        _, truth = self.parts["test"]
        explanation = replace(explanation, meta={**explanation.meta, "mask_rule": rule.to_dict()})
        pixels = Overlaps()
        pixels.add(explanation, truth)
        counted = (pixels.hits, pixels.masked, pixels.lesion, truth.patients)
        figures = {"micro_iou": micro_iou(*counted), "micro_dice": micro_dice(*counted)}
        for name in MEASURED:
            figures[name] = bootstrap(METRICS[name](explanation, truth=truth).numpy(), truth.patients)
        return {
            "command": shlex.join(["python", *sys.argv]),
            "version": metadata.version("counterscan"),
            "explainer": repr(explainer),
            "classifier": self.classifier.card.name,
            "target": self.arguments.target,
            "n": len(explanation),
            "metrics": {name: one.to_dict() for name, one in sorted(figures.items()) if one.n},
            "mask_rule": rule.to_dict(),
        }

    def sheet(self, path: Path) -> None:
        """Abnormal test images; for each editor the counterfactual, its difference and the mask; truth and twin."""
        images, truth = self.parts["test"]
        shown = truth.mask.flatten(1).any(1).nonzero()[:SHOWN, 0]
        asked = images.batch(shown)
        columns = [("image", [grey(one) for one in asked])]
        for method in self.editors:
            explainer = next(iter(self.variants(method)))[1]
            answer = explain(explainer, self.classifier, asked, self.target)
            mask = mask_of(answer).float() * 2 - 1
            change = answer.counterfactual - asked
            columns += [
                (method, [grey(one) for one in answer.counterfactual]),
                ("difference", [difference_picture(one) for one in change]),
                ("mask, published", [grey(one) for one in mask]),
            ]
        columns += [("truth", [grey(one) for one in truth.mask[shown].float() * 2 - 1])]
        columns += [("twin", [grey(one) for one in truth.twin[shown]])]
        rows = list(zip(*[pictures for _, pictures in columns], strict=True))
        contact_sheet(rows, [name for name, _ in columns]).save(path)


def settings(method: str) -> dict[str, bool]:
    """Score-CAM asks most, and in bfloat16."""
    return {"bfloat16": True} if method == "score-cam" else {}


def explain(explainer: Explainer, classifier: Classifier, images: Tensor, target: Target) -> Explanation:
    """The explanation of a batch; an attribution's map is nothing, at no cost, where the answer is as asked before."""
    with torch.no_grad():
        before = classifier(images)
    asked = ~target.reached(before)
    if isinstance(explainer, CounterfactualExplainer):
        return explainer(classifier, images, target)
    heat = torch.zeros(len(images), 1, *images.shape[2:])
    if asked.any():
        heat[asked] = explainer(classifier, images[asked], target).heatmap
    return Explanation(images, target, heat, before, torch.zeros_like(asked))


def joined(parts: list[Explanation]) -> Explanation:
    """Several batches as one."""
    first = parts[0]
    names = [name for name, value in vars(first).items() if isinstance(value, Tensor)]
    return replace(first, meta={}, **{name: torch.cat([getattr(one, name) for one in parts]) for name in names})


def write(path: Path, result: Mapping) -> None:
    """Keep a result, and say the figures that matter."""
    path.write_text(json.dumps(result, indent=1) + "\n")
    said = {key: result["metrics"][key]["value"] for key in ("micro_iou", "iou") if key in result["metrics"]}
    print(f"{path.stem}: {said}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, help="a folder with the archives `validation` and `test`")
    parser.add_argument("--classifier", required=True)
    for method in EDITORS:
        parser.add_argument(f"--{method}", help="an editor; without it this method is left out")
    parser.add_argument("--target", default="anomaly=0")
    parser.add_argument("--masks", type=int, default=600, help="of RISE")
    parser.add_argument("--methods", nargs="+", default=[*EDITORS, "rise", *CAMS], choices=[*EDITORS, "rise", *CAMS])
    parser.add_argument("--few", type=int, metavar="N", help="images of each part, to try it")
    parser.add_argument("--sheet", type=Path, help="a picture to draw")
    arguments = parser.parse_args()
    experiment = Experiment(arguments)
    for method in arguments.methods:
        if method not in EDITORS or method in experiment.editors:
            experiment.measure(method)
    if arguments.sheet:
        experiment.sheet(arguments.sheet)


if __name__ == "__main__":
    main()
