"""Wrappers that keep the classifier's promise: count its queries, take its gradients away, fit other sizes."""

import torch
from torch import Tensor

from counterscan.core import Classifier
from counterscan.data.fitting import fit_images


class Counting:
    """Counts the images asked of a classifier in `queries`."""

    def __init__(self, classifier: Classifier):
        self.classifier = classifier
        self.card = classifier.card
        self.differentiable = classifier.differentiable
        self.queries = 0

    def __call__(self, images: Tensor) -> Tensor:
        self.queries += len(images)
        return self.classifier(images)


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
