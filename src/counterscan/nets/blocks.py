"""Parts that several networks are made of."""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv(inner: int, outer: int, size: int = 3, **options) -> nn.Conv2d:
    """A convolution that keeps the image's size."""
    return nn.Conv2d(inner, outer, size, padding=size // 2, **options)


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with weights and bias at zero, so that its block starts as the identity."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class ConditionedBlock(nn.Module):
    """Residual block: norm, (1 + scale) and shift from a condition, SiLU, conv, twice; starts as the identity."""

    def __init__(self, inner: int, outer: int, conditions: int):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, inner), conv(inner, outer)
        self.norm2, self.conv2 = nn.GroupNorm(8, outer), zeroed(conv(outer, outer))
        self.modulate = nn.Linear(conditions, 2 * outer)
        self.skip = nn.Identity() if inner == outer else conv(inner, outer, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.modulate(condition)[..., None, None].chunk(2, 1)
        h = self.conv1(F.silu(self.norm1(x)))
        h = F.silu(self.norm2(h) * (1 + scale) + shift)
        return self.skip(x) + self.conv2(h)


Module = TypeVar("Module", bound=nn.Module)


def freeze(module: Module) -> Module:
    """The module in evaluation mode, with parameters that ask for no gradient."""
    return module.eval().requires_grad_(False)


def fast_layout(module: Module) -> Module:
    """The module with its weights in channels-last memory order, which two-dimensional networks are fastest in."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def channels_last(images: Tensor) -> Tensor:
    """The memory order in which two-dimensional convolutions are fastest on CPUs."""
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images


def statistic(name: str, values: Sequence[float], otherwise: float, maps: int) -> Tensor:
    """A number for each map of a code, `(maps, 1, 1)` float32, or `otherwise` for all where a card has none yet."""
    told = torch.tensor(values or [otherwise] * maps, dtype=torch.float32)
    if told.shape != (maps,) or not told.isfinite().all():
        raise ValueError(f"{name} holds {len(values)} numbers; {maps} finite ones are needed")
    return told.view(-1, 1, 1)
