"""Counterfactuals as a set, against real images of the class that was asked for, in the judge's features."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from counterscan.bench.setting import BATCH, Setting, fitted, kept
from counterscan.classifiers.features import feature_layer, features
from counterscan.core import Classifier
from counterscan.data.batches import load_batch
from counterscan.data.manifest import Case, Manifest
from counterscan.errors import CounterscanError
from counterscan.explainers.base import AttributionExplainer, Explainer
from counterscan.metrics.realism import FeatureStatistics, frechet_distance
from counterscan.metrics.validity import attempted
from counterscan.score import with_truth


def realism(setting: Setting, explainer: Explainer, test: Path) -> dict[str, Any]:
    """How far counterfactuals are, as a set, from real images of the target class; nothing for an attribution."""
    if isinstance(explainer, AttributionExplainer) or setting.judge is None:
        return {}
    key = [setting.key(explainer), setting.judge.card.sha256]
    path = test.with_name("frechet.json")
    try:
        return {"frechet": kept(path, key, lambda: _frechet(setting, explainer, test))}
    except CounterscanError as error:
        return {"frechet": {"note": str(error)}}


def _frechet(setting: Setting, explainer: Explainer, test: Path) -> dict[str, Any]:
    """The distances of counterfactuals, and of as many real test images, to the real validation images."""
    assert setting.judge is not None
    shape = setting.shape(explainer)
    judge = fitted(setting.judge, shape)
    layer = feature_layer(judge)
    real, other = (_at_target(setting, part) for part in (setting.part.validation, setting.part.test))
    fakes = _statistics(judge, layer, _counterfactuals(setting, test), len(other))
    reals = _statistics(judge, layer, _loaded(setting, real, shape), len(real))
    floor = _statistics(judge, layer, _loaded(setting, other, shape), fakes.n)
    if min(fakes.n, reals.n, floor.n) < 2:
        raise CounterscanError(
            f"{fakes.n} counterfactuals, {reals.n} and {floor.n} real images of the target class: too few to compare"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `short` says it in the table
        distances = {"value": frechet_distance(reals, fakes), "floor": frechet_distance(reals, floor)}
    short = fakes.short or reals.short
    return {**distances, "n": fakes.n, "n_real": reals.n, "features": len(reals.mean), "layer": layer, "short": short}


def _at_target(setting: Setting, manifest: Manifest) -> list[Case]:
    """The cases whose labels say that they show what is asked for."""
    classes = setting.classifier.card.classes
    wanted = {classes[index]: round(p) for index, p in setting.target.wanted}
    return [case for case in manifest.cases if all(case.labels.get(name) == value for name, value in wanted.items())]


def _counterfactuals(setting: Setting, test: Path) -> Iterator[torch.Tensor]:
    for _, explanation, _ in with_truth(test, setting.part.test, None):
        if explanation.counterfactual is not None:
            yield explanation.counterfactual[attempted(explanation)]


def _loaded(setting: Setting, cases: Sequence[Case], shape: tuple[int, ...]) -> Iterator[torch.Tensor]:
    for start in range(0, len(cases), BATCH):
        yield load_batch(cases[start : start + BATCH], shape, setting.window)


def _statistics(judge: Classifier, layer: str, batches: Iterator[torch.Tensor], most: int) -> FeatureStatistics:
    """Statistics of the first `most` images; features are dropped as soon as they are counted."""
    found = FeatureStatistics()
    for images in batches:
        images = images[: most - found.n]
        if len(images):
            found.add(features(judge, images, layer))
        if found.n >= most:
            break
    return found
