"""Losses of a generator and its discriminator, and the penalties that keep the discriminator smooth.

`wgan-gp` (Karras et al., 2018, app. A.1; Gulrajani et al., 2017, 1704.00028): differences of means, the gradient's
length at points between real and made images pulled to one, and scores kept near zero. `relativistic` (Huang et al.,
2024, 2501.05441; Jolicoeur-Martineau, 1807.00734): each real image is to score above the made one beside it, and
gradients at real and at made images are pulled to zero (R1 and R2, Mescheder et al., 2018, 1801.04406). Changes: R1 and
R2 are taken every `LAZY` steps with as many times the weight (Karras et al., 2019, 1912.04958), and their weight goes
with the number of pixels, so that it means the same at every resolution; both networks learn from the same made images,
whose way through the generator is walked once, and real images are scored once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from counterscan.nets.growing_gan import GrowingGAN
from counterscan.nets.precision import reduced
from counterscan.train.descent import learning, step_down

LAZY = 8  # steps of which one takes R1 and R2
LENGTH, DRIFT = 10.0, 1e-3  # weights of WGAN-GP's gradient penalty, and of the squares of the scores of real images

Critic = Callable[[Tensor], Tensor]  # images (b, c, h, w) to scores (b,)


@dataclass(frozen=True)
class Relativistic:
    """The relativistic pairing loss with R1 and R2, each of weight `gamma` / 2 at `side` pixels, every `LAZY` steps."""

    gamma: float
    side: int

    def discriminator(
        self, critic: Critic, real: Tensor, fake: Tensor, step: int
    ) -> tuple[Mapping[str, Tensor], Tensor]:
        """The losses of the discriminator, and the scores `(b,)` of the real images."""
        penalised = step % LAZY == 0 and self.gamma > 0
        real, fake = real.detach().requires_grad_(penalised), fake.detach().requires_grad_(penalised)
        on_real, on_fake = critic(real), critic(fake)
        losses = {"discriminator": F.softplus(on_fake - on_real).mean()}
        if penalised:
            weight = LAZY * self.gamma / 2 * (real.shape[-1] / self.side) ** 2
            slopes = torch.autograd.grad(on_real.sum() + on_fake.sum(), [real, fake], create_graph=True)
            losses["penalty"] = weight * torch.stack([squared_length(slope).mean() for slope in slopes]).sum()
        return losses, on_real.detach()

    def generator(self, on_fake: Tensor, on_real: Tensor) -> Tensor:
        """The loss of the generator, by the scores of its images and of the real ones beside them."""
        return F.softplus(on_real - on_fake).mean()


@dataclass(frozen=True)
class WGANGP:
    """The Wasserstein loss with its gradient penalty, every step."""

    def discriminator(
        self, critic: Critic, real: Tensor, fake: Tensor, step: int
    ) -> tuple[Mapping[str, Tensor], Tensor]:
        """The losses of the discriminator, and the scores `(b,)` of the real images."""
        real, fake = real.detach(), fake.detach()
        on_real, on_fake = critic(real), critic(fake)
        share = torch.rand(len(real), 1, 1, 1, device=real.device)
        between = fake.float().lerp(real, share).requires_grad_()
        (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
        length = (squared_length(slope) + 1e-12).sqrt()
        losses = {
            "discriminator": on_fake.mean() - on_real.mean(),
            "penalty": LENGTH * (length - 1).square().mean(),
            "drift": DRIFT * on_real.square().mean(),
        }
        return losses, on_real.detach()

    def generator(self, on_fake: Tensor, on_real: Tensor) -> Tensor:
        """The loss of the generator, by the scores of its images."""
        return -on_fake.mean()


def squared_length(slope: Tensor) -> Tensor:
    """The squared length `(b,)` of each image's gradient."""
    return slope.float().square().flatten(1).sum(1)


def optimisers_of(network: GrowingGAN, rate: float) -> dict[str, torch.optim.Optimizer]:
    """One for each network; without momentum, as the papers have it."""
    return {
        name: torch.optim.Adam(module.parameters(), rate, (0.0, 0.99), fused=True)
        for name, module in (("generator", network.generator), ("discriminator", network.discriminator))
    }


def descend_both(
    network: GrowingGAN,
    optimisers: Mapping[str, torch.optim.Optimizer],
    loss: "Relativistic | WGANGP",
    real: Tensor,
    latents: Tensor,
    grown: float,
    step: int,
) -> dict[str, float]:
    """One step of the discriminator and then one of the generator; the losses, and the mean score of real images.

    `real` is `(b, c, side, side)` at the side that belongs to `grown`, `latents` `(b, d)`.
    """
    critic = partial(network.discriminator, grown=grown)
    with reduced(real.device):
        fake = network.generator(latents, grown)
        losses, on_real = loss.discriminator(critic, real, fake, step)
    step_down(optimisers["discriminator"], torch.stack(list(losses.values())).sum(), learning(network.discriminator))
    network.discriminator.requires_grad_(False)
    with reduced(real.device):
        generator = loss.generator(critic(fake), on_real)
    step_down(optimisers["generator"], generator, learning(network.generator))
    network.discriminator.requires_grad_(True)
    values = {**losses, "generator": generator, "real_score": on_real.mean()}
    return {name: float(value.detach()) for name, value in values.items()}
