"""Grad-CAM: Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks, ICCV 2017, equations 1 and 2.

Changes: y is the evidence against the target in log-odds (the paper: the score before the softmax), summed over the
classes asked for; the layer is a setting and by default not the last convolution but the last with a map at least 14
wide; the map is neither scaled nor multiplied with guided backpropagation.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from counterscan.core import Classifier, Target
from counterscan.data.fitting import resize
from counterscan.explainers.attribution.evidence import activations_and_gradients
from counterscan.explainers.base import AttributionExplainer
from counterscan.registry import EXPLAINERS


@EXPLAINERS.register("grad-cam")
@dataclass(frozen=True)
class GradCAM(AttributionExplainer):
    """The channels of one layer, weighted by their mean gradient.

    `layer` is a module's name, a resolution such as `16`, or empty for the default; see `candidate_layers`.
    """

    needs_gradients: ClassVar[bool] = True

    layer: str = ""

    def run(self, classifier: Classifier, images: Tensor, target: Target) -> Tensor:
        """The map `(b, 1, *spatial)`, not negative, in units of log-odds; one query and one backward pass an image."""
        ((a, gradient),) = activations_and_gradients(classifier, images, target, self.layer)
        alpha = gradient.flatten(2).mean(2).reshape(*gradient.shape[:2], *[1] * (gradient.ndim - 2))
        return resize((alpha * a).sum(1, keepdim=True).relu(), tuple(images.shape[2:]))
