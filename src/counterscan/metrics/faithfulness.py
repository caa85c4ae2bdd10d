"""Do the pixels that a map marks carry the answer? They are taken away, or put back, in the map's own order.

Petsiuk et al., RISE, BMVC 2018 (arXiv 1806.07421): deletion and insertion.

Changes: what stands where a pixel is taken away is stated and has a size of its own (`deletion` the mean, `insertion` a
blur, `counterfactual_deletion` the counterfactual), the probability is that of the target being missed, and equal
pixels follow one another in an order drawn once, not from the top of the image down.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from counterscan.classifiers.wrappers import Fitted
from counterscan.core import Classifier, Explanation, Target
from counterscan.explainers.attribution.substrate import substrate
from counterscan.metrics.truth import undefined, where
from counterscan.metrics.validity import attempted, translate
from counterscan.registry import METRICS

STEPS = 32  # equal parts of the pixels, so 33 answers a curve
BATCH = 16  # images asked at once, and held changed

Fill = Callable[[Tensor], Tensor]  # from images to what stands in their pixels' place


@METRICS.register("deletion")
def deletion(explanation: Explanation, *, classifier: Classifier | None = None, judge=None, truth=None) -> Tensor:
    """Area `(b,)` under P(target missed) as pixels give way to the image's mean, most marked first; lower is better.

    In [0, 1]; nan without the classifier, and where the image already answered as asked.
    """
    return _area(explanation, classifier, lambda images: substrate(images, "mean"), inserted=False)


@METRICS.register("insertion")
def insertion(explanation: Explanation, *, classifier: Classifier | None = None, judge=None, truth=None) -> Tensor:
    """Area `(b,)` under P(target missed) as pixels return into the blurred image, most marked first; higher is better.

    In [0, 1]; nan without the classifier, and where the image already answered as asked.
    """
    return _area(explanation, classifier, lambda images: substrate(images, "blur"), inserted=True)


@METRICS.register("counterfactual_deletion")
def counterfactual_deletion(
    explanation: Explanation, *, classifier: Classifier | None = None, judge=None, truth=None
) -> Tensor:
    """Area `(b,)` under P(target missed) as pixels turn into the counterfactual's, most changed first; lower is better.

    No pixel leaves what the prior holds for an image, as grey does. In [0, 1]; nan without a counterfactual, without
    the classifier, and where the image already answered as asked.
    """
    counterfactual = explanation.counterfactual
    if counterfactual is None:
        return undefined(explanation)
    return _area(explanation, classifier, lambda images: counterfactual, inserted=False)


def curve(
    classifier: Classifier,
    images: Tensor,
    heatmap: Tensor,
    target: Target,
    instead: Tensor,
    *,
    inserted: bool = False,
    steps: int = STEPS,
) -> Tensor:
    """The log-odds `(b, steps + 1)` that the target is missed, from no pixel replaced to all of them.

    `images` and `instead`, what stands where a pixel is taken away, are `(b, c, *spatial)` in [-1, 1]; `heatmap`
    `(b, 1, *spatial)` says the order, largest first. `inserted` begins with `instead` and puts the image's pixels
    back. One step of `BATCH` images is held at a time: memory does not grow with `steps`.
    """
    parts = zip(images.split(BATCH), heatmap.split(BATCH), instead.split(BATCH), strict=True)
    return torch.cat([_curve(classifier, *part, target, inserted, steps) for part in parts])


def area(answers: Tensor) -> Tensor:
    """The area `(b,)` under curves `(b, steps + 1)` by the trapezoid rule, along an axis from 0 to 1."""
    return torch.trapezoid(answers, dx=1 / (answers.shape[1] - 1), dim=1)


def ranks(heatmap: Tensor) -> Tensor:
    """The place `(b, pixels)` of each pixel of a map `(b, 1, *spatial)`, 0 the largest; ties in an order drawn once."""
    flat = heatmap.flatten(1)
    drawn = torch.randperm(flat.shape[1], generator=torch.Generator().manual_seed(0)).to(flat.device)
    order = drawn[flat[:, drawn].argsort(dim=1, descending=True, stable=True)]
    return order.argsort(dim=1)


@torch.no_grad()
def _curve(
    classifier: Classifier, images: Tensor, heatmap: Tensor, instead: Tensor, target: Target, inserted: bool, steps: int
) -> Tensor:
    place = ranks(heatmap).view(len(images), 1, *images.shape[2:])
    pixels = place[0].numel()
    start, end = (instead, images) if inserted else (images, instead)
    answers = []
    for step in range(steps + 1):
        changed = torch.where(place < round(pixels * step / steps), end, start)
        answers.append(-target.score(classifier(changed).float()))
    return torch.stack(answers, 1)


def _area(explanation: Explanation, classifier: Classifier | None, fill: Fill, *, inserted: bool) -> Tensor:
    asked = attempted(explanation)
    if classifier is None or not asked.any():
        return undefined(explanation)
    classes = tuple(explanation.meta.get("classes", classifier.card.classes))
    target = translate(explanation.target, classes, classifier.card)
    fitted = Fitted(classifier, tuple(explanation.images.shape[1:]))
    images, heatmap = explanation.images, explanation.heatmap
    answers = curve(fitted, images, heatmap, target, fill(images), inserted=inserted)
    return where(asked, area(answers.sigmoid()))
