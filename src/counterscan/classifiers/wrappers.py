"""Wrappers that keep the classifier's promise: count its queries, take its gradients away, fit other sizes."""

from typing import Any

import torch
from torch import Tensor

from counterscan.core import Classifier
from counterscan.data.fitting import fit_images


class Counting:
    """Counts in `queries` the images that a classifier is shown; `Averaged` sees each several times."""

    def __init__(self, classifier: Classifier):
        self.classifier = classifier
        self.card = classifier.card
        self.differentiable = classifier.differentiable
        self.queries = 0
        self._views = _views(classifier)

    def __call__(self, images: Tensor) -> Tensor:
        self.queries += len(images) * self._views
        return self.classifier(images)


def _views(classifier: Any) -> int:
    """How often a classifier, whatever wraps it, looks at an image to answer it once."""
    views = getattr(classifier, "views", 1)
    return views * _views(classifier.classifier) if hasattr(classifier, "classifier") else views


class BlackBox:
    """Cuts gradients, so that nobody can take them by accident."""

    differentiable = False

    def __init__(self, classifier: Classifier):
        self.classifier = classifier
        self.card = classifier.card

    def __call__(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return self.classifier(images.detach())


class Fitted:
    """Lets a classifier take images of another size or channel count: one antialiased, differentiable adapter.

    Its card is the classifier's with the new `shape`.
    """

    def __init__(self, classifier: Classifier, shape: tuple[int, ...]):
        self.classifier = classifier
        self.card = classifier.card.model_copy(update={"shape": tuple(shape)})
        self.differentiable = classifier.differentiable

    def __call__(self, images: Tensor) -> Tensor:
        return self.classifier(fit_images(images, self.classifier.card.shape))
