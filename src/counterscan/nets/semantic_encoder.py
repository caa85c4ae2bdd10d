"""A diffusion autoencoder (Preechakul et al., 2022, arXiv 2111.15640): a semantic encoder, and the denoiser it tells.

Changes to the paper: the code is a few small maps and not one row for the whole image, because 128 numbers know which
organ is seen and forget a lesion of ten pixels, and what the code forgets the noise keeps, where no step of the code
reaches it. Each map is normalised, and blurred by noise in training: what has to survive that is said with a margin,
and near codes mean near images. The encoder is a small residual network, and the denoiser that of `nets/denoiser.py`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterscan.nets.blocks import conv, statistic
from counterscan.nets.denoiser import DenoisingUNet
from counterscan.nets.resnet import ResNet

BLUR = 0.3  # deviations of a code's numbers: the noise that it has to survive in training


class SemanticEncoder(nn.Module):
    """Maps `(b, channels, h, w)` to `(b, latents, places, places)`: what the image shows where, in a few numbers.

    It reads the last two stages of `nets/resnet.py`, at the end in float32 whatever the rest runs in: rounded codes
    would tell near images apart badly. Over images and places each map has mean 0 and deviation 1.
    """

    def __init__(self, channels: int, latents: int, places: int, widths: Sequence[int], depth: int = 1):
        super().__init__()
        self.places = places
        self.trunk = ResNet(channels, 1, widths, depth)
        del self.trunk.dropout, self.trunk.head, self.trunk.norm
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[-2:])
        self.near = conv(sum(widths[-2:]), widths[-1])
        self.head = conv(widths[-1], latents, 1)
        self.scaled = nn.BatchNorm2d(latents, affine=False)

    def forward(self, images: Tensor) -> Tensor:
        stages = zip(self.norms, self.trunk.features(images)[-2:], strict=True)
        seen = [F.adaptive_avg_pool2d(F.relu(norm(stage)), self.places) for norm, stage in stages]
        seen_near = F.relu(self.near(torch.cat(seen, 1)))
        with torch.autocast(images.device.type, enabled=False):
            return self.scaled(self.head(seen_near.float()))


class DiffusionAutoencoder(nn.Module):
    """Tells images `(b, channels, h, w)` in rows `(b, d)`, and denoises images that it is told of in such rows.

    A row is `latents` maps of `places` x `places`, one after the other. `centre` and `scale`, a number a map each, are
    the mean and the deviation of the maps over the images it was trained on: with them rows are counted in deviations
    from the mean. They are kept in float32, not among the weights, which are rounded on disk. `h` and `w` must be
    divisible by `patch * 2 ** (len(widths) - 1)`.
    """

    centre: Tensor
    scale: Tensor

    def __init__(
        self,
        channels: int = 1,
        spread: float = 0.5,
        latents: int = 4,
        places: int = 16,
        widths: Sequence[int] = (48, 96, 128, 128),
        patch: int = 4,
        seeing: Sequence[int] = (16, 32, 64, 128),
        centre: Sequence[float] = (),
        scale: Sequence[float] = (),
    ):
        super().__init__()
        self.encoder = SemanticEncoder(channels, latents, places, seeing)
        self.denoiser = DenoisingUNet(channels, spread, widths, patch, semantics=latents)
        self.shape = (latents, places, places)
        self.register_buffer("centre", statistic("centre", centre, 0.0, latents), persistent=False)
        self.register_buffer("scale", statistic("scale", scale, 1.0, latents), persistent=False)
        if (self.scale <= 0).any():
            raise ValueError("scale holds a number that is not positive")

    def encode(self, images: Tensor) -> Tensor:
        """The rows `(b, d)` of images, float32; in training they are blurred, see `BLUR`."""
        maps = (self.encoder(images) - self.centre) / self.scale
        return (maps + BLUR * torch.randn_like(maps) if self.training else maps).flatten(1)

    def forward(self, noisy: Tensor, sigma: Tensor, rows: Tensor) -> Tensor:
        """The clean estimate, see `DenoisingUNet`."""
        return self.denoiser(noisy, sigma, rows.view(-1, *self.shape) * self.scale + self.centre)
