"""An autoencoder for latent diffusion (Rombach et al., 2022, arXiv 2112.10752): an image as a few small maps, and back.

Changes to the paper: no attention, narrow widths, and pixels unshuffled instead of levels at full size, so that two
cores train it; grey images first.
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from counterscan.nets.blocks import conv, statistic, zeroed

QUIETEST, LOUDEST = -20.0, 4.0  # of ln(variance)


class ResidualBlock(nn.Module):
    """Norm, SiLU, conv, twice, beside the input; starts as the identity."""

    def __init__(self, width: int):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, width), conv(width, width)
        self.norm2, self.conv2 = nn.GroupNorm(8, width), zeroed(conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))


class Autoencoder(nn.Module):
    """Images `(b, channels, h, w)` in [-1, 1] as latents `(b, latents, h', w')`, and back.

    `patch` pixels an edge become channels first; `widths` are the channels at h / patch, half of that, and so on, down
    to h'; `depth` is the number of residual blocks at each, with one
    more on the way back. Latents are counted in deviations from the mean of the images it was trained on, by `centre`
    and `scale`, a number a map each, which are kept in float32 in its card.
    """

    centre: Tensor
    scale: Tensor

    def __init__(
        self,
        channels: int = 1,
        latents: int = 4,
        widths: Sequence[int] = (64,),
        patch: int = 4,
        depth: int = 3,
        centre: Sequence[float] = (),
        scale: Sequence[float] = (),
    ):
        super().__init__()
        self.latents, self.reduction = latents, patch * 2 ** (len(widths) - 1)
        self.register_buffer("centre", statistic("centre", centre, 0.0, latents), persistent=False)
        self.register_buffer("scale", statistic("scale", scale, 1.0, latents), persistent=False)
        if (self.scale <= 0).any():
            raise ValueError("scale holds a number that is not positive")
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(patch),
            conv(channels * patch**2, widths[0]),
            *_blocks(widths[0], depth),
            *(layer for inner, outer in pairwise(widths) for layer in _narrower(inner, outer, depth)),
            *_said(widths[-1], 2 * latents),
        )
        self.decoder = nn.Sequential(
            conv(latents, widths[-1]),
            *_blocks(widths[-1], depth + 1),
            *(layer for inner, outer in pairwise(widths[::-1]) for layer in _wider(inner, outer, depth + 1)),
            *_said(widths[0], channels * patch**2),
            nn.PixelShuffle(patch),
        )

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and ln(variance) of the latents of images, in the network's own units."""
        mean, spread = self.encoder(images).float().chunk(2, 1)
        return mean, spread.clamp(QUIETEST, LOUDEST)

    def encode(self, images: Tensor) -> Tensor:
        """The mean of the posterior `(b, latents, h', w')`, float32: the same image has one code."""
        return (self.posterior(images)[0] - self.centre) / self.scale

    def decode(self, latents: Tensor) -> Tensor:
        """Images `(b, channels, h, w)`, not clamped."""
        return self.decoder(latents * self.scale + self.centre)

    def forward(self, images: Tensor) -> Tensor:
        """Images from the means of their codes."""
        return self.decode(self.encode(images))


def _blocks(width: int, count: int) -> list[nn.Module]:
    return [ResidualBlock(width) for _ in range(count)]


def _narrower(inner: int, outer: int, depth: int) -> list[nn.Module]:
    return [nn.AvgPool2d(2), conv(inner, outer), *_blocks(outer, depth)]


def _wider(inner: int, outer: int, depth: int) -> list[nn.Module]:
    return [conv(inner, outer), nn.Upsample(scale_factor=2, mode="nearest"), *_blocks(outer, depth)]


def _said(width: int, outputs: int) -> list[nn.Module]:
    return [nn.GroupNorm(8, width), nn.SiLU(), conv(width, outputs)]
