"""How alike two maps of the same images are: by their pixels' order and values, their structure, their masks."""

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from counterscan.metrics.closeness import structural_similarity


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's correlation `(b,)` of the pixels of two maps `(b, 1, *spatial)`, ties at their mean rank, in [-1, 1].

    Where one map is the same everywhere and the other is not it is 0: nothing of the map is left. Where both are, nan.
    """
    pairs = zip(_flat(first), _flat(second), strict=True)
    found = [_correlation(rankdata(one), rankdata(other)) for one, other in pairs]
    return torch.tensor(found, dtype=torch.float32)


def linear_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation `(b,)` of the pixels' values, in [-1, 1]; maps of one value as for `rank_correlation`."""
    pairs = zip(_flat(first), _flat(second), strict=True)
    return torch.tensor([_correlation(one, other) for one, other in pairs], dtype=torch.float32)


def likeness(first: Tensor, second: Tensor) -> Tensor:
    """The larger `(b,)` of rank and linear correlation: maps that are the same in one way are the same.

    Ranks are blind where a map is a few bright spots in an empty image, whose faint remains they reorder; values are
    blind to all but the brightest spots.
    """
    return torch.maximum(rank_correlation(first, second), linear_correlation(first, second))


def map_similarity(first: Tensor, second: Tensor) -> Tensor:
    """SSIM `(b,)` of two maps `(b, 1, *spatial)`, each stretched to its own maximum; nan where both are empty.

    Maps that are empty nearly everywhere are alike nearly everywhere: read it beside the rank correlation.
    """
    similarity = structural_similarity(_stretched(first), _stretched(second)).float()
    empty = (first.flatten(1).amax(1) <= 0) & (second.flatten(1).amax(1) <= 0)
    return torch.where(empty, torch.full_like(similarity, float("nan")), similarity)


def mask_overlap(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union `(b,)` of two masks `(b, 1, *spatial)` bool; nan where both are empty."""
    first, second = first.flatten(1), second.flatten(1)
    return (first & second).sum(1) / (first | second).sum(1)


def _flat(maps: Tensor) -> np.ndarray:
    return maps.detach().double().cpu().flatten(1).numpy()


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    flat = [bool(np.ptp(one) == 0) for one in (first, second)]
    if any(flat):
        return float("nan") if all(flat) else 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _stretched(maps: Tensor) -> Tensor:
    """Maps scaled to [-1, 1], as images are."""
    peak = maps.flatten(1).amax(1).clamp_min(torch.finfo(torch.float32).tiny)
    return maps / peak.view(-1, *[1] * (maps.ndim - 1)) * 2 - 1
