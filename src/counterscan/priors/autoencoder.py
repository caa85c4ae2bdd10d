"""Autoencoders as codecs: images as latents of about unit deviation, in which a diffusion costs a fraction."""

from pathlib import Path

import torch
from torch import Tensor, nn

from counterscan.core import Card
from counterscan.nets.blocks import channels_last, fast_layout
from counterscan.nets.precision import reduced
from counterscan.priors.editor import BATCH
from counterscan.priors.loading import check_shape, load_own

NETWORK = "autoencoder"


class AutoencoderCodec:
    """Encodes images `(b, c, H, W)` in [-1, 1] of its card's shape as latents `(b, *latents)`, and decodes them.

    The code is the mean of the posterior, so that an image has one. In reduced precision inside and float32 outside,
    in chunks, and without gradients.
    """

    def __init__(self, module: nn.Module, card: Card):
        self.module, self.card = fast_layout(module), card
        factor, maps = int(module.reduction), int(module.latents)  # type: ignore[arg-type]
        self.latents = (maps, card.shape[1] // factor, card.shape[2] // factor)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Latents `(b, *latents)`, float32; CounterscanError where the images' shape is not the card's."""
        check_shape(images, self.card)
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
    module, card = load_own(name, "codec", NETWORK, "centre", "scale")
    return AutoencoderCodec(module, card)
