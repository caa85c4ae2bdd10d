"""Autoencoders as codecs: images as latents of about unit deviation, in which a diffusion costs a fraction."""

from pathlib import Path

import torch
from torch import Tensor, nn

from counterscan.core import Card
from counterscan.errors import CounterscanError, WeightsError
from counterscan.nets.blocks import channels_last, fast_layout
from counterscan.nets.precision import reduced
from counterscan.priors.checkpoints import check_finite
from counterscan.priors.editor import BATCH
from counterscan.weights.store import load_weights

NETWORK = "autoencoder"


class AutoencoderCodec:
    """Encodes images `(b, c, H, W)` in [-1, 1] of its card's shape as latents `(b, *latents)`, and decodes them.

    The code is the mean of the posterior, so that an image has one. In bfloat16 inside and float32 outside, in chunks,
    and without gradients.
    """

    def __init__(self, module: nn.Module, card: Card):
        self.module, self.card = fast_layout(module), card
        factor, maps = int(module.reduction), int(module.latents)  # type: ignore[arg-type]
        self.latents = (maps, card.shape[1] // factor, card.shape[2] // factor)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Latents `(b, *latents)`, float32; CounterscanError where the images' shape is not the card's."""
        if tuple(images.shape[1:]) != self.card.shape:
            raise CounterscanError(
                f"{self.card.name} takes images of shape {self.card.shape}, these are {tuple(images.shape[1:])}; "
                "fit them to it first"
            )
        return self._chunked(self.module.encode, images)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Images `(b, c, H, W)` in [-1, 1]."""
        return self._chunked(self.module.decode, latents).clamp(-1, 1)

    def _chunked(self, one, values: Tensor) -> Tensor:
        with reduced(values.device):
            return torch.cat([one(channels_last(chunk)).float() for chunk in values.split(BATCH)])


def load_autoencoder(name: str | Path) -> AutoencoderCodec:
    """The codec of a shipped name (`chest/autoencoder`) or of a folder with a card.

    Raises WeightsError where it is none, where its weights are not finite, and where its card lacks the mean and the
    deviation of its latents.
    """
    module, card = load_weights(name, kind="codec")
    if card.network != NETWORK:
        raise WeightsError(f"{name} is a codec with the network {card.network!r}; {NETWORK!r} is needed")
    missing = [key for key in ("centre", "scale") if not card.settings.get(key)]
    if missing:
        raise WeightsError(f"the card of {name} lacks the {missing[0]} of its latents; train it with {NETWORK} again")
    check_finite(module, Path(name))
    return AutoencoderCodec(module, card)
