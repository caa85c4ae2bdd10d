"""Occlusion: Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014, section 4.2.

Changes: the answer is the evidence against the target in log-odds (the paper: the probability of the class), summed
over the classes asked for; the map is how much of it a hidden window takes away, not what it leaves, and a pixel has
the mean over all windows that hide it; what stands in the window is a setting, by default the median of the image's
border and not grey; the last window along each axis ends at the image's edge.
"""

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from counterscan.core import Classifier, Target
from counterscan.errors import CounterscanError
from counterscan.explainers.attribution.evidence import ask_counted, ask_evidence, asker
from counterscan.explainers.attribution.substrate import Fill, check_fill, substrate
from counterscan.explainers.base import AttributionExplainer
from counterscan.progress import within
from counterscan.registry import EXPLAINERS


@EXPLAINERS.register("occlusion")
@dataclass(frozen=True)
class Occlusion(AttributionExplainer):
    """How much evidence goes when a window that slides over the image is hidden.

    `window` and `stride` are in pixels along each axis (a shorter axis is hidden whole); hidden pixels take `fill`: a
    value in [-1, 1], `mean`, `blur`, or None for the median of each image's border. `batch` hidden images are asked at
    a time, and memory does not grow with their number. `bfloat16` asks a torch classifier in that precision.
    """

    window: int = 16
    stride: int = 8
    fill: Fill = None
    batch: int = 16
    bfloat16: bool = False

    def __post_init__(self) -> None:
        check_fill(self.fill, "occlusion: fill")
        if self.batch < 1 or not 1 <= self.stride <= self.window:
            raise CounterscanError(f"occlusion needs batch >= 1 and 1 <= stride <= window, got {self}")

    def run(self, classifier: Classifier, images: Tensor, target: Target) -> Tensor:
        """The map `(b, 1, *spatial)` in log-odds a window, with its sign; one query a window and two an image."""
        counted = ask_counted(classifier, images, target)
        ask = asker(classifier, self.bfloat16)
        whole = ask_evidence(ask, images, target, counted)
        fill = substrate(images, self.fill)
        lost, times = torch.zeros_like(images[:, :1]), torch.zeros_like(images[0, 0])
        places = windows(tuple(images.shape[2:]), self.window, self.stride)
        for start in range(0, len(places), self.batch):
            some = places[start : start + self.batch]
            for i, (x, value) in enumerate(zip(images, fill, strict=True)):
                hidden = _hidden(x, value, some)
                left = ask_evidence(ask, hidden, target, counted[:, i : i + 1])
                for place, loss in zip(some, (whole[i] - left).tolist(), strict=True):
                    lost[i, 0][place] += loss
            for place in some:
                times[place] += 1
            within(start + len(some), len(places), "windows")
        return lost / times


def windows(spatial: tuple[int, ...], window: int, stride: int) -> list[tuple[slice, ...]]:
    """The places of a window over an image of size `spatial`, one slice an axis, so that every pixel is in one."""
    axes = []
    for side in spatial:
        last = max(side - window, 0)
        starts = [*range(0, last, stride), last]
        axes.append([slice(start, start + window) for start in starts])
    return list(product(*axes))


def _hidden(x: Tensor, fill: Tensor, places: list[tuple[slice, ...]]) -> Tensor:
    """One image `(c, *spatial)` as often as there are places, with `fill` at each in turn."""
    images = x.repeat(len(places), *[1] * x.ndim)
    for image, place in zip(images, places, strict=True):
        image[(slice(None), *place)] = fill[(slice(None), *place)]
    return images
