"""Where the map points, against the lesion's mask. Images without a lesion are scored apart, never counted as hits.

Masks are those that a user gets: an image that already answered as asked has none, whatever its map (`mask_of`). A
lesion that the classifier did not see is thus a miss. `auprc` and `pointing_game` read the map itself.
"""

from collections.abc import Callable

import numpy as np
from torch import Tensor

from counterscan.core import Explanation
from counterscan.metrics.masks import mask_of
from counterscan.metrics.truth import Truth, undefined, where
from counterscan.registry import METRICS


@METRICS.register("iou")
def iou(explanation: Explanation, *, classifier=None, judge=None, truth: Truth | None = None) -> Tensor:
    """Intersection over union `(b,)` of the explanation's mask (its rule) and the lesion; nan without a lesion."""
    return _overlap(explanation, truth, lambda hits, predicted, area: hits / (predicted + area - hits))


@METRICS.register("dice")
def dice(explanation: Explanation, *, classifier=None, judge=None, truth: Truth | None = None) -> Tensor:
    """Dice coefficient `(b,)` of the explanation's mask (its rule) and the lesion; nan without a lesion."""
    return _overlap(explanation, truth, lambda hits, predicted, area: 2 * hits / (predicted + area))


@METRICS.register("auprc")
def auprc(explanation: Explanation, *, classifier=None, judge=None, truth: Truth | None = None) -> Tensor:
    """Average precision `(b,)` of the map's pixels as scores for the lesion's, ties exact; nan without one."""
    return _each_lesion(explanation, truth, _average_precision)


@METRICS.register("pointing_game")
def pointing_game(explanation: Explanation, *, classifier=None, judge=None, truth: Truth | None = None) -> Tensor:
    """Whether `(b,)` the map's maximum lies in the lesion: with ties the share of the maxima that do."""
    return _each_lesion(explanation, truth, lambda heat, mask: float(mask[heat == heat.max()].mean()))


@METRICS.register("healthy_mask_share")
def healthy_mask_share(explanation: Explanation, *, classifier=None, judge=None, truth: Truth | None = None) -> Tensor:
    """Whether `(b,)` an image without any lesion gets a mask all the same; nan for images with one."""
    if truth is None or truth.diseased is None:
        return undefined(explanation)
    masked = mask_of(explanation).flatten(1).any(1)
    return where(~truth.diseased, masked)


def _overlap(explanation: Explanation, truth: Truth | None, formula: Callable) -> Tensor:
    if truth is None or truth.mask is None:
        return undefined(explanation)
    predicted = mask_of(explanation).flatten(1)
    mask = truth.mask.flatten(1)
    hits = (predicted & mask).sum(1)
    return where(mask.any(1), formula(hits.double(), predicted.sum(1), mask.sum(1)))


def _each_lesion(explanation: Explanation, truth: Truth | None, score: Callable[[np.ndarray, np.ndarray], float]):
    values = undefined(explanation)
    if truth is None or truth.mask is None:
        return values
    heatmaps = explanation.heatmap.detach().float().cpu().flatten(1).numpy()
    for index, mask in enumerate(truth.mask.cpu().flatten(1).numpy()):
        if mask.any():
            values[index] = score(heatmaps[index], mask)
    return values


def _average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Sum of precision times the step in recall, over the distinct scores from high to low."""
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], positive[order].cumsum()
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))  # tied pixels enter together
    precision = hits[last] / (last + 1)
    recall = hits[last] / hits[-1]
    return float((np.diff(recall, prepend=0.0) * precision).sum())
