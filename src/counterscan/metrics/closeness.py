"""How small the change is. Units are shares of the window; images that already answered as asked are left out."""

import torch
from torch import Tensor
from torch.nn import functional as F

from counterscan.core import Explanation
from counterscan.metrics.truth import undefined, where
from counterscan.metrics.validity import attempted
from counterscan.registry import METRICS

CHANGED = 0.02  # share of the window by which a pixel must move to count as changed
RADIUS, SIGMA = 5, 1.5  # the 11-pixel Gaussian of SSIM
K1, K2 = 0.01, 0.03
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # weights of Wang et al. 2003


@METRICS.register("l1")
def l1(explanation: Explanation, *, classifier=None, judge=None, truth=None) -> Tensor:
    """Mean absolute change `(b,)` from the reference, as a share of the window."""
    return _of_change(explanation, lambda change: change.abs().mean(1))


@METRICS.register("l2")
def l2(explanation: Explanation, *, classifier=None, judge=None, truth=None) -> Tensor:
    """Root mean square change `(b,)` from the reference, as a share of the window."""
    return _of_change(explanation, lambda change: change.square().mean(1).sqrt())


@METRICS.register("changed_share")
def changed_share(explanation: Explanation, *, classifier=None, judge=None, truth=None) -> Tensor:
    """Share of the pixel values `(b,)` that move by more than `CHANGED` of the window."""
    return _of_change(explanation, lambda change: (change.abs() > CHANGED).float().mean(1))


@METRICS.register("ssim")
def ssim(explanation: Explanation, *, classifier=None, judge=None, truth=None) -> Tensor:
    """Structural similarity `(b,)` of counterfactual and reference, in [-1, 1]."""
    return _of_pair(explanation, structural_similarity)


@METRICS.register("ms_ssim")
def ms_ssim(explanation: Explanation, *, classifier=None, judge=None, truth=None) -> Tensor:
    """Multi-scale structural similarity `(b,)` of counterfactual and reference, in [0, 1]; see `multiscale`."""
    return _of_pair(explanation, multiscale)


def structural_similarity(first: Tensor, second: Tensor) -> Tensor:
    """SSIM `(b,)` of images `(b, c, *spatial)` in [-1, 1]: 11-pixel Gaussian, no border, mean over channels.

    Volumes are compared slice by slice along the last axis. A side below 11 pixels has no window to compare: nan.
    """
    first, second, batch = _planes(first), _planes(second), len(first)
    if min(first.shape[-2:]) <= 2 * RADIUS:
        return torch.full((batch,), float("nan"))
    luminance, structure = _terms(first, second)
    return (luminance * structure).view(batch, -1).mean(1)


def multiscale(first: Tensor, second: Tensor) -> Tensor:
    """MS-SSIM `(b,)` over as many of the five scales as the side allows, their weights made to sum to 1.

    A side of 176 pixels or more has all five, 128 has four; so compare only figures of the same size.
    """
    first, second, batch = _planes(first), _planes(second), len(first)
    depth = sum(min(first.shape[-2:]) // 2**level > 2 * RADIUS for level in range(len(SCALES)))
    if not depth:
        return torch.full((batch,), float("nan"))
    result = torch.ones(first.shape[:-2])
    for level, weight in enumerate(SCALES[:depth]):
        luminance, structure = _terms(first, second)
        part = luminance * structure if level == depth - 1 else structure
        # a negative mean has no fractional power; it counts as no similarity at all
        result = result * part.mean((-2, -1)).clamp_min(0) ** (weight / sum(SCALES[:depth]))
        first, second = F.avg_pool2d(first, 2), F.avg_pool2d(second, 2)
    return result.view(batch, -1).mean(1)


def _terms(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """The luminance map and the contrast-structure map of images in [0, 1], `(..., h, w)`."""
    mean_1, mean_2 = _blur(first), _blur(second)
    variance_1 = _blur(first * first) - mean_1**2
    variance_2 = _blur(second * second) - mean_2**2
    covariance = _blur(first * second) - mean_1 * mean_2
    luminance = (2 * mean_1 * mean_2 + K1**2) / (mean_1**2 + mean_2**2 + K1**2)
    structure = (2 * covariance + K2**2) / (variance_1 + variance_2 + K2**2)
    return luminance, structure


def _blur(planes: Tensor) -> Tensor:
    steps = torch.arange(-RADIUS, RADIUS + 1, dtype=planes.dtype, device=planes.device)
    kernel = torch.exp(-steps.square() / (2 * SIGMA**2))
    kernel = kernel / kernel.sum()
    flat = planes.flatten(0, -3).unsqueeze(1)
    flat = F.conv2d(F.conv2d(flat, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
    return flat.view(*planes.shape[:-2], *flat.shape[-2:])


def _planes(images: Tensor) -> Tensor:
    """`(b, c, h, w)` or `(b, c, h, w, d)` in [-1, 1] as double planes `(b, c or c * d, h, w)` in [0, 1]."""
    images = (images.double() + 1) / 2
    return images if images.ndim == 4 else images.movedim(-1, 2).flatten(1, 2)


def _of_change(explanation: Explanation, formula) -> Tensor:
    difference = explanation.difference
    if difference is None:
        return undefined(explanation)
    return where(attempted(explanation), formula(difference.flatten(1) / 2))


def _of_pair(explanation: Explanation, formula) -> Tensor:
    if explanation.counterfactual is None:
        return undefined(explanation)
    return where(attempted(explanation), formula(explanation.counterfactual, explanation.reference))
