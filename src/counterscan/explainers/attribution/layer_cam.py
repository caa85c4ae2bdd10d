"""LayerCAM: Jiang et al., LayerCAM: Exploring Hierarchical Class Activation Maps, IEEE TIP 2021, equations 5 and 6.

Changes: y is the evidence against the target in log-odds, summed over the classes asked for; one layer, not a fusion
of several (so without the paper's tanh scaling); the map is not scaled.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from counterscan.core import Classifier, Target
from counterscan.data.fitting import resize
from counterscan.explainers.attribution.evidence import activations_and_gradients
from counterscan.explainers.base import AttributionExplainer
from counterscan.registry import EXPLAINERS


@EXPLAINERS.register("layer-cam")
@dataclass(frozen=True)
class LayerCAM(AttributionExplainer):
    """The channels of one layer, each place weighted by its own positive gradient; made for shallow layers too.

    `layer` is a module's name, a resolution such as `16`, or empty for the default; see `candidate_layers`.
    """

    needs_gradients: ClassVar[bool] = True

    layer: str = ""

    def run(self, classifier: Classifier, images: Tensor, target: Target) -> Tensor:
        """The map `(b, 1, *spatial)`, not negative, in units of log-odds; one query and one backward pass an image."""
        ((a, gradient),) = activations_and_gradients(classifier, images, target, self.layer)
        return layer_map(a, gradient, tuple(images.shape[2:]))


def layer_map(a: Tensor, gradient: Tensor, spatial: tuple[int, ...]) -> Tensor:
    """Equations 5 and 6 for one layer's activation and gradient, at the image's size."""
    return resize((gradient.relu() * a).sum(1, keepdim=True).relu(), spatial)
