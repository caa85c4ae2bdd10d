"""What an attribution explains: one number for the evidence against the target, and its gradients."""

from collections.abc import Callable
from contextlib import nullcontext
from itertools import zip_longest

import torch
from torch import Tensor

from counterscan.classifiers.torch import forward_with_layers, torch_classifier
from counterscan.core import Classifier, Target
from counterscan.errors import ClassifierError, NeedsGradients
from counterscan.nets.precision import reduced


def evidence_against(target: Target, log_odds: Tensor, counted: Tensor | None = None) -> Tensor:
    """The evidence `(b,)` against the target: minus the signed log-odds, summed over the classes not yet as asked.

    For `tumour=0` it is the log-odds of the tumour, for `tumour=1` their negative: the map then shows what speaks for
    its absence. A class asked for at another probability counts with the sign of its distance from there. The sum, and
    not the `score` of all classes together, because the map shall show each of them and not only the worst; without
    the classes that are as asked already, which would only add noise, unless all of them are.

    Where an image is changed and asked again, `counted` keeps to the classes of the image itself: else a class that
    is reached on the way would leave the sum, and the evidence would jump.
    """
    counted = counted_classes(target, log_odds) if counted is None else counted
    return -(_signed(target, log_odds) * counted).sum(0)


def counted_classes(target: Target, log_odds: Tensor) -> Tensor:
    """Which of the classes asked for count as evidence, boolean `(wanted, b)`: those missed, or all if none is."""
    missed = (_signed(target, log_odds) <= 0).detach()
    return missed | ~missed.any(0)


def asker(classifier: Classifier, bfloat16: bool = False) -> Callable[[Tensor], Tensor]:
    """Log-odds `(b, k)` of many images, without gradients and as fast as the classifier allows.

    Two-dimensional images reach a torch module channels last, which rounds the answers anew and no more (1e-6 of
    them), unless the module cannot take them so. With `bfloat16` it is asked in that precision
    where the device has instructions for it.
    """
    last = _takes_channels_last(classifier)

    @torch.no_grad()
    def ask(images: Tensor) -> Tensor:
        with reduced(images.device) if bfloat16 else nullcontext():
            return classifier(_channels_last(images) if last else images).float()

    return ask


@torch.no_grad()
def ask_evidence(ask: Callable[[Tensor], Tensor], images: Tensor, target: Target, counted: Tensor) -> Tensor:
    """The evidence `(b,)` in log-odds that images `(b, c, *spatial)` hold against the target, by `asker` or a
    classifier."""
    return evidence_against(target, ask(images), counted)


@torch.no_grad()
def ask_counted(classifier: Classifier, images: Tensor, target: Target) -> Tensor:
    """The `counted_classes` `(wanted, b)` of images `(b, c, *spatial)`; one query an image."""
    return counted_classes(target, classifier(images))


def input_gradients(
    classifier: Classifier, images: Tensor, target: Target, counted: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The gradient `(b, c, *spatial)` of the evidence against the target in the pixels, and the evidence `(b,)`.

    In log-odds per unit of the image, whose range is [-1, 1]. Frozen parameters and a caller's `no_grad` do not
    matter, and no parameter's `.grad` is touched. An answer cut from its image raises ClassifierError.
    """
    with torch.inference_mode(False), torch.enable_grad():
        pixels = images.detach().clone().requires_grad_()
        y = evidence_against(target, classifier(pixels), counted)
        (gradient,) = torch.autograd.grad(y.sum(), pixels, allow_unused=True) if y.requires_grad else (None,)
    if gradient is None:
        raise ClassifierError(
            f"{classifier.card.name}: no gradient leads from the answer to the image; use one that needs none: rise"
        )
    return gradient.float(), y.detach()


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


def _signed(target: Target, log_odds: Tensor) -> Tensor:
    """For each class asked for, its log-odds `(wanted, b)` of being as asked."""
    return torch.stack([Target((one,)).score(log_odds) for one in target.wanted])


@torch.no_grad()
def _takes_channels_last(classifier: Classifier) -> bool:
    """Whether this is a torch module for two dimensions that works in that layout; a `view` inside may need another.

    It is tried on one blank image of the bare module, which counts as no query.
    """
    if len(classifier.card.shape) != 3:
        return False
    try:
        source = torch_classifier(classifier)
        source(_channels_last(torch.zeros(1, *source.card.shape)))
    except (NeedsGradients, ClassifierError):
        return False
    return True


def _channels_last(images: Tensor) -> Tensor:
    # not .contiguous(): one channel counts as both layouts there, and stays as it is
    return torch.empty_like(images, memory_format=torch.channels_last).copy_(images)
