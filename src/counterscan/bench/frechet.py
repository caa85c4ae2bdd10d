"""Counterfactuals as a set, against real images of the class that was asked for, in the judge's features."""

import random
from pathlib import Path
from typing import Any

from counterscan.bench.setting import Setting, kept
from counterscan.classifiers.features import Extractor, feature_layer
from counterscan.errors import CounterscanError
from counterscan.explainers.base import AttributionExplainer, Explainer
from counterscan.metrics.populations import Explained, at_labels, case_samples, drawn, wanted_labels
from counterscan.metrics.sets import compare


def realism(setting: Setting, explainer: Explainer, test: Path) -> dict[str, Any]:
    """How far counterfactuals are, as a set, from real images of the target class; nothing for an attribution."""
    if isinstance(explainer, AttributionExplainer) or setting.judge is None:
        return {}
    key = [setting.key(explainer), setting.judge.card.sha256, "sets"]
    path = test.with_name("frechet.json")
    try:
        return {"frechet": kept(path, key, lambda: _compared(setting, explainer, test))}
    except CounterscanError as error:
        return {"frechet": {"note": str(error)}}


def _compared(setting: Setting, explainer: Explainer, test: Path) -> dict[str, Any]:
    """The distances of counterfactuals, and of as many real test images, to the real validation images."""
    assert setting.judge is not None
    extractor, shape, made = Extractor.of(setting.judge), setting.shape(explainer), Explained.of(test)
    labels = wanted_labels(setting.target, setting.classifier.card.classes)
    real, other = (at_labels(part, labels) for part in (setting.part.validation, setting.part.test))
    n = min(made.n, len(other))
    floor = random.Random(setting.seed).sample(other, n)
    found = compare(
        drawn(made.samples(extractor), n, made.n, setting.seed),
        case_samples(real, extractor, shape, setting.window),
        case_samples(floor, extractor, shape, setting.window),
        extractor.name,
    )
    return {
        "value": found.figures["frechet_distance"].value,
        "floor": found.floor["frechet_distance"].value,
        "layer": feature_layer(setting.judge),
        **found.to_dict(),
    }
