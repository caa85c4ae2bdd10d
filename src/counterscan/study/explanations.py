"""The panels that stand beside an image in the lesion task: counterfactual and signed difference, or a heat map."""

from collections.abc import Iterable
from itertools import islice

import numpy as np

from counterscan.pictures import DARK, HEAT, LIMITS, colours
from counterscan.study.pictures import Form, fitted
from counterscan.study.sources import Source

SAMPLE = 60  # cases that the scale of colours is fitted to
Panel = tuple[str, np.ndarray]  # what is shown, and its pixels (c, h, w) in [0, 1]


def panels(source: Source, form: Form, limit: float) -> list[Panel]:
    """What stands beside an image `source` that was explained; `limit` is the end of the colour scale."""
    level = evidence(source, form) / limit
    changed = source.counterfactual("")
    if changed is not None:
        shades = colours(level / 2 + 0.5, DARK)
        return [("counterfactual", fitted(changed.plane(), form)), ("difference", np.moveaxis(shades, -1, 0) / 255)]
    level = np.clip(level, 0, 1)
    opacity = np.clip(level * 1.6, 0, 0.85)  # faint evidence lets the anatomy through
    image, heat = fitted(source.plane(), form), np.moveaxis(colours(level, HEAT), -1, 0) / 255
    return [("heat", image * (1 - opacity) + heat * opacity)]


def evidence(source: Source, form: Form) -> np.ndarray:
    """The signed change `(h, w)` of a counterfactual as a share of the window, or an attribution's map."""
    changed = source.counterfactual("")
    if changed is not None:
        return (fitted(changed.plane(), form) - fitted(source.plane(), form)).mean(0)
    from safetensors import safe_open

    assert source.folder is not None, "only explained images have evidence"
    with safe_open(source.folder / "explanation.safetensors", "numpy") as tensors:
        heat = tensors.get_slice("heatmap")
        one = round(source.height * (heat.get_shape()[0] - 1))
        return fitted(heat[one : one + 1][0].astype(np.float32), form)[0]


def limit_for(sources: Iterable[Source], form: Form) -> float:
    """The end of one colour scale for all: the least of the usual that most of the evidence stays below."""
    peaks = [float(np.quantile(np.abs(evidence(source, form)), 0.999)) for source in islice(sources, SAMPLE)]
    largest = float(np.quantile(peaks, 0.9)) if peaks else LIMITS[-1]
    return next((limit for limit in LIMITS if limit >= largest), largest)
