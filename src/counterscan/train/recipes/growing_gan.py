"""Train a generator that makes images of one modality from nothing (Karras et al., 2018, 1710.10196; 2010.03975).

The networks are `nets/growing_gan.py`, when they grow `train/growing.py`, what they learn from `train/adversarial.py`.
Labels take no part. Changes: the training is selected by the distance of patches on validation images, and a generator
whose images are nearly alike stops it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterscan.core import Card
from counterscan.data.batches import Images
from counterscan.data.manifest import Case, Manifest
from counterscan.errors import CounterscanError, ManifestError, check_one_of
from counterscan.metrics.patches import patch_distances
from counterscan.nets.blocks import channels_last
from counterscan.nets.growing_gan import GROUP, Discriminator, GrowingGAN, enlarged, spread
from counterscan.nets.precision import reduced
from counterscan.pictures import contact_sheet, grey
from counterscan.priors.editor import BATCH
from counterscan.priors.generator import NETWORK, QUANTILES, Generator
from counterscan.registry import RECIPES
from counterscan.train.adversarial import WGANGP, Relativistic, descend_both, optimisers_of
from counterscan.train.growing import Growth, blended, preset, shrunk, side_of, widths_of
from counterscan.train.loop import fit, warm_then_falling
from counterscan.train.parts import parts
from counterscan.train.starting import channels_of, first_card, first_network, opened
from counterscan.weights.store import save_weights

LOSSES = ("relativistic", "wgan-gp")
TIMES = 40  # that a training is looked at, and saved
MEASURED, SCORED = 256, 1000  # images that distances are measured on, and that the critic's quantiles are taken of
COLUMNS, ROWS = 8, 4  # of a preview
ALIKE = 0.2  # of the distance between real images: made ones that are nearer to each other have collapsed
YOUNG = 1.0  # grown so far, a generator is not judged yet


@RECIPES.register("growing-gan")
@dataclass(frozen=True)
class GrowingGANRecipe:
    """Trains a generator, and keeps the discriminator beside it as a critic.

    `preset` is `small` (to 128 pixels, two hours of one core) or `published` (to 1024 pixels, for GPUs); it says what
    is not asked for: `size`, `latents`, `loss` (`relativistic` or `wgan-gp`) and `rate`. `length` times as many images
    are shown. `gamma` is the weight of R1 and R2. `channels` is 1 for grey, 3 for colour, and 0 for what the first
    image has. `flip` also trains on mirrored images; leave it off where left and right differ. Images that are not
    square are refused, or with `stretched` brought to squares as classifiers see them.
    """

    preset: str = "small"
    name: str = ""
    channels: int = 0
    size: int = 0
    latents: int = 0
    length: float = 1.0
    loss: str = ""
    rate: float = 0.0
    gamma: float = 10.0
    stretched: bool = False
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
        known, resolutions = preset(self.preset, self.size)
        growth = Growth(resolutions, self.length)
        side = side_of(len(resolutions) - 1)
        shape = (self.channels or channels_of(manifest), side, side)
        check_images(manifest.cases, shape, stretched=self.stretched)
        images = opened(parts(manifest, fold=self.fold, flip=self.flip), shape)
        settings = {"channels": shape[0], "latents": self.latents or known.latents, "widths": widths_of(resolutions)}
        card = self._card(manifest, out, command, shape, settings)
        task = GrowingTask(
            first_network(card, self.seed),  # type: ignore[arg-type]
            images,
            growth,
            loss_of(self.loss or known.loss, self.gamma, side),
            self.rate or known.rate,
            self.flip,
        )
        say(f"{growth.images} images in {growth.steps} steps")
        fit(
            task,
            out,
            steps=growth.steps,
            every=max(growth.steps // TIMES, 1),
            average=known.average,
            pace=partial(warm_then_falling, falling=known.falling),
            seed=self.seed,
            resume=resume,
            say=say,
        )
        return save_weights(out, task.network, finished(task, card))

    def _card(self, manifest: Manifest, out: Path, command: str, shape: tuple[int, ...], settings: dict) -> Card:
        return first_card(
            self.name or out.name,
            manifest,
            command,
            kind="generator",
            shape=shape,
            classes=(),
            network=NETWORK,
            settings=settings,
        )


def loss_of(name: str, gamma: float, side: int) -> Relativistic | WGANGP:
    """The loss called `name`."""
    check_one_of("loss", name, LOSSES)
    return Relativistic(gamma, side) if name == "relativistic" else WGANGP()


def check_images(cases: tuple[Case, ...], shape: tuple[int, ...], *, stretched: bool) -> None:
    """Raise ManifestError for the first image that is not square (unless `stretched`), too small, or in colour."""
    for case in cases:
        channels, height, width = size_of(case)
        if height != width and not stretched:
            raise ManifestError(
                f"{case.path} is {width} x {height} pixels; growing-gan makes squares, so crop the images, or accept "
                "that they are stretched with --set stretched=true"
            )
        if min(height, width) < shape[1]:
            raise ManifestError(f"{case.path} is {width} x {height} pixels, less than {shape[1]}; --set a smaller size")
        if channels > shape[0]:
            raise ManifestError(f"{case.path} is in colour, but grey was promised; convert it, or --set channels=3")


def size_of(case: Case) -> tuple[int, int, int]:
    """The channels, height and width of a case; a grey picture's from its header alone, for it may be one of many."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(case.path) as picture:
            if picture.mode in ("1", "L", "I", "I;16", "I;16B", "F"):
                return 1, picture.height, picture.width
    except (UnidentifiedImageError, OSError):
        pass  # what is no picture is read whole, and what cannot be read is named there
    _, channels, height, width = case.read().pixels.shape
    return channels, height, width


