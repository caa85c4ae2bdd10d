"""What a network sees of an image before it answers: the features that sets of images are compared by."""

from typing import Any

import torch
from torch import Tensor, nn

from counterscan.classifiers.torch import candidate_layers, find_layer, torch_classifier
from counterscan.core import Classifier


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
