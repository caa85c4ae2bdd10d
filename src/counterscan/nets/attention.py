"""Attention of places to all places and to the words of a text, as latent diffusion has it (arXiv 2112.10752)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterscan.nets.blocks import zeroed

HEAD = 32  # channels of a head
TURNS = 3  # sines and cosines that tell where a place is: half a turn over the image, one, two


class TokenAttention(nn.Module):
    """Maps `(b, width, h, w)` to itself; each place looks at all places and at the tokens, in one attention.

    `tokens` is the width of a token. Each place is told where it is, because "left" means nothing otherwise. Starts as
    the identity.
    """

    def __init__(self, width: int, tokens: int):
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.place = nn.Conv2d(4 * TURNS, width, 1)
        self.ask = nn.Conv2d(width, 3 * width, 1)
        self.read = nn.Linear(tokens, 2 * width)
        self.say = zeroed(nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """`tokens` `(b, l, tokens)` with `mask` `(b, l)` bool, true where there is a token."""
        b, _, h, w = x.shape
        seen = self.norm(x) + self.place(places(h, w).to(x))
        query, key, value = (_heads(part.flatten(2).transpose(1, 2)) for part in self.ask(seen).chunk(3, 1))
        words, meanings = (_heads(part) for part in self.read(tokens.to(x.dtype)).chunk(2, 2))
        keys, values = torch.cat([key, words], 2), torch.cat([value, meanings], 2)
        there = torch.cat([mask.new_ones(b, h * w), mask], 1)[:, None, None]
        answer = F.scaled_dot_product_attention(query, keys, values, attn_mask=there)
        return x + self.say(answer.transpose(1, 2).flatten(2).transpose(1, 2).unflatten(2, (h, w)))


def _heads(rows: Tensor) -> Tensor:
    """`(b, n, width)` as `(b, heads, n, width / heads)`."""
    return rows.unflatten(2, (-1, HEAD)).transpose(1, 2)


def places(h: int, w: int) -> Tensor:
    """Sines and cosines `(1, 4 * TURNS, h, w)` of how far down and across each place is."""
    down, across = ((torch.arange(side) + 0.5) / side for side in (h, w))
    angles = torch.stack(torch.meshgrid(down, across, indexing="ij"))[None] * math.pi
    turned = torch.cat([angles * 2.0**turn for turn in range(TURNS)], 1)
    return torch.cat([turned.sin(), turned.cos()], 1)