@dataclass
class GrowingTask:
    """One step of both networks on a batch of real images and one of made ones."""

    network: GrowingGAN
    images: Mapping[str, Images]
    growth: Growth
    loss: Relativistic | WGANGP
    rate: float
    flip: bool = False
    grown: float = 0.0
    averaged: str = "generator"
    latents: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.generator, self.discriminator = self.network.generator, self.network.discriminator
        self.modules = {"generator": self.generator, "discriminator": self.discriminator}
        self.optimisers = optimisers_of(self.network, self.rate)
        draws = torch.Generator().manual_seed(0)
        self.latents = torch.randn(MEASURED, self.generator.dense.weight.shape[1], generator=draws)

    def step(self, step: int) -> Mapping[str, float]:
        """Both networks, from a batch of the moment; where a fade begins or ends, the optimisers forget."""
        moment = self.growth.at(step)
        self.grown = moment.grown
        if moment.begins:
            for optimiser in self.optimisers.values():
                optimiser.state.clear()
        latents = torch.randn(moment.batch, self.latents.shape[1])
        real = self._real(moment.batch)
        return descend_both(self.network, self.optimisers, self.loss, real, latents, self.grown, step)

    def _real(self, count: int) -> Tensor:
        """Training images drawn at random, at the size and in the blend of the moment."""
        images = self.images["train"]
        real = blended(shrunk(images.batch(torch.randint(len(images), (count,))), side_of(self.grown)), self.grown)
        if self.flip:
            real = torch.where(torch.rand(count, 1, 1, 1) < 0.5, real.flip(3), real)
        return channels_last(real)

    @torch.no_grad()
    def made(self, network: nn.Module, latents: Tensor) -> Tensor:
        """What `network` makes of `latents`, at the side of the moment, clamped."""
        with reduced(latents.device):
            chunks = [network(chunk, self.grown).float().clamp(-1, 1) for chunk in latents.split(BATCH)]
        return torch.cat(chunks)

    def validate(self, network: nn.Module) -> Mapping[str, float]:
        """Minus the mean distance of patches over all scales, at full size; CounterscanError for a collapse."""
        real = self.some("validation")
        made = self.made(network, self.latents[: len(real)])
        distinct = diversity(made, blended(shrunk(real, made.shape[-1]), self.grown))
        if distinct < ALIKE and self.grown >= YOUNG:
            raise CounterscanError(
                f"the generator collapsed at {made.shape[-1]} pixels: its images differ {distinct:.2f} times as much "
                "as real ones do; start again with a lower rate or a higher gamma"
            )
        far = patch_distances(real, enlarged(made, real.shape[-1] // made.shape[-1]))
        return {"score": -sum(far.values()) / len(far), "diversity": distinct, "grown": self.grown}

    def some(self, part: str) -> Tensor:
        """Images of a part `(n, c, h, w)`, `MEASURED` of them or all, evenly from among it."""
        images = self.images[part]
        count = min(len(images), MEASURED)
        return images.batch(torch.arange(count) * len(images) // count)

    def preview(self, network: nn.Module, path: Path) -> None:
        """What the same latents give, at each time."""
        made = self.made(network, self.latents[: COLUMNS * ROWS])
        pictures = [grey(image) for image in made]
        rows = [pictures[start : start + COLUMNS] for start in range(0, len(pictures), COLUMNS)]
        contact_sheet(rows, side=side_of(len(self.growth.resolutions) - 1)).save(path)


def diversity(made: Tensor, real: Tensor) -> float:
    """The mean distance between two of the `made` images over that between two `real` ones, both `(n, c, h, w)`."""
    return float(F.pdist(made.flatten(1)).mean() / F.pdist(real.flatten(1)).mean().clamp_min(1e-12))


@torch.no_grad()
def finished(task: GrowingTask, card: Card) -> Card:
    """The card with test figures and the critic's quantiles; the critic learns which spread is usual."""
    task.network.eval()
    task.grown = task.generator.grown
    real, other = task.some("test"), task.some("validation")
    count = min(len(real), len(other))
    made = task.made(task.generator, task.latents[:count])
    task.discriminator.usual_spread.copy_(usual_spread(task.discriminator, real))
    metrics = {
        "test_patch_distance": _rounded(patch_distances(real[:count], made)),
        "floor_patch_distance": _rounded(patch_distances(real[:count], other[:count])),
        "test_diversity": round(diversity(made, real), 4),
        "test_images": count,
    }
    known = {**card.settings, "critic_quantiles": quantiles(Generator(task.network, card))}
    return card.model_copy(update={"metrics": metrics, "settings": known})


def usual_spread(discriminator: Discriminator, images: Tensor) -> Tensor:
    """How far groups of `images` `(n, c, h, w)` differ on average for the `discriminator`: one number."""
    whole = images[: max(len(images) // GROUP * GROUP, 1)]
    with reduced(whole.device):
        chunks = [discriminator.features(channels_last(chunk), discriminator.grown) for chunk in whole.split(BATCH)]
    return spread(torch.cat(chunks)).mean()


def quantiles(generator: Generator) -> list[float]:
    """The critic's scores of random draws that 0 %, 1 %, ... 100 % of them stay below."""
    latents = generator.draw(SCORED, torch.Generator().manual_seed(0))
    scores = torch.cat([generator.critic(generator(chunk)) for chunk in latents.split(BATCH)])
    return [round(float(score), 4) for score in torch.quantile(scores, torch.linspace(0, 1, QUANTILES))]


def _rounded(distances: Mapping[int, float]) -> dict[str, float]:
    return {str(side): round(value, 2) for side, value in distances.items()}
