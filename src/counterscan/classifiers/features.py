"""What a network sees of an image before it answers: the features that sets of images are compared by."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn

from counterscan.classifiers.torch import candidate_layers, find_layer, torch_classifier
from counterscan.core import Classifier
from counterscan.data.fitting import fit_images
from counterscan.errors import CounterscanError


def feature_layer(classifier: Classifier) -> str:
    """Where the features of a network are taken by default, by the module's name.

    It is the last linear layer, whose input they are; a network without one gives its last layer with a map. Raises
    NeedsGradients for what is no torch module: it cannot be looked into.
    """
    linear = [name for name, part in torch_classifier(classifier).module.named_modules() if isinstance(part, nn.Linear)]
    return linear[-1] if linear else candidate_layers(classifier)[-1].name


@torch.no_grad()
def features(classifier: Classifier, images: Tensor, layer: str = "") -> Tensor:
    """The features `(b, d)` of `images`: what enters a linear `layer`, or what leaves any other, maps averaged.

    `layer` is a module's name or a resolution, see `find_layer`; `""` is `feature_layer`. Wrappers around the
    classifier stay in force, so that sizes are fitted.
    """
    module = torch_classifier(classifier).module
    name = layer or feature_layer(classifier)
    name = name if name in dict(module.named_modules()) else find_layer(classifier, name)
    caught: list[Tensor] = []

    def before(_module: nn.Module, inputs: Any) -> None:
        caught.append(inputs[0])

    def after(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        caught.append(output)

    part = module.get_submodule(name)
    linear = isinstance(part, nn.Linear)
    handle = part.register_forward_pre_hook(before) if linear else part.register_forward_hook(after)
    try:
        classifier(images)
    finally:
        handle.remove()
    seen = torch.cat(caught).float()
    return seen.flatten(2).mean(2) if seen.ndim > 2 else seen


def _fitted_features(classifier: Classifier, layer: str, images: Tensor) -> Tensor:
    return features(classifier, fit_images(images, classifier.card.shape), layer)


@dataclass(frozen=True)
class Extractor:
    """A function from images `(b, c, *spatial)` in [-1, 1] to features `(b, d)`, and the `name` that tells whose.

    Figures that were taken with different extractors cannot be compared; so each carries the name.
    """

    name: str
    function: Callable[[Tensor], Tensor]

    @classmethod
    def of(cls, classifier: Classifier, layer: str = "") -> Self:
        """What `features` takes from a classifier, to whose size and channels images are fitted.

        The name says the classifier's, the layer, and which weights where that is known.
        """
        card, layer = classifier.card, layer or feature_layer(classifier)
        weights = f" ({card.sha256[:12]})" if card.sha256 else ""
        function = partial(_fitted_features, classifier, layer)
        return cls(f"{card.name}, layer {layer}{weights}", function)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Features `(b, d)` in float32; CounterscanError for what is no finite row per image."""
        found = self.function(images)
        if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(images):
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise CounterscanError(f"{self.name} gave {got} for {len(images)} images; return one row of features each")
        if not torch.isfinite(found).all():
            raise CounterscanError(f"{self.name} gave NaN or infinity; check its weights and the images")
        return found.detach().float().cpu()
