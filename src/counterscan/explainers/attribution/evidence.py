"""What an attribution explains: one number for the evidence against the target, and its gradient at a layer."""

from itertools import zip_longest

import torch
from torch import Tensor

from counterscan.classifiers.torch import forward_with_layers
from counterscan.core import Classifier, Target
from counterscan.errors import ClassifierError


def evidence_against(target: Target, log_odds: Tensor) -> Tensor:
    """The evidence `(b,)` against the target: minus the signed log-odds, summed over the classes not yet as asked.

    For `tumour=0` it is the log-odds of the tumour, for `tumour=1` their negative: the map then shows what speaks for
    its absence. A class asked for at another probability counts with the sign of its distance from there. The sum, and
    not the `score` of all classes together, because the map shall show each of them and not only the worst; without
    the classes that are as asked already, which would only add noise, unless all of them are.
    """
    signed = torch.stack([Target((one,)).score(log_odds) for one in target.wanted])
    missed = (signed <= 0).detach()
    return -(signed * (missed | ~missed.any(0))).sum(0)


def activations_and_gradients(
    classifier: Classifier, images: Tensor, target: Target, *layers: str
) -> list[tuple[Tensor, Tensor]]:
    """For each layer its activation A and dy/dA, both `(b, channels, *spatial)`, y the evidence against the target.

    Gradients reach the layers and nothing else: no parameter's `.grad` is touched.
    """
    with torch.inference_mode(False), torch.enable_grad():
        activations, log_odds = forward_with_layers(classifier, images, layers)
        y = evidence_against(target, log_odds).sum()
        gradients = torch.autograd.grad(y, activations, allow_unused=True) if y.requires_grad else ()
    found = []
    for layer, activation, gradient in zip_longest(layers, activations, gradients):
        if gradient is None:
            raise ClassifierError(
                f"{classifier.card.name}: layer {layer!r} has no part in the answer; choose another layer"
            )
        found.append((activation.detach().float(), gradient.float()))
    return found
