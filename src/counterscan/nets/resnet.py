"""A small pre-activation residual classifier (He et al., 2016, arXiv 1603.05027)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterscan.nets.blocks import conv


class ResNet(nn.Module):
    """Maps `(b, channels, h, w)` to logits `(b, outputs)`; stage i works at `h / (2 * 2**i)`."""

    def __init__(
        self,
        channels: int = 1,
        outputs: int = 1,
        widths: Sequence[int] = (16, 48, 96, 160),
        depth: int = 2,
        dropout: float = 0.1,
    ):
        super().__init__()
        self.widths = tuple(widths)
        self.stem = conv(channels * 4, widths[0])
        self.stages = nn.ModuleList()
        inner = widths[0]
        for index, width in enumerate(widths):
            blocks = [_Block(inner if i == 0 else width, width, 2 if i == 0 and index else 1) for i in range(depth)]
            self.stages.append(nn.Sequential(*blocks))
            inner = width
        self.norm = nn.BatchNorm2d(inner)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * inner, outputs)

    def features(self, images: Tensor) -> list[Tensor]:
        """What each stage sees: stage i `(b, widths[i], h / (2 * 2**i), w / (2 * 2**i))`."""
        x = self.stem(F.pixel_unshuffle(images, 2))
        seen = []
        for stage in self.stages:
            x = stage(x)
            seen.append(x)
        return seen

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.norm(self.features(images)[-1]))
        # a mean alone drowns a lesion of a few pixels, a maximum alone has no gradient for the rest
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)
        return self.head(self.dropout(pooled))


class _Block(nn.Module):
    def __init__(self, inner: int, outer: int, stride: int):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inner), conv(inner, outer, stride=stride, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(outer), conv(outer, outer, bias=False)
        self.skip = conv(inner, outer, 1, bias=False) if inner != outer else nn.Identity()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.relu(self.norm1(x)))
        h = self.conv2(F.relu(self.norm2(h)))
        return h + self.skip(F.avg_pool2d(x, 2) if self.stride == 2 else x)
