"""Score-CAM: Wang et al., Score-CAM, CVPR workshops 2020, its channel-wise increase of confidence and algorithm 1.

Changes: y is the evidence against the target in log-odds (the paper: the class's score), summed over the classes asked
for; a channel's weight is its increase over the empty image and goes through no softmax over the channels, which on
log-odds is all but one-hot and makes a channel that lowers y count for it; hidden pixels take the median of the
image's border and not zero, which is grey; the default layer is the last with a map at least 14 wide; a channel that
is the same everywhere is left out (the paper divides by zero); and it stops once the other channels cannot matter.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from counterscan.classifiers.torch import forward_with_layers
from counterscan.core import Classifier, Target
from counterscan.data.fitting import resize
from counterscan.errors import CounterscanError
from counterscan.explainers.attribution.evidence import ask_evidence, asker, counted_classes
from counterscan.explainers.attribution.substrate import Fill, check_fill, substrate
from counterscan.explainers.base import AttributionExplainer
from counterscan.progress import within
from counterscan.registry import EXPLAINERS

FLAT = 1e-6  # a channel that varies by less than this share of its largest value is the same everywhere


@EXPLAINERS.register("score-cam")
@dataclass(frozen=True)
class ScoreCAM(AttributionExplainer):
    """The channels of one layer, weighted by the evidence in what each of them shows of the image.

    `layer` is a module's name, a resolution such as `16`, or empty for the default; see `candidate_layers`. What a
    channel does not show takes `fill`: a value in [-1, 1], `mean`, `blur`, or None for the median of each image's
    border. `batch` channels are asked at a time, the strongest first, and memory does not grow with the channels. It
    stops when those left, had they the greatest weight so far, could not change the map by `tolerance` of its largest
    value; 0 asks all. `bfloat16` asks the classifier in that precision.
    """

    needs_gradients: ClassVar[bool] = True  # not the gradients but the layers, which a black box has neither of

    layer: str = ""
    fill: Fill = None
    batch: int = 16
    tolerance: float = 0.01
    bfloat16: bool = False

    def __post_init__(self) -> None:
        check_fill(self.fill, "score-cam: fill")
        if self.batch < 1 or not 0 <= self.tolerance < 1:
            raise CounterscanError(f"score-cam needs batch >= 1 and 0 <= tolerance < 1, got {self}")

    def run(self, classifier: Classifier, images: Tensor, target: Target) -> Tensor:
        """The map `(b, 1, *spatial)`, not negative, in log-odds; at most one query a channel, and two an image."""
        activations, counted = _channels(classifier, images, target, self.layer)
        fill, ask = substrate(images, self.fill), asker(classifier, self.bfloat16)
        empty = ask_evidence(ask, fill, target, counted)
        spatial = tuple(images.shape[2:])

        def increase(i: int, channels: Tensor) -> Tensor:
            shown = torch.addcmul(fill[i], images[i] - fill[i], _as_masks(resize(channels, spatial)))
            return ask_evidence(ask, shown, target, counted[:, i : i + 1]) - empty[i]

        maps = [self._weighted(a, partial(increase, i)) for i, a in enumerate(activations)]
        return resize(torch.stack(maps), spatial)

    def _weighted(self, a: Tensor, increase: Callable[[Tensor], Tensor]) -> Tensor:
        """ReLU of the weighted sum `(1, *layer)` of one image's channels `(channels, *layer)`, the strongest first."""
        a = a[_varied(a)]
        peaks, order = a.flatten(1).abs().amax(1).sort(descending=True, stable=True)
        left = peaks.flip(0).cumsum(0).flip(0)  # the most that all channels from here on could add at weight 1
        total, heaviest = torch.zeros_like(a[:1].sum(0)), torch.zeros(())
        for start in range(0, len(a), self.batch):
            if start and heaviest * left[start] <= self.tolerance * total.max():
                break
            some = a[order[start : start + self.batch]]
            alpha = increase(some[:, None])
            total += torch.einsum("k,k...->...", alpha, some)
            heaviest = torch.maximum(heaviest.to(alpha), alpha.abs().max())
            within(start + len(some), len(a), "channels")
        return total.relu()[None]


def _channels(classifier: Classifier, images: Tensor, target: Target, layer: str) -> tuple[Tensor, Tensor]:
    """The layer's activations `(b, channels, *layer)` and the `counted_classes`; the graph behind them is let go."""
    (activations,), log_odds = forward_with_layers(classifier, images, [layer])
    return activations.detach().float(), counted_classes(target, log_odds)


def _varied(a: Tensor) -> Tensor:
    """Which channels `(channels,)` are not the same everywhere, and so show a part of the image."""
    flat = a.flatten(1)
    return flat.amax(1) - flat.amin(1) > FLAT * flat.abs().amax(1)


def _as_masks(channels: Tensor) -> Tensor:
    """Each of `(n, 1, *spatial)` from 0 at its smallest value to 1 at its largest."""
    axes = tuple(range(1, channels.ndim))
    low, high = channels.amin(axes, keepdim=True), channels.amax(axes, keepdim=True)
    return (channels - low) / (high - low).clamp_min(torch.finfo(channels.dtype).tiny)
