"""How a network learns to denoise (EDM: Karras et al., 2022, arXiv 2206.00364): levels, weights, and the task.

ln(sigma) is normal, `MIDDLE` +- `WIDTH`, drawn one from each of as many equal parts as a batch has images; the loss is
the squared error weighted by (sigma ** 2 + spread ** 2) / (sigma * spread) ** 2, which makes the error of a network
that knows nothing one at every level. Changes to the paper: more of high levels, no augmentation that the network
would have to be told of.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from counterscan.core import Card, Denoiser
from counterscan.data.batches import Images
from counterscan.pictures import contact_sheet, grey
from counterscan.priors.denoiser import NetworkDenoiser
from counterscan.priors.sampling import Noise, dpm_solver
from counterscan.priors.schedules import karras
from counterscan.train.descent import descend

MIDDLE, WIDTH = -0.8, 1.4  # of ln(sigma)
LEVELS = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0)  # at which the error is measured
MOST = 64  # images that it is measured on
SHOWN, SHOWN_AT, STEPS = 8, 1.0, 20  # images in a preview, the noise in them, and the steps of its samples


def spread(images: Images, most: int = 512) -> float:
    """The root mean square of the first `most` images, which were listed in no order that matters here."""
    squares = [images.batch(chosen).square().mean() for chosen in torch.arange(min(len(images), most)).split(64)]
    return round(float(torch.stack(squares).mean().sqrt()), 4)


def drawn_levels(count: int) -> Tensor:
    """Levels `(count,)`: ln(sigma) is normal, one from each of `count` equally likely parts."""
    share = (torch.arange(count) + torch.rand(count)) / count
    return (MIDDLE + WIDTH * torch.special.ndtri(share.clamp(1e-6, 1 - 1e-6))).exp()


def plain(network: nn.Module, card: Card, clean: Tensor) -> Denoiser:
    """The denoiser that knows nothing of the clean images."""
    return NetworkDenoiser(network, card)


@torch.no_grad()
def restored_and_drawn(network: nn.Module, card: Card, clean: Tensor) -> Sequence[Tensor]:
    """Rows of a preview: images, the same with noise, what the network makes of that, and samples from noise."""
    denoiser, noise, levels = plain(network, card, clean), Noise(range(len(clean)))(clean), karras(STEPS)
    noisy = clean + SHOWN_AT * noise
    restored = denoiser(noisy, torch.full((len(clean),), SHOWN_AT))
    return clean, noisy, restored, dpm_solver(denoiser, levels[0] * noise, levels)


@dataclass
class DiffusionTask:
    """One step sees a batch of training images drawn at random, each at a level of its own.

    `told` makes the denoiser from the network, its card, and the clean images, which it may tell it something of;
    `shown` answers the rows `(b, c, h, w)` of a preview from the same. `beside` answers further losses from that
    denoiser and the indices of the images; the modules that it needs for them, the `helpers`, learn along.
    """

    network: nn.Module
    images: Mapping[str, Images]
    card: Card
    batch: int = 16
    rate: float = 1e-3
    flip: bool = False
    told: Callable[[nn.Module, Card, Tensor], Denoiser] = plain
    shown: Callable[[nn.Module, Card, Tensor], Sequence[Tensor]] = restored_and_drawn
    beside: Callable[[Denoiser, Tensor], Mapping[str, Tensor]] | None = None
    helpers: Mapping[str, nn.Module] = field(default_factory=dict)
    averaged: str = "network"

    def __post_init__(self) -> None:
        self.modules = {"network": self.network, **self.helpers}
        self.learning = nn.ModuleList(self.modules.values())
        self.optimisers = {"network": torch.optim.AdamW(self.learning.parameters(), self.rate, weight_decay=0.01)}
        self.spread = self.card.settings["spread"]

    def step(self, step: int) -> Mapping[str, float]:
        self.network.train()
        chosen = torch.randint(len(self.images["train"]), (self.batch,))
        clean = self.images["train"].batch(chosen)
        if self.flip:
            clean = torch.where(torch.rand(self.batch, 1, 1, 1) < 0.5, clean.flip(3), clean)
        sigma = drawn_levels(self.batch)
        noisy = clean + sigma.view(-1, 1, 1, 1) * torch.randn_like(clean)
        denoiser = self.told(self.network, self.card, clean)
        errors = (denoiser(noisy, sigma) - clean).square().mean((1, 2, 3))
        losses = {"loss": (self._weight(sigma) * errors).mean()}
        losses |= self.beside(denoiser, chosen) if self.beside else {}
        return descend(self.learning, self.optimisers["network"], losses)

    def _weight(self, sigma: Tensor) -> Tensor:
        return (sigma.square() + self.spread**2) / (sigma * self.spread).square()

    def validate(self, network: nn.Module) -> Mapping[str, float]:
        """The weighted error, over fixed levels and noises; the score is what it leaves of one."""
        errors = self.errors(network, "validation")
        levels = torch.tensor(LEVELS)
        weighted = self._weight(levels) * torch.tensor([*errors.values()]).square()
        return {"score": 1 - float(weighted.mean()), **errors}

    @torch.no_grad()
    def errors(self, network: nn.Module, part: str) -> dict[str, float]:
        """Root mean square error in image units at each of the `LEVELS`, with the same noises each time."""
        chosen = torch.arange(min(len(self.images[part]), MOST))
        clean = self.images[part].batch(chosen)
        denoiser, noise = self.told(network, self.card, clean), Noise(chosen.tolist())(clean)
        answers = {level: denoiser(clean + level * noise, torch.full((len(clean),), level)) for level in LEVELS}
        return {f"error_at_{level:g}": float((a - clean).square().mean().sqrt()) for level, a in answers.items()}

    def preview(self, network: nn.Module, path: Path) -> None:
        """A sheet of what is `shown` of the first validation images."""
        clean = self.images["validation"].batch(torch.arange(min(len(self.images["validation"]), SHOWN)))
        contact_sheet([[grey(one) for one in row] for row in self.shown(network, self.card, clean)]).save(path)
