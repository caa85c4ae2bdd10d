"""SmoothGrad: Smilkov et al., SmoothGrad: removing noise by adding noise, 2017, the mean over n noisy copies.

Changes: y is the evidence against the target in log-odds, summed over the classes asked for; the gradients are
averaged with their sign and the size is taken of the mean; one set of noise serves all images of a batch, scaled to
each image's own range.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from counterscan.core import Classifier, Target
from counterscan.errors import CounterscanError
from counterscan.explainers.attribution.evidence import ask_counted, input_gradients
from counterscan.explainers.attribution.gradient import over_channels
from counterscan.explainers.base import AttributionExplainer
from counterscan.registry import EXPLAINERS


@EXPLAINERS.register("smooth-grad")
@dataclass(frozen=True)
class SmoothGrad(AttributionExplainer):
    """The mean gradient over `samples` noisy copies of the image.

    `noise` is its standard deviation as a share of the image's range, largest value minus smallest; `absolute` is as
    for `gradient`. `batch` copies are asked at a time, and memory does not grow with `samples`.
    """

    needs_gradients: ClassVar[bool] = True

    samples: int = 32
    noise: float = 0.15
    absolute: bool = True
    batch: int = 16

    def __post_init__(self) -> None:
        if self.samples < 1 or self.batch < 1 or not 0 <= self.noise <= 1:
            raise CounterscanError(f"smooth-grad needs samples >= 1, batch >= 1 and 0 <= noise <= 1, got {self}")

    def run(self, classifier: Classifier, images: Tensor, target: Target) -> Tensor:
        """The map `(b, 1, *spatial)` in log-odds per unit of the image; `samples` + 1 queries an image."""
        counted = ask_counted(classifier, images, target)
        flat = images.flatten(1)
        sigma = self.noise * (flat.amax(1) - flat.amin(1))
        total = torch.zeros_like(images)
        for noise in self._draw(tuple(images.shape[1:])):
            noise = noise.to(images.device)
            for i, x in enumerate(images):
                gradient, _ = input_gradients(classifier, x + sigma[i] * noise, target, counted[:, i : i + 1])
                total[i] += gradient.sum(0)
        return over_channels(total / self.samples, self.absolute)

    def _draw(self, shape: tuple[int, ...]) -> Iterator[Tensor]:
        """Standard normal noise `(n, c, *spatial)`, a batch at a time; the same whatever the batch."""
        for start in range(0, self.samples, self.batch):
            # one by one: torch fills a larger tensor in another order
            yield torch.stack([torch.randn(shape) for _ in range(min(self.batch, self.samples - start))])
