"""A conditioned U-Net that works on unshuffled pixels: cheap on CPUs, and no detail of the image is lost."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterscan.nets.attention import TokenAttention
from counterscan.nets.blocks import ConditionedBlock, conv, freeze, zeroed
from counterscan.nets.resnet import ResNet


class UNet(nn.Module):
    """Maps `(b, channels, h, w)` and a condition `(b, conditions)` to `(b, outputs, h, w)`; starts at zero.

    `patch` pixels an edge become channels first, so the widest layers run at `h / patch`; `h` and `w` must be
    divisible by `patch * 2 ** (len(widths) - 1)`. With `guide`, the settings of a residual classifier, the network
    holds such a classifier, frozen, and sees its stages beside its own: what took that long to learn is there at once.
    What comes out, o, is a change to add to the image; with `fusion` "tanh" or "none" it is the change that leads to
    tanh(image + o) or tanh(o). Of the skips between equal levels the `skips` coarsest are there (None: all). In the
    `attended` coarsest levels places look at each other and at the tokens of a text, which are `tokens` wide.
    """

    def __init__(
        self,
        channels: int = 1,
        outputs: int = 1,
        conditions: int = 1,
        widths: Sequence[int] = (48, 96, 128, 128),
        patch: int = 4,
        depth: int = 1,
        guide: Mapping[str, Any] | None = None,
        fusion: str = "clamp",
        skips: int | None = None,
        tokens: int = 0,
        attended: int = 0,
    ):
        super().__init__()
        self.patch, self.fusion = patch, fusion
        self.skips = len(widths) if skips is None else skips
        self.guide = freeze(ResNet(**guide)) if guide else None
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
        self.adapters = nn.ModuleList(_adapters(self.guide, widths, patch))
        self.head = zeroed(conv(inner, outputs * patch**2))
        self.first_attended = len(widths) - attended
        self.attention = nn.ModuleList(
            TokenAttention(width, tokens)
            for width in (*widths[self.first_attended :], *widths[self.first_attended :][::-1])
        )

    def forward(
        self,
        images: Tensor,
        condition: Tensor,
        beside: Tensor | None = None,
        told: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        x = self.stem(F.pixel_unshuffle(images, self.patch))
        if beside is not None:  # (b, widths[0], h / patch, w / patch): what else is told, place by place
            x = x + beside
        skips, seen, attending = [], self._seen(images), iter(self.attention)
        for index, stage in enumerate(self.down):
            x = F.avg_pool2d(x, 2) if index else x
            x = x + self.adapters[index](seen[index]) if index < len(seen) else x
            x = _through(stage, x, condition)
            if told is not None and index >= self.first_attended:
                x = next(attending)(x, *told)
            skips.append(x)
        x = _through(self.middle, x, condition)
        for index, stage in enumerate(self.up):
            x = F.interpolate(x, scale_factor=2, mode="nearest") if index else x
            skip = skips.pop()
            x = _through(stage, torch.cat([x, skip if index < self.skips else torch.zeros_like(skip)], 1), condition)
            if told is not None and len(skips) >= self.first_attended:
                x = next(attending)(x, *told)
        return self._fused(images, F.pixel_shuffle(self.head(F.silu(x)), self.patch))

    def _fused(self, images: Tensor, o: Tensor) -> Tensor:
        if self.fusion == "clamp":
            return o
        return torch.tanh(images + o if self.fusion == "tanh" else o.float()) - images

    def train(self, mode: bool = True) -> "UNet":
        """Set the mode of all but the guide, which stays as it was trained."""
        super().train(mode)
        if self.guide is not None:
            self.guide.eval()
        return self

    @torch.no_grad()
    def _seen(self, images: Tensor) -> list[Tensor]:
        """The guide's stages at the sizes of this network's levels."""
        if self.guide is None:
            return []
        stages = {images.shape[2] // x.shape[2]: x for x in self.guide.features(images)}
        # normalised here, where no gradient is asked for: a trained norm on such an input crashes torch 2.13 on CPUs
        return [F.group_norm(stages[self.patch * 2**i], 8) for i in range(len(self.adapters))]


def _adapters(guide: ResNet | None, widths: Sequence[int], patch: int) -> Iterator[nn.Module]:
    """What brings a stage of the guide to the width that comes into the level of the same size."""
    if guide is None:
        return
    sizes = {2 * 2**i: width for i, width in enumerate(guide.widths)}
    for index in range(len(widths)):
        if (size := patch * 2**index) not in sizes:
            return
        yield conv(sizes[size], widths[max(index - 1, 0)], 1)


def _stage(inner: int, outer: int, conditions: int, depth: int) -> nn.ModuleList:
    return nn.ModuleList(ConditionedBlock(inner if i == 0 else outer, outer, conditions) for i in range(depth))


def _through(stage, x: Tensor, condition: Tensor) -> Tensor:
    for block in stage:
        x = block(x, condition)
    return x
