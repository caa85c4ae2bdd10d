"""Where two texts differ about an image, and what stands there when one of them is true.

The region is found as in DiffEdit (Couairon et al., 2023, arXiv 2210.11427): the image's latents are noised, and
estimated under either text; where the estimates differ the texts speak of. There the latents are drawn anew, guided
from one text to the other; everywhere else they stay as they are at each level of noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from counterscan.core import Denoiser
from counterscan.errors import CounterscanError
from counterscan.priors.sampling import Noise, dpm_solver
from counterscan.priors.schedules import scaled_linear
from counterscan.priors.text import TextPrior, guided, told

LOOKED_AT = (0.7, 1.5, 3.0)  # levels of noise at which the texts are compared
LOOKS = 2  # noises at each
LEAST = 0.004  # of a difference of estimates, in deviations of the latents: less is no difference
SCHEDULE, LOWEST = scaled_linear(), 0.02


def contrast(prior: TextPrior, latents: Tensor, asked: Sequence[str], against: Sequence[str], noise: Noise) -> Tensor:
    """How differently the texts estimate each place of the latents `(b, c, h, w)`: `(b, 1, h, w)`, not negative.

    The mean over `LOOKED_AT` and noises of the size of the mean difference; texts that are the same differ nowhere.
    """
    both = told(prior, [*against, *asked])
    found = torch.zeros_like(latents[:, :1])
    for level in LOOKED_AT:
        sigma = torch.full((2 * len(latents),), level)
        change = torch.zeros_like(latents)
        for _ in range(LOOKS):
            noisy = latents + level * noise(latents)
            there, here = both(torch.cat([noisy, noisy]), sigma).chunk(2)
            change = change + (here - there) / LOOKS
        found = found + change.square().mean(1, keepdim=True).sqrt() / len(LOOKED_AT)
    return F.avg_pool2d(found, 3, 1, 1, count_include_pad=False)


@dataclass(frozen=True, eq=False)
class Blended:
    """The denoiser, its estimates mixed with `latents` by `region` `(b, 1, h, w)` in [0, 1]: 1 is free to change."""

    denoiser: Denoiser
    latents: Tensor
    region: Tensor

    def __call__(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        return self.latents + self.region * (self.denoiser(noisy, sigma) - self.latents)


@dataclass(frozen=True)
class Rung:
    """How much may change: the `share` of places, the `strength` of the noise in [0, 1], and the `guidance`."""

    share: float
    strength: float
    guidance: float


@dataclass(frozen=True, eq=False)
class Edit:
    """Images as latents `(b, c, h, w)`, and the texts `asked` for and `against` which they are edited.

    `steps` are those of the whole way from noise; `draws` noises are tried, or, `inverted`, none: the latents are then
    followed up to the level of noise and down again, which leads to one answer.
    """

    prior: TextPrior
    latents: Tensor
    reconstruction: Tensor
    asked: Sequence[str]
    against: Sequence[str]
    steps: int = 10
    draws: int = 4
    inverted: bool = False

    def select(self, rows: Tensor) -> "Edit":
        """The edit of some of the images."""
        asked, against = ([texts[row] for row in rows.tolist()] for texts in (self.asked, self.against))
        latents, reconstruction = self.latents[rows], self.reconstruction[rows]
        return replace(self, latents=latents, reconstruction=reconstruction, asked=asked, against=against)

    def drawn(self, region: Tensor, rung: Rung, noise: Noise) -> tuple[Tensor, Tensor]:
        """The change of images, mean and standard deviation over the draws, when `region` is drawn anew."""
        draws = 1 if self.inverted else self.draws
        levels = levels_of(self.steps, rung.strength).to(self.latents)
        latents, wide = (one.repeat(draws, 1, 1, 1) for one in (self.latents, region))
        texts = [*self.asked] * draws, [*self.against] * draws
        denoiser = Blended(guided(self.prior, *texts, rung.guidance), latents, wide)
        if self.inverted:
            begin = dpm_solver(told(self.prior, texts[1]), latents, ascending(levels))
        else:
            begin = latents + levels[0] * torch.cat([noise(self.latents) for _ in range(draws)])
        decoded = self.prior.codec.decode(dpm_solver(denoiser, begin, levels))
        change = decoded.view(draws, *self.reconstruction.shape) - self.reconstruction
        return change.mean(0), change.std(0, correction=0)


def levels_of(steps: int, strength: float) -> Tensor:
    """The last levels of noise of `steps`, falling to 0, where a share `strength` of them is taken."""
    taken = int(steps * strength + 1e-6)
    if not 1 <= taken <= steps:
        raise CounterscanError(
            f"strength {strength:g} takes {taken} of {steps} steps; use {1 / steps:g} to 1, or more steps"
        )
    return SCHEDULE.levels(steps)[steps - taken :]


def ascending(levels: Tensor) -> Tensor:
    """The same levels from the lowest that holds noise; an image counts as of `LOWEST`."""
    return torch.cat([levels.new_tensor([LOWEST]), levels[:-1].flip(0)])


def region_of(differ: Tensor, share: float) -> Tensor:
    """Where texts differ most: `share` of the places, `(b, 1, h, w)` in [0, 1] with a soft border.

    Only places where they differ at least by `LEAST`; texts that are alike leave no region at all.
    """
    least = differ.flatten(1).quantile(1 - share, 1).clamp_min(LEAST).view(-1, 1, 1, 1)
    taken = F.max_pool2d((differ >= least).float(), 3, 1, 1)
    return F.avg_pool2d(taken, 3, 1, 1, count_include_pad=False)
