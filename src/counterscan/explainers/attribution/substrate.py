"""What stands where a part of an image is taken away: stated, because a map shows only the difference from it."""

import torch
from torch import Tensor

from counterscan.errors import CounterscanError, did_you_mean

NAMED = ("border", "mean", "blur")
BLUR = 0.1  # standard deviation of the blur, as a share of each side: wide enough for a lesion to be gone

Fill = float | str | None  # a value in [-1, 1], one of NAMED, or None for "border"


def check_fill(fill: Fill, setting: str) -> None:
    """Refuse what is no substrate: a number outside [-1, 1] or an unknown word raises CounterscanError."""
    if isinstance(fill, str) and fill not in NAMED:
        raise CounterscanError(f"{setting}: a number in [-1, 1] or a word, not {fill!r}{did_you_mean(fill, NAMED)}")
    if isinstance(fill, int | float) and not -1 <= fill <= 1:
        raise CounterscanError(f"{setting} is a pixel's value in [-1, 1], got {fill}")


def substrate(images: Tensor, fill: Fill) -> Tensor:
    """What `images` `(b, c, *spatial)` in [-1, 1] hold where nothing is shown; the same shape and range.

    A number is that value; `mean` each channel's mean; `blur` the image itself, blurred until a lesion is gone;
    `border`, as None, the median of each channel's outermost pixels: air, in most scans.
    """
    if fill == "blur":
        return blurred(images)
    if fill == "mean":
        values = images.flatten(2).mean(2)
    elif fill is None or fill == "border":
        values = border_median(images)
    else:
        values = images.new_full(images.shape[:2], float(fill))
    return values.reshape(*values.shape, *[1] * (images.ndim - 2)).expand_as(images)


def border_median(images: Tensor) -> Tensor:
    """The median `(b, c)` of the outermost pixels of images `(b, c, *spatial)`: air, in most scans."""
    inside = torch.zeros(images.shape[2:], dtype=torch.bool, device=images.device)
    inside[(slice(1, -1),) * inside.ndim] = True
    return images[:, :, ~inside].median(2).values


def blurred(images: Tensor, share: float = BLUR) -> Tensor:
    """`images` `(b, c, *spatial)` after a Gaussian along each axis, whose deviation is that `share` of the side.

    At the edge its weights are those of the pixels that exist.
    """
    for axis, side in enumerate(images.shape[2:], start=2):
        place = torch.arange(side, dtype=images.dtype, device=images.device)
        weights = torch.exp(-((place[:, None] - place) ** 2) / (2 * (share * side) ** 2))
        weights = weights / weights.sum(1, keepdim=True)
        images = (images.movedim(axis, -1) @ weights.T).movedim(-1, axis)
    return images
