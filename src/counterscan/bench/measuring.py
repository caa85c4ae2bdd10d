"""One method on one part: its layer and mask rule chosen on validation images, then measured on test images.

Everything that takes long is kept in a file when it is done, so that a run that was stopped goes on there.
"""

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from counterscan.bench.frechet import realism
from counterscan.bench.methods import Method
from counterscan.bench.parts import thinned
from counterscan.bench.setting import BATCH, Setting, fitted, kept
from counterscan.classifiers.torch import candidate_layers
from counterscan.data.batches import load_batch, open_images
from counterscan.data.manifest import Manifest
from counterscan.explainers.base import AttributionExplainer, Explainer
from counterscan.memory import peak_memory
from counterscan.metrics.calibration import search
from counterscan.metrics.confidence import Objects
from counterscan.metrics.masks import REFERENCE_SIDE, MaskRule
from counterscan.metrics.overlap import Overlaps
from counterscan.metrics.validity import attempted
from counterscan.progress import progress
from counterscan.score import Scores, choose_rule, with_truth

TUNED, PUBLISHED, PUBLISHED_LAYER = "tuned", "published rule", "published layer and rule"


@dataclass(frozen=True)
class Found:
    """One method under one rule on one part: `facts` say how it came about.

    `columns` hold a value an image, those named `object_...` one of each object of the masks whose confidence is known.
    """

    columns: dict[str, list]
    facts: dict[str, Any]


def measure(setting: Setting, method: Method) -> dict[str, Found]:
    """The method under each of its rules; CounterscanError where it cannot be run.

    A rule is chosen on the part's validation images and measured on its test images, once.
    """
    out = setting.out / method.name
    layers = {"layer": best_layer(setting, method)} if method.layers else {}
    explainer = setting.explainer(method, **layers)
    validation = setting.explain(explainer, setting.part.validation, out / "validation")
    chosen = kept(out / "rule.json", setting.key(explainer), lambda: _rule(setting, validation))
    tuned = MaskRule.from_dict(chosen["mask_rule"])
    test = setting.explain(explainer, setting.part.test, out / "test", tuned)
    common = {"memory_mb": _memory(setting, method, explainer), **realism(setting, explainer, test)}
    found = {TUNED: _found(setting, explainer, test, TUNED, tuned, {**common, **chosen})}
    if not method.published:
        return found
    attribution = isinstance(explainer, AttributionExplainer)
    rule = MaskRule.published_saliency() if attribution else MaskRule.published_difference()
    found[PUBLISHED] = _found(setting, explainer, test, PUBLISHED, rule, common)
    if method.layers:
        explainer = setting.explainer(method, layer=candidate_layers(setting.classifier)[-1].name)
        test = setting.explain(explainer, setting.part.test, out / "test-published-layer", rule)
        found[PUBLISHED_LAYER] = _found(setting, explainer, test, PUBLISHED_LAYER, rule, {})
    return found


def best_layer(setting: Setting, method: Method) -> str:
    """The layer whose best mask rule has the best IoU on validation images, healthy ones kept silent if it can."""
    images, masks = _layer_images(setting, method.layers)
    tried: dict[str, list[float]] = {}
    candidates = candidate_layers(setting.classifier)
    with progress(f"layers of {method.name}", len(candidates), "layers") as done:
        for count, layer in enumerate(candidates, 1):
            explainer = setting.explainer(method, layer=layer.name)
            key = [setting.key(explainer), len(images)]
            figures = partial(_layer_figures, setting, explainer, images, masks)
            tried[layer.name] = kept(setting.out / method.name / f"layer-{count}.json", key, figures)
            done(count)
    return max(tried, key=lambda name: tried[name])


def _layer_figures(setting: Setting, explainer: Explainer, images: torch.Tensor, masks: torch.Tensor) -> list[float]:
    maps = []
    for chunk in images.split(BATCH):
        answer = explainer(setting.classifier, chunk, setting.target, seed=setting.seed)
        maps.append(answer.heatmap * attempted(answer).view(-1, 1, 1, 1))
    found = search(torch.cat(maps), masks)
    return [float(found.feasible), found.iou]


