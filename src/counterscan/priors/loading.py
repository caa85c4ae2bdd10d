"""What a prior is asked for before it is used: that it is the one meant, that its numbers are, that images fit it."""

from pathlib import Path

import torch
from torch import Tensor, nn

from counterscan.core import Card
from counterscan.errors import CounterscanError, WeightsError
from counterscan.weights.store import load_weights


def load_own(name: str | Path, kind: str, network: str, *needed: str) -> tuple[nn.Module, Card]:
    """The network and the card of a shipped name or of a folder with a card, of this `kind` and `network`.

    Raises WeightsError where it is another, where its card lacks one of the settings `needed`, and where its weights
    are not finite.
    """
    module, card = load_weights(name, kind=kind)
    if card.network != network:
        raise WeightsError(f"{name} is a {kind} with the network {card.network!r}; {network!r} is needed")
    missing = [key for key in needed if not card.settings.get(key)]
    if missing:
        raise WeightsError(f"the card of {name} lacks the setting {missing[0]!r}; train it with {network} again")
    check_finite(module, Path(name))
    return module, card


def check_finite(module: nn.Module, folder: Path) -> None:
    """Raise WeightsError where a weight is NaN or infinite: nothing that comes out of it would be a number."""
    if not all(bool(torch.isfinite(value).all()) for value in module.state_dict().values()):
        raise WeightsError(f"{folder} holds weights that are not finite; train it again with a lower learning rate")


def check_shape(images: Tensor, card: Card, verb: str = "takes") -> None:
    """Raise CounterscanError where images `(b, c, h, w)` are not of the card's shape."""
    given = tuple(images.shape[1:])
    if given != card.shape:
        raise CounterscanError(
            f"{card.name} {verb} images of shape {card.shape}, these are {given}; fit them to it first"
        )
