"""A classifier whose weights are drawn anew, layer by layer, and put back: does an explanation notice?

Adebayo et al., Sanity Checks for Saliency Maps, 2018, arXiv 1810.03292.

Changes: weights are drawn from a normal distribution with the root mean square that they had, and what has one axis
(biases, norms) is shuffled, so that no layer's own way to begin need be known and activations keep their scale.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn

from counterscan.classifiers.torch import torch_classifier
from counterscan.core import Classifier
from counterscan.errors import NeedsGradients


def weight_groups(classifier: Classifier, groups: int = 4) -> list[tuple[str, ...]]:
    """The names of the modules that own weights, from the answer back to the image, in at most `groups` groups.

    The first group is the last layer with a matrix of weights and what follows it; the others share the rest evenly.
    Modules count in the order in which they were defined, which in most networks is the order in which they run.
    Raises NeedsGradients for a black box, and for a module that was exported without its weights.
    """
    owners = _owners(torch_classifier(classifier).module)
    matrices = [place for place, (_, part) in enumerate(owners) if _has_matrix(part)]
    if not matrices:
        raise NeedsGradients(
            f"{classifier.card.name} holds no weights that could be drawn anew; give the module itself"
        )
    names = [name for name, _ in owners]
    head, body = names[matrices[-1] :], names[: matrices[-1]][::-1]
    count = min(groups - 1, len(body))
    cuts = [round(len(body) * part / count) for part in range(count + 1)] if count else []
    return [tuple(head), *(tuple(body[low:high]) for low, high in pairwise(cuts))]


@contextmanager
def randomised(classifier: Classifier, names: Sequence[str], seed: int = 0) -> Iterator[Classifier]:
    """The same classifier with the weights of the modules `names` drawn anew inside the block; afterwards as it was.

    `names` are from `weight_groups`. Wrappers stay in force. Not for several threads at once.
    """
    module = torch_classifier(classifier).module
    kept: list[tuple[Tensor, Tensor]] = []
    generator = torch.Generator().manual_seed(seed)
    try:
        with torch.no_grad():
            for name in names:
                for weights in module.get_submodule(name).parameters(recurse=False):
                    kept.append((weights, weights.detach().clone()))
                    weights.copy_(_drawn(weights, generator))
        yield classifier
    finally:
        with torch.no_grad():
            for changed, before in reversed(kept):  # a tensor that two modules share is kept twice
                changed.copy_(before)


def _owners(module: nn.Module) -> list[tuple[str, nn.Module]]:
    named = module.named_modules()
    return [(name, part) for name, part in named if next(part.parameters(recurse=False), None) is not None]


def _has_matrix(part: nn.Module) -> bool:
    return any(weights.ndim > 1 for weights in part.parameters(recurse=False))


def _drawn(weights: Tensor, generator: torch.Generator) -> Tensor:
    if weights.ndim > 1:
        size = weights.float().square().mean().sqrt()
        return torch.randn(weights.shape, generator=generator).to(weights.device) * size
    return weights[torch.randperm(weights.numel(), generator=generator).to(weights.device)] if weights.ndim else weights
