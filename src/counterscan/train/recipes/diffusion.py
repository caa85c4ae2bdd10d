"""Train a denoiser, a diffusion prior of one modality, from images alone (EDM: Karras et al., 2022, arXiv 2206.00364).

The network is `nets/denoiser.py`. ln(sigma) is normal, `MIDDLE` +- `WIDTH`, drawn one from each of as many equal parts
as a batch has images; the loss is the squared error weighted by (sigma ** 2 + spread ** 2) / (sigma * spread) ** 2,
which makes the error of a network that knows nothing one at every level. Changes to the paper: more of high levels, no
augmentation that the network would have to be told of.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from counterscan.core import Card
from counterscan.data.batches import Images, open_images
from counterscan.data.manifest import Manifest
from counterscan.nets import build
from counterscan.nets.blocks import fast_layout
from counterscan.pictures import contact_sheet, grey
from counterscan.priors.denoiser import NetworkDenoiser
from counterscan.priors.sampling import Noise, dpm_solver
from counterscan.priors.schedules import karras
from counterscan.registry import RECIPES
from counterscan.train.descent import descend
from counterscan.train.loop import fit
from counterscan.train.parts import parts
from counterscan.weights.store import save_weights

MIDDLE, WIDTH = -0.8, 1.4  # of ln(sigma)
LEVELS = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0)  # at which the error is measured
MOST = 64  # images that it is measured on
SHOWN, SHOWN_AT, STEPS = 8, 1.0, 20  # images in a preview, the noise in them, and the steps of its samples


@RECIPES.register("diffusion")
@dataclass(frozen=True)
class DiffusionRecipe:
    """Trains a denoiser on all training images, whatever they show; labels take no part.

    `channels` is 1 for grey, 3 for colour, and 0 for what the first image has. `flip` also trains on mirrored images;
    leave it off where left and right differ. `size` must be divisible by 4 * 2 ** (levels - 1), where `widths` are the
    network's channels at each of its levels.
    """

    name: str = ""
    channels: int = 0
    size: int = 128
    widths: Sequence[int] = (64, 128, 160, 160)
    steps: int = 20000
    batch: int = 16
    rate: float = 1e-3
    flip: bool = False
    fold: int = 0
    seed: int = 0

    def train(
        self,
        manifest: Manifest,
        out: Path,
        *,
        resume: bool = False,
        say: Callable[[str], None] = print,
        command: str = "",
    ) -> Path:
        """Train on the manifest's training part, select on validation, measure on test; write weights and card."""
        shape = (self.channels or manifest.cases[0].read().pixels.shape[1], self.size, self.size)
        split = parts(manifest, fold=self.fold, flip=self.flip)
        images = {name: open_images(part, shape) for name, part in split.items()}
        card = self._card(manifest, out, command, shape, spread(images["train"]))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = fast_layout(build(card.network, card.settings))
        task = DiffusionTask(network, images, card, self.batch, self.rate, self.flip)
        network = fit(task, out, steps=self.steps, seed=self.seed, resume=resume, say=say)
        metrics = {f"test_{name}": value for name, value in task.errors(network, "test").items()}
        return save_weights(out, network, card.model_copy(update={"metrics": metrics}))

    def _card(self, manifest: Manifest, out: Path, command: str, shape: tuple[int, ...], spread: float) -> Card:
        return Card(
            name=self.name or out.name,
            kind="denoiser",
            shape=shape,
            classes=(),
            window=manifest.window.as_tuple() if manifest.window else None,
            modality=manifest.modality,
            network="denoiser",
            settings={"channels": shape[0], "spread": spread, "widths": list(self.widths)},
            command=command,
            licence=manifest.licence,
        )


def spread(images: Images, most: int = 512) -> float:
    """The root mean square of the first `most` images, which were listed in no order that matters here."""
    squares = [images.batch(chosen).square().mean() for chosen in torch.arange(min(len(images), most)).split(64)]
    return round(float(torch.stack(squares).mean().sqrt()), 4)


@dataclass
class DiffusionTask:
    """One step sees a batch of training images drawn at random, each at a level of its own."""

    network: nn.Module
    images: Mapping[str, Images]
    card: Card
    batch: int = 16
    rate: float = 1e-3
    flip: bool = False
    averaged: str = "network"

    def __post_init__(self) -> None:
        self.modules = {"network": self.network}
        self.optimisers = {"network": torch.optim.AdamW(self.network.parameters(), self.rate, weight_decay=0.01)}
        self.denoiser = NetworkDenoiser(self.network, self.card)
        self.spread = self.card.settings["spread"]

    def step(self, step: int) -> Mapping[str, float]:
        self.network.train()
        clean = self.images["train"].batch(torch.randint(len(self.images["train"]), (self.batch,)))
        if self.flip:
            clean = torch.where(torch.rand(self.batch, 1, 1, 1) < 0.5, clean.flip(3), clean)
        sigma = drawn_levels(self.batch)
        noisy = clean + sigma.view(-1, 1, 1, 1) * torch.randn_like(clean)
        errors = (self.denoiser(noisy, sigma) - clean).square().mean((1, 2, 3))
        loss = (self._weight(sigma) * errors).mean()
        return descend(self.network, self.optimisers["network"], {"loss": loss})

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
        clean, denoiser = self.images[part].batch(chosen), NetworkDenoiser(network, self.card)
        noise = Noise(chosen.tolist())(clean)
        answers = {level: denoiser(clean + level * noise, torch.full((len(clean),), level)) for level in LEVELS}
        return {f"error_at_{level:g}": float((a - clean).square().mean().sqrt()) for level, a in answers.items()}

    def preview(self, network: nn.Module, path: Path) -> None:
        """A sheet: validation images, the same with noise, what the network makes of that, and samples from noise."""
        denoiser = NetworkDenoiser(network, self.card)
        clean = self.images["validation"].batch(torch.arange(min(len(self.images["validation"]), SHOWN)))
        noise = Noise(range(len(clean)))(clean)
        noisy, levels = clean + SHOWN_AT * noise, karras(STEPS)
        with torch.no_grad():
            restored = denoiser(noisy, torch.full((len(clean),), SHOWN_AT))
        rows = (clean, noisy, restored, dpm_solver(denoiser, levels[0] * noise, levels))
        contact_sheet([[grey(one) for one in row] for row in rows]).save(path)


def drawn_levels(count: int) -> Tensor:
    """Levels `(count,)`: ln(sigma) is normal, one from each of `count` equally likely parts."""
    share = (torch.arange(count) + torch.rand(count)) / count
    return (MIDDLE + WIDTH * torch.special.ndtri(share.clamp(1e-6, 1 - 1e-6))).exp()
