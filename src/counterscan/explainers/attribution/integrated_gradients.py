"""Integrated gradients: Sundararajan et al., Axiomatic Attribution for Deep Networks, ICML 2017, equations 1 and 3.

Changes: F is the evidence against the target in log-odds (the paper: a softmax probability), summed over the classes
asked for; the sum of equation 3 is taken at the middle of each step and not at its end, which halves the error or
better; the default baseline is the median of the image's border and not black; the channels are summed.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from counterscan.core import Classifier, Target
from counterscan.errors import CounterscanError
from counterscan.explainers.attribution.evidence import ask_counted, input_gradients
from counterscan.explainers.attribution.substrate import Fill, check_fill, substrate
from counterscan.explainers.base import AttributionExplainer
from counterscan.registry import EXPLAINERS


@EXPLAINERS.register("integrated-gradients")
@dataclass(frozen=True)
class IntegratedGradients(AttributionExplainer):
    """What each pixel adds to the evidence on the straight way from a baseline to the image.

    `baseline` is a value in [-1, 1], `mean`, `blur`, or None for the median of each image's border; a pixel that is
    already at it gets nothing. `steps` on the way are taken `batch` at a time, and memory does not grow with them.
    """

    needs_gradients: ClassVar[bool] = True

    baseline: Fill = None
    steps: int = 50
    batch: int = 16

    def __post_init__(self) -> None:
        check_fill(self.baseline, "integrated-gradients: baseline")
        if self.steps < 1 or self.batch < 1:
            raise CounterscanError(f"integrated-gradients needs steps >= 1 and batch >= 1, got {self}")

    def run(self, classifier: Classifier, images: Tensor, target: Target) -> Tensor:
        """The map `(b, 1, *spatial)` in log-odds, with its sign; `steps` + 1 queries an image.

        Complete: its sum is the evidence in the image minus that in the baseline, up to the error of the steps.
        """
        counted = ask_counted(classifier, images, target)
        start = substrate(images, self.baseline)
        alphas = (torch.arange(self.steps, device=images.device) + 0.5) / self.steps
        mean = torch.zeros_like(images)
        for some in alphas.split(self.batch):
            some = some.reshape(-1, *[1] * (images.ndim - 1))
            for i, (x, x0) in enumerate(zip(images, start, strict=True)):
                gradient, _ = input_gradients(classifier, x0 + some * (x - x0), target, counted[:, i : i + 1])
                mean[i] += gradient.sum(0) / self.steps
        return ((images - start) * mean).sum(1, keepdim=True)
