"""Generator and discriminator that grow from 4 x 4 pixels (Karras et al., 2018, arXiv 1710.10196, table 2 and app. A).

How far they have grown is one number: at 3 the first four resolutions (4, 8, 16 and 32 pixels) are in use, at 3.25 the
fifth is being faded in, with a quarter of the weight. All blocks are there from the beginning, and those that are not
in use yet get no gradient; so a moving average of the weights holds new blocks as they are.

Up- and downsampling are one kernel with the convolution beside them (`doubled`), exact and half the work. Changes:
the groups of the minibatch deviation are neighbours in the batch; colour conversion of the generator is in float32.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SLOPE = 0.2  # of the leaky rectifier
GAIN = math.sqrt(2)  # that makes up for what the rectifier takes
EPSILON = 1e-8
GROUP = 4  # images whose spread a discriminator is told


class Equalised(nn.Module):
    """Weights drawn from N(0, 1) and scaled by `gain / sqrt(inputs)` as they are used; the bias is not scaled."""

    def __init__(self, inner: int, outer: int, size: int = 0, gain: float = GAIN):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outer, inner, *([size, size] if size else [])))
        self.bias = nn.Parameter(torch.zeros(outer))
        self.scale = gain / math.sqrt(self.weight[0].numel())

    @property
    def scaled(self) -> Tensor:
        """The weights as they are used."""
        return self.weight * self.scale


class Dense(Equalised):
    """A linear layer `(b, inner) -> (b, outer)`."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.scaled, self.bias)


class Conv(Equalised):
    """A convolution that keeps the image's size."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.scaled, self.bias, padding=self.weight.shape[2] // 2)


class UpConv(Equalised):
    """Nearest upsampling by 2, then a convolution of 3 x 3."""

    def forward(self, x: Tensor) -> Tensor:
        turned = doubled(self.scaled).flip(2, 3).transpose(0, 1)  # a transposed convolution does not flip its kernel
        return F.conv_transpose2d(x, turned, self.bias, stride=2, padding=1)


class DownConv(Equalised):
    """A convolution of 3 x 3, then the average of 2 x 2 pixels."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, doubled(self.scaled) / 4, self.bias, stride=2, padding=1)


