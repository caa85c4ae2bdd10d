"""Gradient: Simonyan et al., Deep Inside Convolutional Networks, ICLR workshop 2014, section 3.1, M = max |w|.

Times input: Shrikumar et al., Not Just a Black Box, 2016.

Changes: y is the evidence against the target in log-odds (the paper: the score before the softmax), summed over the
classes asked for; the gradient may be kept with its sign; the input that multiplies it is measured from a stated
value, by default the median of the image's border, because the zero of an image in [-1, 1] is grey and not air.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from counterscan.core import Classifier, Target
from counterscan.explainers.attribution.evidence import input_gradients
from counterscan.explainers.attribution.substrate import Fill, check_fill, substrate
from counterscan.explainers.base import AttributionExplainer
from counterscan.registry import EXPLAINERS


@EXPLAINERS.register("gradient")
@dataclass(frozen=True)
class Gradient(AttributionExplainer):
    """How much the evidence changes with each pixel.

    `absolute` takes its size, whatever its sign, from the channel where it is largest; without it the channels are
    summed, and what speaks for the target is negative. `times_input` multiplies by the image's distance from `fill`: a
    value in [-1, 1], `mean`, `blur`, or None for the median of each image's border.
    """

    needs_gradients: ClassVar[bool] = True

    absolute: bool = True
    times_input: bool = False
    fill: Fill = None

    def __post_init__(self) -> None:
        check_fill(self.fill, "gradient: fill")

    def run(self, classifier: Classifier, images: Tensor, target: Target) -> Tensor:
        """The map `(b, 1, *spatial)` in log-odds per unit of the image, or in log-odds if multiplied by the input.

        One query and one backward pass an image.
        """
        gradient, _ = input_gradients(classifier, images, target)
        if self.times_input:
            gradient = gradient * (images - substrate(images, self.fill))
        return over_channels(gradient, self.absolute)


def over_channels(gradient: Tensor, absolute: bool) -> Tensor:
    """One map `(b, 1, *spatial)` from `(b, c, *spatial)`: the largest size of all channels, or their signed sum."""
    return gradient.abs().amax(1, keepdim=True) if absolute else gradient.sum(1, keepdim=True)
