"""A conditioned U-Net that works on unshuffled pixels: cheap on CPUs, and no detail of the image is lost."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterscan.nets.blocks import ConditionedBlock, conv, zeroed


class UNet(nn.Module):
    """Maps `(b, channels, h, w)` and a condition `(b, conditions)` to `(b, outputs, h, w)`; starts at zero.

    `patch` pixels an edge become channels first, so the widest layers run at `h / patch`; `h` and `w` must be
    divisible by `patch * 2 ** (len(widths) - 1)`.
    """

    def __init__(
        self,
        channels: int = 1,
        outputs: int = 1,
        conditions: int = 1,
        widths: Sequence[int] = (48, 96, 128, 128),
        patch: int = 4,
        depth: int = 1,
    ):
        super().__init__()
        self.patch = patch
        self.stem = conv(channels * patch**2, widths[0])
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        inner = widths[0]
        for width in widths:
            self.down.append(_stage(inner, width, conditions, depth))
            inner = width
        self.middle = _stage(inner, inner, conditions, depth)
        for width in reversed(widths):
            self.up.append(_stage(inner + width, width, conditions, depth))
            inner = width
        self.head = zeroed(conv(inner, outputs * patch**2))

    def forward(self, images: Tensor, condition: Tensor) -> Tensor:
        x = self.stem(F.pixel_unshuffle(images, self.patch))
        skips = []
        for index, stage in enumerate(self.down):
            x = F.avg_pool2d(x, 2) if index else x
            x = _through(stage, x, condition)
            skips.append(x)
        x = _through(self.middle, x, condition)
        for index, stage in enumerate(self.up):
            x = F.interpolate(x, scale_factor=2, mode="nearest") if index else x
            x = _through(stage, torch.cat([x, skips.pop()], 1), condition)
        return F.pixel_shuffle(self.head(F.silu(x)), self.patch)


def _stage(inner: int, outer: int, conditions: int, depth: int) -> nn.ModuleList:
    return nn.ModuleList(ConditionedBlock(inner if i == 0 else outer, outer, conditions) for i in range(depth))


def _through(stage, x: Tensor, condition: Tensor) -> Tensor:
    for block in stage:
        x = block(x, condition)
    return x