def _layer_images(setting: Setting, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Validation images `(n, *shape)` at the classifier's size and their masks; enough to tell layers apart."""
    some = thinned(setting.part.validation, most)
    images = open_images(some, setting.classifier.card.shape, setting.window, setting.out / "decoded")
    return images.batch(range(len(images))), images.masks(range(len(images)))


def _rule(setting: Setting, validation: Path) -> dict[str, Any]:
    chosen = choose_rule(validation, truth=setting.part.validation)
    facts = {key: value for key, value in asdict(chosen).items() if key != "rule"}
    return {"mask_rule": chosen.rule.to_dict(), "calibration": facts}


def _found(
    setting: Setting, explainer: Explainer, test: Path, name: str, rule: MaskRule, facts: dict[str, Any]
) -> Found:
    """The columns of the rule called `name`, from the file where they are kept or measured now."""
    judge = setting.judge.card.sha256 if setting.judge else ""
    key = [setting.key(explainer), rule.to_dict(), judge]
    path = test.with_name(f"measured-{name.replace(' ', '-')}.json")
    columns = kept(path, key, lambda: _columns(setting, test, rule))
    lost = len({case.name for case in setting.part.test.cases} - set(columns["name"]))
    told = {"explainer": repr(explainer), "mask_rule": rule.to_dict(), "images_lost": lost}
    return Found(columns, {**facts, **told})


def _columns(setting: Setting, test: Path, rule: MaskRule) -> dict[str, list]:
    scores, overlaps, objects, fields = Scores(), Overlaps(), Objects(), _field_sizes(setting.part.test)
    area: dict[str, list[float]] = {"mm2": [], "px": []}
    for name, explanation, truth in with_truth(test, setting.part.test, rule):
        scores.add(name, explanation, truth, classifier=None, judge=setting.judge)
        before = len(overlaps.lesion)
        overlaps.add(explanation, truth)
        objects.add(explanation, truth)
        pixels = float(np.prod(explanation.images.shape[2:]))
        shares = [lesion / pixels for lesion in overlaps.lesion[before:]]
        area["mm2"] += [share * fields.get(name, float("nan")) for share in shares]
        area["px"] += [share * REFERENCE_SIDE**2 for share in shares]
    rows = list(scores.rows())
    names = ("slice", "patient", "name")
    columns = {name: [row[name] for row in rows] for name in names}
    columns |= {name: [_float(row[name]) for row in rows] for name in rows[0] if name not in names}
    columns |= {f"area_{unit}": values for unit, values in area.items()}
    columns |= {"hits": overlaps.hits, "masked": overlaps.masked, "lesion": overlaps.lesion}
    return columns | {f"object_{key}": values for key, values in asdict(objects).items()}


def _float(value: Any) -> float:
    return float("nan") if value == "" else float(value)


def _field_sizes(manifest: Manifest) -> dict[str, float]:
    """The area in mm2 that each image shows, where its file or a column `spacing_mm` (row,column) says."""
    found = {}
    for case in manifest.cases:
        told = case.facts.get("spacing_mm", "")
        scan = case.read()
        spacing = tuple(float(word) for word in told.split(",")) if told else scan.spacing
        if spacing is not None:
            found[case.name] = float(np.prod(scan.pixels.shape[2:]) * spacing[0] * spacing[1])
    return found


def _memory(setting: Setting, method: Method, explainer: Explainer) -> float:
    """MB at most in this process while one batch of test images is explained."""
    shape = setting.shape(explainer)

    def measured() -> float:
        images = load_batch(setting.part.test.cases[:BATCH], shape, setting.window)
        classifier = fitted(setting.classifier, shape)
        return peak_memory(lambda: explainer(classifier, images, setting.target, seed=setting.seed))

    return kept(setting.out / method.name / "memory.json", setting.key(explainer), measured)
