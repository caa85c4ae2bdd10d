"""A projection discriminator with spectral norm (Miyato and Koyama, 2018, arXiv 1802.05637) that answers per patch."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from counterscan.nets.blocks import conv


class Discriminator(nn.Module):
    """Maps images `(b, channels, h, w)` and a condition `(b, conditions)` to one score per patch `(b, h', w')`."""

    def __init__(self, channels: int = 1, conditions: int = 1, widths: Sequence[int] = (32, 64, 96, 128)):
        super().__init__()
        self.stem = spectral_norm(conv(channels * 4, widths[0]))
        self.stages = nn.ModuleList(
            nn.Sequential(
                spectral_norm(conv(inner, inner)),
                nn.LeakyReLU(0.2),
                spectral_norm(nn.Conv2d(inner, outer, 4, stride=2, padding=1)),
                nn.LeakyReLU(0.2),
            )
            for inner, outer in pairwise(widths)
        )
        self.score = spectral_norm(conv(widths[-1], 1, 1))
        self.embed = nn.Linear(conditions, widths[-1], bias=False)

    def forward(self, images: Tensor, condition: Tensor) -> Tensor:
        x = F.leaky_relu(self.stem(F.pixel_unshuffle(images, 2)), 0.2)
        for stage in self.stages:
            x = stage(x)
        projected = (x * self.embed(condition)[..., None, None]).sum(1)
        return self.score(x).squeeze(1) + projected / x.shape[1] ** 0.5