class ToImage(Equalised):
    """A convolution of one pixel to the image's channels; not in bfloat16, whose steps are those of 8-bit pictures."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return F.conv2d(x.float(), self.scaled, self.bias)


def doubled(weight: Tensor) -> Tensor:
    """The kernel `(o, i, 4, 4)` of a stride of 2 that does what `(o, i, 3, 3)` and a sum of 2 x 2 pixels do."""
    wide = F.pad(weight, (1, 1, 1, 1))
    return wide[:, :, 1:, 1:] + wide[:, :, 1:, :-1] + wide[:, :, :-1, 1:] + wide[:, :, :-1, :-1]


class Rectified(torch.autograd.Function):
    """Leaky rectifier and pixel norm, `y = a / sqrt(mean over channels of a^2 + 1e-8)`, in few passes over memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        rows = F.leaky_relu(_rows(x), SLOPE)
        # sums over channels and the way back as matrix products: broadcasting over few channels is ten times slower
        means = (rows * rows) @ rows.new_full((rows.shape[1], 1), 1 / rows.shape[1])
        exact = means.to(torch.promote_types(x.dtype, torch.float32)) + EPSILON
        inverse = exact.rsqrt_().to(x.dtype) @ rows.new_ones(1, rows.shape[1])
        y = rows.mul_(inverse)
        ctx.save_for_backward(y, inverse)
        return _planes(y, x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        y, inverse = ctx.saved_tensors
        rows, channels = _rows(gradients[0]), y.shape[1]
        along = (rows * y) @ y.new_full((channels, channels), 1 / channels)
        slope = (rows - along.mul_(y)).mul_(inverse)
        return _planes(torch.ops.aten.leaky_relu_backward(slope, y, SLOPE, True), gradients[0])


def _rows(x: Tensor) -> Tensor:
    """`(b, c, h, w)` as `(b * h * w, c)`, which costs nothing in channels-last order."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _planes(rows: Tensor, like: Tensor) -> Tensor:
    b, c, h, w = like.shape
    return rows.view(b, h, w, c).permute(0, 3, 1, 2)


def rectified(x: Tensor) -> Tensor:
    """Leaky rectifier and pixel norm of `(b, c, h, w)`; differentiable once."""
    return Rectified.apply(x)


def leaky(x: Tensor) -> Tensor:
    """The leaky rectifier."""
    return F.leaky_relu(x, SLOPE)


def halved(images: Tensor) -> Tensor:
    """`(b, c, h, w)` at half the size: the averages of 2 x 2 pixels."""
    return F.avg_pool2d(images, 2)


def enlarged(images: Tensor, times: int = 2) -> Tensor:
    """`(b, c, h, w)` at `times` the size: each pixel repeated."""
    return F.interpolate(images, scale_factor=times, mode="nearest")


class Generator(nn.Module):
    """Maps latents `(b, latents)` to images `(b, channels, side, side)`, about [-1, 1] and unbounded.

    `widths` are the channels at 4, 8, 16, ... pixels. Latents count by their direction only. The side is that of the
    newest block, 4 * 2 ** ceil(grown); fully grown where nothing is said.
    """

    def __init__(self, channels: int, latents: int, widths: Sequence[int]):
        super().__init__()
        self.grown = float(len(widths) - 1)
        self.dense = Dense(latents, 16 * widths[0], gain=GAIN / 4)
        self.dense.bias = nn.Parameter(torch.zeros(widths[0]))  # one a channel, as convolutions have
        self.first = Conv(widths[0], widths[0], 3)
        self.blocks = nn.ModuleList(
            nn.ModuleList([UpConv(inner, outer, 3), Conv(outer, outer, 3)]) for inner, outer in pairwise(widths)
        )
        self.to_image = nn.ModuleList(ToImage(width, channels, 1, gain=1) for width in widths)

    def forward(self, latents: Tensor, grown: float | None = None) -> Tensor:
        whole, fade = _parts(self.grown if grown is None else grown)
        x = latents * (latents.square().mean(1, keepdim=True) + EPSILON).rsqrt()
        x = F.linear(x, self.dense.scaled).view(len(x), -1, 4, 4) + self.dense.bias.view(-1, 1, 1)
        x = rectified(self.first(rectified(x.contiguous(memory_format=torch.channels_last))))
        for block in self.blocks[:whole]:
            x = self._next(x, block)
        if not fade:
            return self.to_image[whole](x)
        old = enlarged(self.to_image[whole](x))
        return old.lerp(self.to_image[whole + 1](self._next(x, self.blocks[whole])), fade)

    def _next(self, x: Tensor, block: nn.Module) -> Tensor:
        up, flat = block.children()
        return rectified(flat(rectified(up(x))))


class Discriminator(nn.Module):
    """Maps images `(b, channels, side, side)` to scores `(b,)`, larger for real ones; the side tells the blocks.

    `widths` are as in `Generator`. Each score also rests on how far the images of its group of `GROUP` neighbours
    differ; `usual_spread` is what stands for that where images are to be scored one by one.
    """

    usual_spread: Tensor

    def __init__(self, channels: int, widths: Sequence[int]):
        super().__init__()
        self.grown = float(len(widths) - 1)
        self.from_image = nn.ModuleList(Conv(channels, width, 1) for width in widths)
        self.blocks = nn.ModuleList(
            nn.ModuleList([Conv(outer, outer, 3), DownConv(outer, inner, 3)]) for inner, outer in pairwise(widths)
        )
        self.last = Conv(widths[0] + 1, widths[0], 3)
        self.dense = Dense(16 * widths[0], widths[0])
        self.score = Dense(widths[0], 1, gain=1)
        self.register_buffer("usual_spread", torch.ones(()))

    def forward(self, images: Tensor, grown: float | None = None, *, alone: bool = False) -> Tensor:
        x = self.features(images, self.grown if grown is None else grown)
        each = self.usual_spread.expand(len(x), 1) if alone else spread(x)
        x = torch.cat([x, each.to(x.dtype)[:, :, None, None].expand(-1, 1, 4, 4)], 1)
        x = leaky(self.last(x)).flatten(1)
        return self.score(leaky(self.dense(x))).squeeze(1).float()

    def features(self, images: Tensor, grown: float) -> Tensor:
        """What is seen at 4 x 4 pixels: `(b, c, 4, 4)`."""
        whole, fade = _parts(grown)
        if fade:
            new = self._next(leaky(self.from_image[whole + 1](images)), self.blocks[whole])
            x = leaky(self.from_image[whole](halved(images))).lerp(new, fade)
        else:
            x = leaky(self.from_image[whole](images))
        for block in reversed(self.blocks[:whole]):
            x = self._next(x, block)
        return x

    def _next(self, x: Tensor, block: nn.Module) -> Tensor:
        flat, down = block.children()
        return leaky(down(leaky(flat(x))))


def spread(features: Tensor) -> Tensor:
    """How far the images of each group of neighbours differ `(b, 1)`: the mean over `(b, c, h, w)` of the deviation."""
    size = math.gcd(len(features), GROUP)
    groups = features.float().unflatten(0, (-1, size))
    deviation = (groups.var(1, correction=0) + EPSILON).sqrt()
    return deviation.flatten(1).mean(1, keepdim=True).repeat_interleave(size, 0)


def _parts(grown: float) -> tuple[int, float]:
    """How many blocks are whole beyond the first, and the weight of the next one."""
    return math.floor(grown), grown - math.floor(grown)


class GrowingGAN(nn.Module):
    """A generator and the discriminator that it was trained against, as they are kept together.

    `critic_quantiles`, of the scores of the generator's own images, are carried for those who load the networks.
    """

    def __init__(
        self,
        channels: int = 1,
        latents: int = 128,
        widths: Sequence[int] = (128, 128, 128, 64, 32, 16),
        critic_quantiles: Sequence[float] = (),
    ):
        super().__init__()
        self.critic_quantiles = critic_quantiles
        self.generator = Generator(channels, latents, widths)
        self.discriminator = Discriminator(channels, widths)

    def critic(self, images: Tensor) -> Tensor:
        """Scores `(b,)` of images one by one, whatever stands beside them."""
        return self.discriminator(images, alone=True)
