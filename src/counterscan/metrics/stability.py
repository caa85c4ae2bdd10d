"""How much an explanation changes where the image hardly does: Yeh et al., 2019, arXiv 1901.09392, max-sensitivity.

Changes: divided by the size of the map itself, so that maps of different units compare; the largest change is sought
among `draws` of uniform noise, which finds a lower bound of it.
"""

import torch
from torch import Tensor

from counterscan.core import Classifier, Explanation
from counterscan.explainers.base import Explainer

RADIUS = 0.01  # share of the window: an eye does not see it


def sensitivity(
    explainer: Explainer,
    classifier: Classifier,
    explanation: Explanation,
    *,
    radius: float = RADIUS,
    draws: int = 4,
    seed: int = 0,
) -> Tensor:
    """The largest change `(b,)` of the map over `draws` noisy copies of the images, over the map's own length.

    Noise is uniform in +-`radius` of the window. 0: the map stays; 1: it changes by as much as there is of it. nan
    where the map is empty. `explanation` is the one of the images without noise, by the same explainer and seed.
    """
    generator = torch.Generator().manual_seed(seed)
    heatmap = explanation.heatmap.flatten(1)
    largest = torch.zeros(len(explanation))
    for _ in range(draws):
        noise = (torch.rand(explanation.images.shape, generator=generator) * 2 - 1) * 2 * radius
        noisy = (explanation.images + noise).clamp(-1, 1)
        again = explainer(classifier, noisy, explanation.target, seed=explanation.meta.get("seed", 0))
        largest = torch.maximum(largest, (again.heatmap.flatten(1) - heatmap).norm(dim=1))
    return largest / torch.where(heatmap.norm(dim=1) > 0, heatmap.norm(dim=1), float("nan"))
