"""When a growing GAN grows: which resolution, batch and blend each step of a training has, and how images are blended.

Each resolution is first faded in and then trained as it is (Karras et al., 2018, app. A). Presets are counted in real
images shown; a step shows one batch. One core trains on 1,250, 340, 93, 43, 29 and 20 images a second at 4, 8, 16, 32,
64 and 128 pixels, and on five sixths of them during a fade, which is what `small` was chosen by.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from counterscan.errors import CounterscanError, check_one_of
from counterscan.nets.growing_gan import enlarged, halved

SMALLEST = 4  # pixels that everything grows from


@dataclass(frozen=True)
class Resolution:
    """How many images a resolution is faded in with, how many follow, in which batches; and the channels there."""

    fading: int
    steady: int
    batch: int
    width: int


@dataclass(frozen=True)
class Preset:
    """What a training is like unless it is asked for otherwise; resolutions are 4, 8, 16, ... pixels.

    `average` is the decay of the generator's moving average; `falling` the share of the training, at its end, in which
    the learning rate comes down.
    """

    resolutions: tuple[Resolution, ...]
    latents: int
    loss: str
    rate: float
    average: float
    falling: float


PRESETS: Mapping[str, Preset] = {
    # 4 x 4 to 128 x 128 in about two hours of one core
    "small": Preset(
        (
            Resolution(0, 48_000, 64, 128),
            Resolution(32_000, 32_000, 64, 128),
            Resolution(32_000, 32_000, 32, 128),
            Resolution(24_000, 32_000, 16, 64),
            Resolution(20_000, 32_000, 16, 32),
            Resolution(20_000, 40_000, 16, 16),
        ),
        latents=128,
        loss="relativistic",
        rate=2e-3,
        average=0.998,
        falling=0.3,
    ),
    # Segal et al., 2021 (2010.03975), whose schedule for 1024 x 1024 is that of Karras et al.; for machines with GPUs
    "published": Preset(
        (
            Resolution(0, 800_000, 64, 512),
            Resolution(800_000, 800_000, 64, 512),
            Resolution(800_000, 800_000, 64, 512),
            Resolution(800_000, 800_000, 64, 512),
            Resolution(800_000, 800_000, 64, 256),
            Resolution(800_000, 800_000, 64, 128),
            Resolution(800_000, 800_000, 56, 64),
            Resolution(800_000, 800_000, 32, 32),
            Resolution(800_000, 1_200_000, 12, 16),
        ),
        latents=512,
        loss="wgan-gp",
        rate=1e-3,
        average=0.999,
        falling=0.0,
    ),
}


@dataclass(frozen=True)
class Moment:
    """One step: how far the networks have `grown` (see `nets/growing_gan.py`), its `side` in pixels and its `batch`.

    `begins` where a fade begins or ends, which is where the optimisers forget.
    """

    grown: float
    side: int
    batch: int
    begins: bool


@dataclass(frozen=True)
class Growth:
    """The steps of a training, by its resolutions; `length` times as many images as they say."""

    resolutions: tuple[Resolution, ...]
    length: float = 1.0

    @cached_property
    def phases(self) -> tuple[tuple[int, int, bool], ...]:
        """Of each fade and each steady time: the resolution's number, its steps, and whether it is a fade."""
        counted = [
            (number, math.ceil(self.length * images / one.batch), fades)
            for number, one in enumerate(self.resolutions)
            for images, fades in ((one.fading if number else 0, True), (one.steady, False))
        ]
        return tuple(phase for phase in counted if phase[1])

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return sum(steps for _, steps, _ in self.phases)

    @property
    def images(self) -> int:
        """How many real images are shown."""
        return sum(steps * self.resolutions[number].batch for number, steps, _ in self.phases)

    def at(self, step: int) -> Moment:
        """What `step` is like; the last one's kind goes on for ever."""
        left = step
        for number, steps, fades in self.phases:  # noqa: B007 (what the last one left is used)
            if left < steps:
                break
            left -= steps
        grown = number - 1 + (left + 1) / (steps + 1) if fades else float(number)
        return Moment(grown, side_of(grown), self.resolutions[number].batch, left == 0)


def preset(name: str, size: int) -> tuple[Preset, tuple[Resolution, ...]]:
    """The preset `name` and its resolutions up to `size`; CounterscanError where it has none of that name or size."""
    check_one_of("preset", name, tuple(PRESETS))
    known = PRESETS[name]
    sides = [SMALLEST * 2**number for number in range(len(known.resolutions))]
    size = size or sides[-1]
    if size not in sides[1:]:
        raise CounterscanError(
            f"size={size} is no side that {name} grows to; set one of {', '.join(map(str, sides[1:]))}"
        )
    return known, known.resolutions[: sides.index(size) + 1]


def side_of(grown: float) -> int:
    """The side in pixels of images when networks have so far `grown`."""
    return int(SMALLEST * 2 ** math.ceil(grown))


def shrunk(images: Tensor, side: int) -> Tensor:
    """`images` `(b, c, s, s)` at `side` pixels: means of squares."""
    while images.shape[-1] > side:
        images = halved(images)
    return images


def blended(images: Tensor, grown: float) -> Tensor:
    """Real `images` of the newest block's side as generators make them while it is faded in: sharp by its weight."""
    fade = grown - math.floor(grown)
    return enlarged(halved(images)).lerp(images, fade) if fade else images


def widths_of(resolutions: Sequence[Resolution]) -> list[int]:
    """Channels at each resolution."""
    return [one.width for one in resolutions]
