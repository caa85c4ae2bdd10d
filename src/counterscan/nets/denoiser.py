"""A small denoiser: the U-Net of `nets/unet.py`, told the noise level, preconditioned as EDM (arXiv 2206.00364)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterscan.nets.blocks import conv
from counterscan.nets.unet import UNet

FREQUENCIES = 16  # of sines and of cosines that tell the noise level
LOWEST, HIGHEST = 0.125, 4.0  # turns of these while ln(sigma) / 4 grows by one
HINTS, GRID = 16, 8  # maps that a text is made into as a whole, and their side: scans of a kind are framed alike


class DenoisingUNet(nn.Module):
    """Maps `noisy` `(b, channels, h, w)` and `sigma` `(b,)` to the clean estimate `(b, channels, h, w)`.

    noisy = clean + sigma * noise. `spread` is the root mean square of clean images; with it the U-Net's input and what
    it has to answer have a mean square of one at every sigma. `h` and `w` must be divisible by
    `patch * 2 ** (len(widths) - 1)`. Fresh, it answers the best estimate that is linear in the noisy pixel; how much of
    that pixel is believed at which level is learned. With `semantics` it is also told so many maps
    `(b, semantics, p, p)` that say what the image shows where (`nets/semantic_encoder.py`); with `tokens` a text,
    as tokens so wide and their mask, which the `attended` coarsest levels look at. What the U-Net `predicts` is the
    velocity of arXiv 2202.00512 or, as in DDPM, the noise; the answer is the clean estimate all the same.
    """

    turns: Tensor

    def __init__(
        self,
        channels: int = 1,
        spread: float = 0.5,
        widths: Sequence[int] = (64, 128, 160, 160),
        patch: int = 4,
        depth: int = 1,
        conditions: int = 96,
        semantics: int = 0,
        tokens: int = 0,
        attended: int = 0,
        predicts: str = "velocity",
    ):
        super().__init__()
        if predicts not in ("velocity", "noise"):
            raise ValueError(f"a denoiser predicts velocity or noise, not {predicts!r}")
        self.spread, self.predicts = spread, predicts
        self.embed = nn.Sequential(
            nn.Linear(2 * FREQUENCIES, conditions), nn.SiLU(), nn.Linear(conditions, conditions), nn.SiLU()
        )
        self.unet = UNet(channels, channels, conditions, widths, patch, depth, tokens=tokens, attended=attended)
        # noise of single pixels, which a patch of them is too narrow to carry through, is taken back by one factor
        self.believed = nn.Linear(conditions, 1)
        nn.init.zeros_(self.believed.weight)
        nn.init.zeros_(self.believed.bias)
        turns = torch.logspace(math.log2(LOWEST), math.log2(HIGHEST), FREQUENCIES, base=2) * 2 * math.pi
        self.register_buffer("turns", turns, persistent=False)
        self.semantic = conv(semantics, widths[0]) if semantics else None
        self.gist = nn.Linear(tokens, conditions) if tokens else None
        self.where = nn.Linear(tokens, HINTS * GRID**2) if tokens else None
        self.hinted = conv(HINTS, widths[0]) if tokens else None

    def forward(
        self,
        noisy: Tensor,
        sigma: Tensor,
        maps: Tensor | None = None,
        text: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        level = sigma.float().view(-1, *[1] * (noisy.ndim - 1))
        total = level.square() + self.spread**2
        scaled, told = noisy / total.sqrt(), self.embed(self._told(sigma))
        beside = self._placed(maps, noisy)
        if self.gist is not None and text is not None:
            gist = _mean(*text)
            told, beside = told + self.gist(gist), self._hints(gist, noisy)
        answer = self.unet(scaled, told, beside, text).float() + self.believed(told).float().view_as(level) * scaled
        if self.predicts == "noise":
            return noisy - level * answer
        return noisy * (self.spread**2 / total) + answer * (level * self.spread / total.sqrt())

    def _placed(self, maps: Tensor | None, noisy: Tensor) -> Tensor | None:
        """What the maps say, `(b, widths[0], ...)` at the size of the U-Net's stem."""
        if self.semantic is None or maps is None:
            return None
        return F.interpolate(self.semantic(maps), [side // self.unet.patch for side in noisy.shape[2:]])

    def _hints(self, gist: Tensor, noisy: Tensor) -> Tensor:
        """What a text says as a whole of each place, `(b, widths[0], ...)` at the size of the U-Net's stem."""
        assert self.where is not None
        assert self.hinted is not None
        coarse = self.where(gist).view(-1, HINTS, GRID, GRID)
        return self.hinted(
            F.interpolate(coarse, [side // self.unet.patch for side in noisy.shape[2:]], mode="bilinear")
        )

    def _told(self, sigma: Tensor) -> Tensor:
        """Sines and cosines `(b, 2 * FREQUENCIES)` of the noise level."""
        turned = (sigma.float().log() / 4)[:, None] * self.turns
        return torch.cat([turned.sin(), turned.cos()], 1)


def _mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """The mean `(b, tokens)` of the tokens that are there."""
    there = mask[..., None].to(tokens)
    return (tokens * there).sum(1) / there.sum(1).clamp_min(1)
