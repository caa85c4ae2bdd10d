"""How much noise there is at which step: continuous levels (Karras et al., 2022), and the discrete schedules of DDPM.

A level is sigma of noisy = clean + sigma * noise. A DDPM of alpha_bar shows its network sqrt(alpha_bar) * clean +
sqrt(1 - alpha_bar) * noise, which is the same image divided by sqrt(1 + sigma ** 2), sigma ** 2 = 1 / alpha_bar - 1.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from counterscan.errors import CounterscanError

LOWEST, HIGHEST = 0.01, 80.0  # of `karras`; 0.01 is about one step of an 8-bit image


def karras(steps: int, lowest: float = LOWEST, highest: float = HIGHEST, rho: float = 7.0) -> Tensor:
    """Levels `(steps + 1,)` from `highest` down to `lowest`, then 0 (arXiv 2206.00364, equation 5)."""
    _positive(steps)
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    levels = (highest ** (1 / rho) + ramp * (lowest ** (1 / rho) - highest ** (1 / rho))) ** rho
    return torch.cat([levels, torch.zeros(1)]).float()


@dataclass(frozen=True, eq=False)
class DiscreteSchedule:
    """The levels of a DDPM by timestep: `alpha_bar` `(t,)` float64, falling, in (0, 1)."""

    alpha_bar: Tensor = field(repr=False)

    @property
    def sigmas(self) -> Tensor:
        """The level of each timestep `(t,)`, rising."""
        return (1 / self.alpha_bar - 1).sqrt()

    def respaced(self, steps: int) -> Tensor:
        """`steps` of the timesteps, evenly spread from the last to the first, as the retinal paper does."""
        _positive(steps, len(self.alpha_bar))
        return torch.linspace(0, len(self.alpha_bar) - 1, steps, dtype=torch.float64).round().long().flip(0)

    def levels(self, steps: int) -> Tensor:
        """The levels of the respaced timesteps, falling, then 0: `(steps + 1,)`."""
        return torch.cat([self.sigmas[self.respaced(steps)], torch.zeros(1)]).float()

    def timestep(self, sigma: Tensor, *, interpolated: bool = False) -> Tensor:
        """The timestep `(b,)` of each level: the nearest in log(sigma), or as a float between two of them.

        Levels beyond either end get the timestep of that end.
        """
        known, wanted = self.sigmas.to(sigma.device).log(), sigma.double().log()
        above = torch.searchsorted(known, wanted).clamp(1, len(known) - 1)
        low, high = known[above - 1], known[above]
        exact = (above - 1 + (wanted - low) / (high - low)).clamp(0, len(known) - 1)
        return exact.float() if interpolated else exact.round().long()


def linear(timesteps: int = 1000, first: float = 1e-4, last: float = 0.02) -> DiscreteSchedule:
    """Variances that grow linearly from `first` to `last` (Ho et al., 2020)."""
    return _of_betas(torch.linspace(first, last, timesteps, dtype=torch.float64))


def scaled_linear(timesteps: int = 1000, first: float = 0.00085, last: float = 0.012) -> DiscreteSchedule:
    """Variances whose roots grow linearly (latent diffusion, Rombach et al., 2022)."""
    return _of_betas(torch.linspace(first**0.5, last**0.5, timesteps, dtype=torch.float64).square())


def cosine(timesteps: int = 1000, offset: float = 0.008, largest: float = 0.999) -> DiscreteSchedule:
    """alpha_bar as a squared cosine, no variance above `largest` (Nichol and Dhariwal, 2021)."""
    ramp = torch.linspace(0, 1, timesteps + 1, dtype=torch.float64)
    alpha_bar = ((ramp + offset) / (1 + offset) * math.pi / 2).cos().square()
    return _of_betas((1 - alpha_bar[1:] / alpha_bar[:-1]).clamp_max(largest))


def _of_betas(betas: Tensor) -> DiscreteSchedule:
    return DiscreteSchedule((1 - betas).cumprod(0))


def _positive(steps: int, most: float = math.inf) -> None:
    if not 1 <= steps <= most:
        raise CounterscanError(f"{steps} sampling steps cannot be; ask for at least 1 and at most {most:g}")
