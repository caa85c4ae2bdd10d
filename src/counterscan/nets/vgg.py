"""A small VGG with batch norm (Simonyan and Zisserman, 2015, arXiv 1409.1556): no shortcuts, maxima between stages."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterscan.nets.blocks import conv


class VGG(nn.Module):
    """Maps `(b, channels, h, w)` to logits `(b, outputs)`; stage i works at `h / (2 * 2**i)`."""

    def __init__(
        self,
        channels: int = 1,
        outputs: int = 1,
        widths: Sequence[int] = (24, 48, 96, 160),
        dropout: float = 0.2,
    ):
        super().__init__()
        inner = (channels * 4, *widths[:-1])
        self.stages = nn.ModuleList(_stage(before, width) for before, width in zip(inner, widths, strict=True))
        self.hidden = nn.Linear(2 * widths[-1], widths[-1])
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], outputs)

    def forward(self, images: Tensor) -> Tensor:
        x = F.pixel_unshuffle(images, 2)
        for index, stage in enumerate(self.stages):
            x = stage(F.max_pool2d(x, 2) if index else x)
        # a mean alone drowns a lesion of a few pixels, a maximum alone has no gradient for the rest
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)
        return self.head(self.dropout(F.relu(self.hidden(pooled))))


def _stage(inner: int, outer: int) -> nn.Sequential:
    return nn.Sequential(
        conv(inner, outer, bias=False),
        nn.BatchNorm2d(outer),
        nn.ReLU(),
        conv(outer, outer, bias=False),
        nn.BatchNorm2d(outer),
        nn.ReLU(),
    )
