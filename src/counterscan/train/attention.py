"""Where a classifier sees a finding, as far as image-level labels can tell: class activation maps of three layers."""

import torch
from torch import Tensor
from torch.nn import functional as F

from counterscan.classifiers.torch import candidate_layers
from counterscan.core import Classifier, Target
from counterscan.explainers.attribution.evidence import activations_and_gradients
from counterscan.explainers.attribution.layer_cam import layer_map

LAYERS = 3  # the coarsest resolutions; a coarse map is right about the place and a fine one about the border
FLOOR, CEILING = 0.35, 0.55  # share of the map's maximum at which a place begins to count, and counts in full


class Attention:
    """Maps `images` `(b, c, h, w)` to where the classifier sees what the target wants absent `(b, 1, h, w)`, in [0, 1].

    The geometric mean of LayerCAM at the last layers of the three coarsest resolutions, smoothed; nothing in images
    that the classifier takes to be as the target asks.
    """

    def __init__(self, classifier: Classifier):
        self.classifier = classifier
        last = {layer.spatial: layer.name for layer in candidate_layers(classifier)}
        self.layers = list(last.values())[-LAYERS:]

    def __call__(self, images: Tensor, target: Target) -> tuple[Tensor, Tensor]:
        """The map, and whether there is something to see at all `(b,)`."""
        mean = torch.zeros_like(images[:, :1])
        for a, gradient in activations_and_gradients(self.classifier, images, target, *self.layers):
            heat = layer_map(a, gradient, tuple(images.shape[2:]))
            mean += (heat / heat.amax((2, 3), keepdim=True).clamp_min(1e-6)).clamp_min(1e-6).log() / len(self.layers)
        heat = F.avg_pool2d(mean.exp(), 5, 1, 2)
        where = (heat / heat.amax((2, 3), keepdim=True) - FLOOR) / (CEILING - FLOOR)
        with torch.no_grad():
            seen = ~target.reached(self.classifier(images))
        return where.clamp(0, 1) * seen.view(-1, 1, 1, 1), seen
