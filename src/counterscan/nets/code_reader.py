"""A small network that reads answers off the code of a diffusion autoencoder: maps of what an image shows where."""

import torch
from torch import Tensor, nn

from counterscan.nets.blocks import conv


class CodeReader(nn.Module):
    """Maps rows `(b, latents * places**2)`, the maps of `nets/semantic_encoder.py`, to `(b, outputs)`.

    Two convolutions see each place with its neighbours; their mean and their maximum over the places are read linearly,
    the one for what is spread out, the other for what is small. Smooth throughout, so that its slopes are of use.
    """

    def __init__(self, latents: int = 4, places: int = 16, outputs: int = 1, width: int = 48):
        super().__init__()
        self.shape = (latents, places, places)
        self.seen = nn.Sequential(
            conv(latents, width), nn.SiLU(), conv(width, width), nn.SiLU(), conv(width, 2 * width, stride=2), nn.SiLU()
        )
        self.head = nn.Linear(4 * width, outputs)

    def forward(self, rows: Tensor) -> Tensor:
        seen = self.seen(rows.view(-1, *self.shape)).flatten(2)
        return self.head(torch.cat([seen.mean(2), seen.logsumexp(2)], 1))
