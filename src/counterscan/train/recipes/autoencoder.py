"""Train an autoencoder, the codec of a latent diffusion, from images alone (Rombach et al., 2022, arXiv 2112.10752).

Its loss is the mean absolute error, the divergence of the latents from a standard normal, and what a discriminator of
patches makes of the images; the last only in the last third of the training, when there is something to tell apart.
Changes to the paper: no perceptual loss, because a network taught on photographs would have to come along; absolute
differences of neighbouring pixels are compared, too, so that edges stay where they are.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from counterscan.core import Card
from counterscan.data.batches import Images
from counterscan.data.manifest import Manifest
from counterscan.metrics.closeness import structural_similarity
from counterscan.nets.blocks import channels_last, fast_layout
from counterscan.nets.discriminator import Discriminator
from counterscan.nets.precision import reduced
from counterscan.pictures import contact_sheet, grey
from counterscan.priors.autoencoder import NETWORK, AutoencoderCodec
from counterscan.registry import RECIPES
from counterscan.train.descent import descend
from counterscan.train.editing import discriminate, editor_optimisers, judged
from counterscan.train.loop import fit
from counterscan.train.parts import parts
from counterscan.train.starting import channels_of, first_card, first_network, opened, rebuilt, with_statistics
from counterscan.weights.store import save_weights

MEASURED, BATCH, SHOWN = 256, 64, 8  # images it is measured on at most, at once, and in a preview
QUIET = 2 / 3  # of the training passes before the discriminator takes part
EDGES = 0.5  # what the differences of neighbours weigh beside the pixels


@RECIPES.register("autoencoder")
@dataclass(frozen=True)
class AutoencoderRecipe:
    """Trains an autoencoder on all training images, whatever they show; labels take no part.

    An image becomes `latents` maps, each side divided by `patch * 2 ** (len(widths) - 1)`, by which `size` must be
    divisible. `divergence` and `adversarial` weigh these losses, 0 leaves them out. `channels` is 1 for grey, 3 for
    colour, and 0 for what the first image has. `flip` also trains on mirrored images. `start` is one to go on from.
    """

    name: str = ""
    channels: int = 0
    size: int = 128
    latents: int = 4
    widths: Sequence[int] = (64,)
    patch: int = 4
    depth: int = 3
    divergence: float = 3e-4
    adversarial: float = 0.01
    steps: int = 3000
    batch: int = 16
    rate: float = 1e-3
    flip: bool = False
    fold: int = 0
    start: str = ""
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
        shape = (self.channels or channels_of(manifest), self.size, self.size)
        images = opened(parts(manifest, fold=self.fold, flip=self.flip), shape)
        card = self._card(manifest, out, command, shape)
        network = first_network(card, self.seed, self.start)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            discriminator = fast_layout(Discriminator(shape[0]))
        quiet = int(QUIET * self.steps) if self.adversarial else self.steps
        weights = (self.divergence, self.adversarial)
        task = AutoencoderTask(network, discriminator, images, card, weights, quiet, self.batch, self.rate, self.flip)
        network = fit(task, out, steps=self.steps, seed=self.seed, resume=resume, say=say)
        card = with_statistics(card, latents_of(network, card, images["train"]))
        network = rebuilt(network, card)
        metrics = {f"test_{name}": value for name, value in measured(network, card, images["test"]).items()}
        return save_weights(out, network, card.model_copy(update={"metrics": metrics}))

    def _card(self, manifest: Manifest, out: Path, command: str, shape: tuple[int, ...]) -> Card:
        sizes = {"widths": list(self.widths), "patch": self.patch, "depth": self.depth}
        return first_card(
            self.name or out.name,
            manifest,
            command,
            kind="codec",
            shape=shape,
            classes=(),
            network=NETWORK,
            settings={"channels": shape[0], "latents": self.latents, **sizes},
        )


@dataclass
class AutoencoderTask:
    """One step: the autoencoder on a batch drawn at random, then, after `quiet` steps, the discriminator."""

    network: nn.Module
    discriminator: nn.Module
    images: Mapping[str, Images]
    card: Card
    weights: tuple[float, float]  # of the divergence, and of what the discriminator says
    quiet: int
    batch: int = 16
    rate: float = 1e-3
    flip: bool = False
    averaged: str = "network"

    def __post_init__(self) -> None:
        self.modules = {"network": self.network, "discriminator": self.discriminator}
        self.optimisers = editor_optimisers(self.network, self.discriminator, self.rate)

    def step(self, step: int) -> Mapping[str, float]:
        self.network.train()
        images = self.images["train"].batch(torch.randint(len(self.images["train"]), (self.batch,)))
        if self.flip:
            images = torch.where(torch.rand(self.batch, 1, 1, 1) < 0.5, images.flip(3), images)
        with reduced(images.device):
            mean, spread = self.network.posterior(channels_last(images))  # type: ignore[operator]
            decoded = self.network.decode(mean + (spread / 2).exp() * torch.randn_like(mean)).float()  # type: ignore
        losses = {
            "pixels": (decoded - images).abs().mean() + EDGES * edges(decoded - images),
            "divergence": self.weights[0] * divergence(mean, spread),
        }
        if step < self.quiet:
            return descend(self.network, self.optimisers["generator"], losses)
        nothing = images.new_zeros(len(images), 1)
        losses["adversarial"] = -self.weights[1] * judged(self.discriminator, decoded, nothing).mean()
        values = descend(self.network, self.optimisers["generator"], losses)
        values["discriminator"] = discriminate(
            self.discriminator, self.optimisers["discriminator"], (images, nothing), (decoded.detach(), nothing)
        )
        return values

    def validate(self, network: nn.Module) -> Mapping[str, float]:
        """What decoding costs; the score is minus the mean absolute error, edges included."""
        found = measured(network, self.card, self.images["validation"])
        return {"score": -found["l1"] - EDGES * found["edges"], **found}

    def preview(self, network: nn.Module, path: Path) -> None:
        """A sheet: validation images, decoded, and ten times the difference."""
        images = self.images["validation"].batch(torch.arange(min(len(self.images["validation"]), SHOWN)))
        codec = AutoencoderCodec(network, self.card)
        decoded = codec.decode(codec.encode(images))
        rows = (images, decoded, (10 * (decoded - images)).clamp(-1, 1))
        contact_sheet([[grey(one) for one in row] for row in rows]).save(path)


def edges(error: Tensor) -> Tensor:
    """The mean absolute difference of neighbouring pixels of `error` `(b, c, h, w)`, across plus down."""
    return (error[..., 1:] - error[..., :-1]).abs().mean() + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()


def divergence(mean: Tensor, spread: Tensor) -> Tensor:
    """Kullback-Leibler divergence from a standard normal, a number of the latents; `spread` is ln(variance)."""
    return (mean.square() + spread.exp() - 1 - spread).mean() / 2


@torch.no_grad()
def latents_of(network: nn.Module, card: Card, images: Images, most: int = 2048) -> Tensor:
    """The latents of the first `most` images as rows `(n, d)`, for their mean and deviation."""
    codec = AutoencoderCodec(network, card)
    chunks = torch.arange(min(len(images), most)).split(BATCH)
    return torch.cat([codec.encode(images.batch(chosen)).flatten(1) for chosen in chunks])


def measured(network: nn.Module, card: Card, images: Images) -> dict[str, float]:
    """Means over at most `MEASURED` images of what is lost on the way there and back, in image units ([-1, 1])."""
    clean, codec = images.batch(torch.arange(min(len(images), MEASURED))), AutoencoderCodec(network, card)
    decoded = codec.decode(codec.encode(clean))
    errors = (decoded - clean).square().flatten(1).mean(1)
    return {
        "l1": float((decoded - clean).abs().mean()),
        "edges": float(edges(decoded - clean)),
        "psnr": float((10 * (4 / errors.clamp_min(1e-9)).log10()).mean()),
        "ssim": float(structural_similarity(decoded, clean).mean()),
    }
