"""Bring images from one size and channel count to another, differentiably."""

from torch import Tensor
from torch.nn import functional as F


def fit_images(images: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Bring `images` `(b, c, *spatial)` to `shape` `(c, *spatial)`: grey is repeated, colour averaged."""
    channels, *spatial = shape
    if images.shape[1] != channels:
        images = images.mean(1, keepdim=True).expand(-1, channels, *images.shape[2:])
    if list(images.shape[2:]) != spatial:
        images = resize(images, tuple(spatial))
    return images


def resize(images: Tensor, spatial: tuple[int, ...]) -> Tensor:
    """Resample `(b, c, *spatial)` linearly, antialiased where it shrinks."""
    if images.ndim == 4:
        return F.interpolate(images, size=spatial, mode="bilinear", align_corners=False, antialias=True)
    return F.interpolate(images, size=spatial, mode="trilinear", align_corners=False)


def fit_mask(mask: Tensor, spatial: tuple[int, int]) -> Tensor:
    """Bring a boolean `(b, 1, h, w)` to `spatial`: a pixel is in where at least half of it was.

    A lesion smaller than that keeps the pixel it fills most, so that no truth becomes empty by shrinking.
    """
    if mask.shape[2:] == spatial:
        return mask
    share = resize(mask.float(), spatial)
    most = share.amax((1, 2, 3), keepdim=True)
    return (share >= 0.5) | ((share == most) & (most > 0) & (most < 0.5))
