"""The counterfactual against the truth: the same anatomy without the disease, and the place where the lesion is."""

from torch import Tensor

from counterscan.core import Explanation
from counterscan.metrics.truth import Truth, undefined, where
from counterscan.registry import METRICS

INFLUENCE = 0.01  # share of the window by which image and twin must differ for a pixel to count as influenced
LEAST = 0.001  # share of the window: a smaller mean change inside the lesion counts as this in outside_inside_ratio


@METRICS.register("twin_ratio")
def twin_ratio(explanation: Explanation, *, classifier=None, judge=None, truth: Truth | None = None) -> Tensor:
    """How far `(b,)` the counterfactual is from the twin, over how far the image was; nan without a lesion or a twin.

    Both are means of absolute differences inside the lesion's influence, where image and twin differ by more than
    `INFLUENCE`: 0 is the twin itself, 1 what doing nothing gets, more is worse than nothing.
    """
    if explanation.counterfactual is None or truth is None or truth.twin is None:
        return undefined(explanation)
    return twin_distance(explanation.counterfactual, explanation.images, truth.twin)


def twin_distance(counterfactuals: Tensor, images: Tensor, twins: Tensor) -> Tensor:
    """The twin ratio `(b,)` of plain tensors `(b, c, *spatial)` in [-1, 1]."""
    lesion = (images - twins).abs().flatten(1)
    inside = lesion > 2 * INFLUENCE  # the window is 2 wide in [-1, 1]
    left = (counterfactuals - twins).abs().flatten(1)
    return where(inside.any(1), (left * inside).sum(1) / (lesion * inside).sum(1))


@METRICS.register("outside_inside_ratio")
def outside_inside_ratio(
    explanation: Explanation, *, classifier=None, judge=None, truth: Truth | None = None
) -> Tensor:
    """Mean change outside the lesion's mask over the mean change inside `(b,)`; nan without lesion or any change.

    A change inside below `LEAST` of the window counts as `LEAST`, so that one missed lesion does not make the mean
    of a set infinite.
    """
    difference = explanation.difference
    if difference is None or truth is None or truth.mask is None:
        return undefined(explanation)
    change = difference.abs().mean(1).flatten(1) / 2
    mask = truth.mask.flatten(1)
    inside = (change * mask).sum(1) / mask.sum(1)
    outside = (change * ~mask).sum(1) / (~mask).sum(1).clamp_min(1)
    return where(mask.any(1) & (change.sum(1) > 0), outside / inside.clamp_min(LEAST))
