"""Small random changes of position and exposure, so that a classifier does not learn them."""

import torch
from torch import Tensor
from torch.nn import functional as F


def augment(images: Tensor, *, flip: bool = False) -> Tensor:
    """Shift, turn, scale, and change the exposure of `images` `(b, c, h, w)` in [-1, 1], each by its own draw.

    `flip` mirrors half of them; leave it off where left and right differ.
    """
    b = len(images)
    angle = (torch.rand(b) - 0.5) * 0.25
    scale = 1 + (torch.rand(b) - 0.5) * 0.2
    mirror = torch.where(torch.rand(b) < 0.5, -1.0, 1.0) if flip else torch.ones(b)
    shift = (torch.rand(b, 2) - 0.5) * 0.16
    row1 = torch.stack([scale * angle.cos() * mirror, -scale * angle.sin(), shift[:, 0]], 1)
    row2 = torch.stack([scale * angle.sin() * mirror, scale * angle.cos(), shift[:, 1]], 1)
    field = F.affine_grid(torch.stack([row1, row2], 1), list(images.shape), align_corners=False)
    moved = F.grid_sample(images, field, mode="bilinear", padding_mode="border", align_corners=False)
    gain = 1 + (torch.rand(b, 1, 1, 1) - 0.5) * 0.3
    offset = (torch.rand(b, 1, 1, 1) - 0.5) * 0.2
    noise = 0.04 * torch.rand(b, 1, 1, 1) * torch.randn_like(moved)
    return (moved * gain + offset + noise).clamp(-1, 1)
