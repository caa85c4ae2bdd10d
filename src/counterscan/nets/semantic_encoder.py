"""A diffusion autoencoder (Preechakul et al., 2022, arXiv 2111.15640): a semantic encoder, and the denoiser it tells.

Changes to the paper: the encoder is a small residual network that reads place by place, where a mean over the image
would know which findings there are and not where; the denoiser is that of `nets/denoiser.py`, told level and code in
one condition instead of two.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterscan.nets.blocks import conv
from counterscan.nets.denoiser import DenoisingUNet
from counterscan.nets.resnet import ResNet


class SemanticEncoder(nn.Module):
    """Maps `(b, channels, h, w)` to rows `(b, latents)`: what the image shows, in a few numbers.

    What the last stage of `nets/resnet.py` sees is brought to `kept` channels at `places` x `places` and read by one
    linear layer, in float32 whatever the rest runs in: rounded codes would tell near images apart badly.
    """

    def __init__(
        self, channels: int, latents: int, widths: Sequence[int], depth: int = 1, kept: int = 32, places: int = 8
    ):
        super().__init__()
        self.places = places
        self.trunk = ResNet(channels, 1, widths, depth)
        del self.trunk.dropout, self.trunk.head
        self.keep = conv(widths[-1], kept, 1)
        self.head = nn.Linear(kept * places**2, latents)

    def forward(self, images: Tensor) -> Tensor:
        seen = F.relu(self.trunk.norm(self.trunk.features(images)[-1]))
        laid_out = F.adaptive_avg_pool2d(self.keep(seen), self.places).flatten(1)
        with torch.autocast(images.device.type, enabled=False):
            return self.head(laid_out.float())


class DiffusionAutoencoder(nn.Module):
    """Tells images `(b, channels, h, w)` in rows `(b, latents)`, and denoises images that it is told of in such rows.

    `centre` and `scale`, `latents` numbers each, are the mean and the deviation of the encoder's rows over the images
    it was trained on: with them rows are counted in deviations from the mean, without them (in training) as they are.
    They are kept in float32, not among the weights, which are rounded on disk. `h` and `w` must be divisible by
    `patch * 2 ** (len(widths) - 1)`.
    """

    centre: Tensor
    scale: Tensor

    def __init__(
        self,
        channels: int = 1,
        spread: float = 0.5,
        latents: int = 128,
        widths: Sequence[int] = (48, 96, 128, 128),
        patch: int = 4,
        conditions: int = 192,
        seeing: Sequence[int] = (16, 32, 64, 128),
        centre: Sequence[float] = (),
        scale: Sequence[float] = (),
    ):
        super().__init__()
        self.encoder = SemanticEncoder(channels, latents, seeing)
        self.denoiser = DenoisingUNet(channels, spread, widths, patch, conditions=conditions, semantics=latents)
        self.register_buffer("centre", _statistic("centre", centre, 0.0, latents), persistent=False)
        self.register_buffer("scale", _statistic("scale", scale, 1.0, latents), persistent=False)
        if (self.scale <= 0).any():
            raise ValueError("scale holds a number that is not positive")

    def encode(self, images: Tensor) -> Tensor:
        """The rows `(b, latents)` of images, float32."""
        return (self.encoder(images) - self.centre) / self.scale

    def forward(self, noisy: Tensor, sigma: Tensor, rows: Tensor) -> Tensor:
        """The clean estimate, see `DenoisingUNet`."""
        return self.denoiser(noisy, sigma, rows * self.scale + self.centre)


def _statistic(name: str, values: Sequence[float], otherwise: float, latents: int) -> Tensor:
    told = torch.tensor(values or [otherwise] * latents, dtype=torch.float32)
    if told.shape != (latents,) or not told.isfinite().all():
        raise ValueError(f"{name} holds {len(values)} numbers; {latents} finite ones are needed")
    return told
