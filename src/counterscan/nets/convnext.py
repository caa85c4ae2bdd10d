"""A small ConvNeXt (Liu et al., 2022, arXiv 2201.03545): another way of looking than the residual network's."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from counterscan.nets.blocks import conv


class ConvNeXt(nn.Module):
    """Maps `(b, channels, h, w)` to logits `(b, outputs)`; stage i works at `h / (4 * 2**i)`."""

    def __init__(
        self,
        channels: int = 1,
        outputs: int = 1,
        widths: Sequence[int] = (48, 96, 160),
        depths: Sequence[int] = (1, 2, 2),
        dropout: float = 0.1,
    ):
        super().__init__()
        self.stem = nn.Conv2d(channels, widths[0], 4, stride=4)
        self.stages = nn.ModuleList()
        inner = widths[0]
        for index, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            shrink = [nn.GroupNorm(1, inner), nn.Conv2d(inner, width, 2, stride=2)] if index else []
            self.stages.append(nn.Sequential(*shrink, *(_Block(width) for _ in range(depth))))
            inner = width
        self.norm = nn.LayerNorm(inner)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(inner, outputs)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        for stage in self.stages:
            x = stage(x)
        return self.head(self.dropout(self.norm(x.mean((2, 3)))))


class _Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.depthwise = conv(width, width, 5, groups=width)
        self.norm = nn.GroupNorm(1, width)
        self.wide, self.narrow = conv(width, 3 * width, 1), conv(3 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.5 * self.narrow(F.gelu(self.wide(self.norm(self.depthwise(x)))))
