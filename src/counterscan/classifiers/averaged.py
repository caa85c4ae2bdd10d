"""A classifier that answers the mean over flipped and shifted views of each image (test-time averaging)."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from counterscan.classifiers.answers import from_scores, to_scores
from counterscan.core import Classifier
from counterscan.errors import ClassifierError


class Averaged:
    """Answers the mean log-odds over views of each image; differentiable where the classifier is.

    `flips` names the axes that are flipped, counted from the end (-1: left and right; -2: up and down), each
    combination one view; with a `shift` of s pixels each of these is also moved by s and by -s along every axis, its
    border repeated. `views` says how many that makes: Counting counts them all, and memory grows by as much. Of a
    softmax the log-probabilities are averaged, so that its probabilities still sum to 1. The layers inside are not for
    class activation maps: each of them sees every view. Raises ClassifierError for an axis that images lack.
    """

    def __init__(self, classifier: Classifier, flips: tuple[int, ...] = (-1,), shift: int = 0):
        self.classifier = classifier
        self.card = classifier.card
        self.differentiable = classifier.differentiable
        self.flips = tuple(flips)
        self.shift = shift
        self._check()
        self.views = 2 ** len(self.flips) * (1 + 2 * self._dims * bool(shift))

    def __call__(self, images: Tensor) -> Tensor:
        answers = self.classifier(torch.cat(list(self._looks(images))))
        scores = to_scores(answers, self.card).unflatten(0, (self.views, len(images)))
        return from_scores(scores.mean(0), self.card)

    @property
    def _dims(self) -> int:
        return len(self.card.shape) - 1

    def _check(self) -> None:
        known = range(-self._dims, 0)
        if len(set(self.flips)) < len(self.flips) or not set(self.flips) <= set(known):
            raise ClassifierError(f"{self.card.name} can be flipped along {list(known)}, each once, not {self.flips}")
        smallest = min(self.card.shape[1:])
        if not 0 <= self.shift < smallest:
            raise ClassifierError(f"{self.card.name} can be shifted by 0 to {smallest - 1} pixels, not {self.shift}")

    def _looks(self, images: Tensor) -> Iterator[Tensor]:
        """The views, the images themselves first."""
        for chosen in product((False, True), repeat=len(self.flips)):
            axes = [axis for axis, flip in zip(self.flips, chosen, strict=True) if flip]
            flipped = images.flip(axes) if axes else images
            yield flipped
            yield from self._moved(flipped)

    def _moved(self, images: Tensor) -> Iterator[Tensor]:
        if not self.shift:
            return
        wide = F.pad(images, [self.shift] * 2 * self._dims, mode="replicate")
        for axis, start in product(range(-self._dims, 0), (0, 2 * self.shift)):
            starts = [start if other == axis else self.shift for other in range(-self._dims, 0)]
            sides = zip(starts, images.shape[2:], strict=True)
            window: Any = (..., *(slice(low, low + side) for low, side in sides))
            yield wide[window]
