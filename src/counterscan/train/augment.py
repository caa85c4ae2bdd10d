"""Small random changes of position and exposure, so that a classifier does not learn them."""

import torch
from torch import Tensor
from torch.nn import functional as F


def augment(images: Tensor, *, flip: bool = False) -> Tensor:
    """Shift, turn, scale, and change the exposure of `images` `(b, c, h, w)` in [-1, 1], each by its own draw.

    `flip` mirrors half of them; leave it off where left and right differ.
    """
    return _exposed(_moved(images, _places(images, flip)))


def augment_both(images: Tensor, masks: Tensor, *, flip: bool = False) -> tuple[Tensor, Tensor]:
    """The same for images with their masks `(b, 1, h, w)` bool, which move along."""
    places = _places(images, flip)
    return _exposed(_moved(images, places)), _moved(masks.float(), places) > 0.5


def _places(images: Tensor, flip: bool) -> Tensor:
    """Where `(b, h, w, 2)` each pixel comes from."""
    b = len(images)
    angle = (torch.rand(b) - 0.5) * 0.25
    scale = 1 + (torch.rand(b) - 0.5) * 0.2
    mirror = torch.where(torch.rand(b) < 0.5, -1.0, 1.0) if flip else torch.ones(b)
    shift = (torch.rand(b, 2) - 0.5) * 0.16
    row1 = torch.stack([scale * angle.cos() * mirror, -scale * angle.sin(), shift[:, 0]], 1)
    row2 = torch.stack([scale * angle.sin() * mirror, scale * angle.cos(), shift[:, 1]], 1)
    return F.affine_grid(torch.stack([row1, row2], 1), list(images.shape), align_corners=False)


def _moved(images: Tensor, places: Tensor) -> Tensor:
    return F.grid_sample(images, places, mode="bilinear", padding_mode="border", align_corners=False)


def _exposed(moved: Tensor) -> Tensor:
    b = len(moved)
    gain = 1 + (torch.rand(b, 1, 1, 1) - 0.5) * 0.3
    offset = (torch.rand(b, 1, 1, 1) - 0.5) * 0.2
    noise = 0.04 * torch.rand(b, 1, 1, 1) * torch.randn_like(moved)
    return (moved * gain + offset + noise).clamp(-1, 1)
