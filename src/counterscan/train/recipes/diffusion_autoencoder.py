"""Train a diffusion autoencoder, a codec of one modality, from images alone (Preechakul et al., 2022, 2111.15640).

The network is `nets/semantic_encoder.py`. Encoder and denoiser learn together from the loss of the recipe `diffusion`
(`train/denoising.py`): what the encoder tells is what helps to denoise. Changes to the paper: where images are
labelled, a small reader has to find their labels in the code, too. A lesion of a few faint pixels helps to denoise so
little that the code would leave it to the noise, and nothing that is decoded from a code could show it or have it gone.
No classifier that is to be explained takes part. Afterwards the mean and the deviation of each map of the code are
measured over the training part, and the round trip on the test part.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterscan.core import Card, Denoiser
from counterscan.data.batches import Images
from counterscan.data.manifest import Manifest
from counterscan.errors import ManifestError
from counterscan.metrics.closeness import structural_similarity
from counterscan.metrics.discrimination import auc
from counterscan.nets.code_reader import CodeReader
from counterscan.priors.codec import NETWORK, DiffusionCodec, Told, encoded
from counterscan.priors.denoiser import NetworkDenoiser
from counterscan.registry import RECIPES
from counterscan.train.augment import augment
from counterscan.train.denoising import DiffusionTask, spread
from counterscan.train.descent import descend
from counterscan.train.loop import fit
from counterscan.train.parts import parts
from counterscan.train.starting import channels_of, first_card, first_network, opened, rebuilt, with_statistics
from counterscan.weights.store import save_weights

MEASURED = 32  # test images that are sent there and back
MEASURED_AT = (5, 10, 20)  # steps of one way
SHOWN_IN = 10  # steps of one way in a preview
BATCH = 64
MANY = 4  # times as many images as are denoised at once, where labels alone are read
READ = 512  # images that labels are read off


@RECIPES.register("diffusion-autoencoder")
@dataclass(frozen=True)
class DiffusionAutoencoderRecipe:
    """Trains a codec on all training images, whatever they show.

    An image is told in `latents` maps of `places` x `places`. `labels` is the weight of the loss of reading the
    manifest's labels off them; those that are not known take no part, and with 0 none does. In the first `labels_first`
    steps they alone are learned, which takes a fifth of the time an image: worth it where lesions are faint. `channels`
    is 1 for grey, 3 for colour, and 0 for what the first image has. `flip` also trains on mirrored images; leave it off
    where left and right differ. `widths` are those of the denoiser; `size` must be divisible by 4 * 2 ** (their number
    - 1). `start` is a codec to go on from.
    """

    name: str = ""
    channels: int = 0
    size: int = 128
    latents: int = 4
    places: int = 16
    labels: float = 0.1
    labels_first: int = 0
    widths: Sequence[int] = (48, 96, 128, 128)
    steps: int = 12000
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
        if self.labels_first and not (self.labels and images["train"].labels.isfinite().any()):
            raise ManifestError(f"labels_first needs labels, and {manifest.root} has none; leave it out, or add some")
        card = self._card(manifest, out, command, shape, spread(images["train"]))
        network = first_network(card, self.seed, self.start)
        read = self._reading(images["train"])
        task = CodecTask(
            network,
            images,
            card,
            self.batch,
            self.rate,
            self.flip,
            told_the_image,
            swapped,
            read,
            first=self.labels_first,
        )
        network = fit(task, out, steps=self.steps, seed=self.seed, resume=resume, say=say)
        card = with_statistics(card, rows_of(network, card, images["train"]))
        network = rebuilt(network, card)
        told = {**task.errors(network, "test"), **task.labels_read(network, "test")}
        metrics = {f"test_{name}": value for name, value in told.items()}
        metrics |= {f"test_{name}": value for name, value in measured(network, card, images["test"]).items()}
        return save_weights(out, network, card.model_copy(update={"metrics": metrics}))

    def _card(self, manifest: Manifest, out: Path, command: str, shape: tuple[int, ...], spread: float) -> Card:
        widths = {"latents": self.latents, "places": self.places, "widths": list(self.widths)}
        return first_card(
            self.name or out.name,
            manifest,
            command,
            kind="codec",
            shape=shape,
            classes=(),
            network=NETWORK,
            settings={"channels": shape[0], "spread": spread, **widths},
        )

    def _reading(self, images: Images) -> "Reading":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            reader = CodeReader(self.latents, self.places, max(images.labels.shape[1], 1))
        return Reading(reader, images, self.labels, self.flip)


@dataclass(frozen=True)
class Reading:
    """The loss of a `reader` that looks for the labels `(n, k)` of `images`, nan where unknown, in their rows.

    It reads them off what a denoiser is told, and off the same images shifted, turned and exposed otherwise: without
    these the code soon holds what is needed to know each training image by heart, and of others says nothing.
    """

    reader: CodeReader
    images: Images
    weight: float
    flip: bool = False

    def __call__(self, denoiser: Denoiser, chosen: Tensor) -> dict[str, Tensor]:
        assert isinstance(denoiser, Told), "told_the_image makes it"
        if not self.weight:
            return {}
        rows = torch.cat([denoiser.rows, self._moved(denoiser.network, chosen)])
        return self._missed(rows, self.images.labels[chosen].repeat(2, 1))

    def alone(self, network: NetworkDenoiser, chosen: Tensor) -> dict[str, Tensor]:
        """The loss where nothing is denoised, of moved images only."""
        return self._missed(self._moved(network, chosen), self.images.labels[chosen])

    def _moved(self, network: NetworkDenoiser, chosen: Tensor) -> Tensor:
        return encoded(network, augment(self.images.batch(chosen), flip=self.flip))

    def _missed(self, rows: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        known = ~wanted.isnan()
        if not known.any():
            return {}
        return {"labels": self.weight * F.binary_cross_entropy_with_logits(self.reader(rows)[known], wanted[known])}


@dataclass
class CodecTask(DiffusionTask):
    """Learning to denoise what an image is told of, after `first` steps of learning what to tell: the labels alone.

    Beside it, how well labels are read off images that were not learned from; where there are any the score is the mean
    of that and the denoiser's own.
    """

    first: int = 0

    def __post_init__(self) -> None:
        self.helpers = {"reader": self._reading.reader}
        super().__post_init__()

    @property
    def _reading(self) -> Reading:
        assert isinstance(self.beside, Reading), "a codec is taught by what can be read off it"
        return self.beside

    def step(self, step: int) -> Mapping[str, float]:
        if step >= self.first:
            return super().step(step)
        self.network.train()
        chosen = torch.randint(len(self.images["train"]), (MANY * self.batch,))
        losses = self._reading.alone(NetworkDenoiser(self.network, self.card), chosen)
        return descend(self.learning, self.optimisers["network"], losses) if losses else {}

    def validate(self, network: nn.Module) -> Mapping[str, float]:
        scores = {**super().validate(network), **self.labels_read(network, "validation")}
        return scores | {"score": (scores["score"] + scores.get("labels_auc", scores["score"])) / 2}

    @torch.no_grad()
    def labels_read(self, network: nn.Module, part: str) -> dict[str, float]:
        """The mean area under the ROC curve of the labels that some images of a part have; empty where none has any.

        A code that has learned the training images' labels by heart tells nothing of others, and an agent that is
        fitted to it will not agree with its black box.
        """
        if not self._reading.weight:
            return {}
        images, denoiser = self.images[part], NetworkDenoiser(network, self.card)
        chosen = torch.arange(min(len(images), READ))
        rows = torch.cat([encoded(denoiser, images.batch(few)) for few in chosen.split(BATCH)])
        pairs = zip(images.labels[chosen].T, self._reading.reader(rows).T, strict=False)
        areas = [auc(truth.numpy(), said.numpy(), draws=1).value for truth, said in pairs]
        known = [area for area in areas if not math.isnan(area)]
        return {"labels_auc": sum(known) / len(known)} if known else {}


def told_the_image(network: nn.Module, card: Card, clean: Tensor) -> Told:
    """The denoiser that is told the code of the clean images."""
    denoiser = NetworkDenoiser(network, card)
    return Told(denoiser, encoded(denoiser, clean))


def swapped(network: nn.Module, card: Card, clean: Tensor) -> Sequence[Tensor]:
    """Rows of a preview: images, decoded from both codes, from the row alone, and from the next one's row."""
    codec = DiffusionCodec(network, card, SHOWN_IN)
    rows = codec.encode(clean)
    noise = codec.invert(clean, rows)
    return clean, codec.decode(rows, noise), codec.decode(rows), codec.decode(rows.roll(-1, 0), noise)


@torch.no_grad()
def rows_of(network: nn.Module, card: Card, images: Images) -> Tensor:
    """The rows `(n, d)` of all `images`."""
    denoiser = NetworkDenoiser(network, card)
    return torch.cat([encoded(denoiser, images.batch(chosen)) for chosen in torch.arange(len(images)).split(BATCH)])


def measured(network: nn.Module, card: Card, images: Images) -> Mapping[str, Any]:
    """What the round trip costs an image at each of `MEASURED_AT`, and how far an image follows another's row.

    `swap_followed` is the share of the way from an image's row to another's at which the image, decoded from its own
    noise and the other's row, is found by the encoder: 0 says that the row is ignored, 1 that nothing else counts.
    """
    clean = images.batch(torch.arange(min(len(images), MEASURED)))
    trips = {f"round_trip_in_{steps}": round_trip(DiffusionCodec(network, card, steps), clean) for steps in MEASURED_AT}
    return {**trips, "swap_followed": followed(DiffusionCodec(network, card), clean)}


def round_trip(codec: DiffusionCodec, clean: Tensor) -> dict[str, float]:
    """Means over images, in image units ([-1, 1]): `rmse`, the largest of them, `psnr` in dB, and `ssim`.

    `evaluations` are those of both ways together.
    """
    decoded = codec.round_trip(clean)
    errors = (decoded - clean).square().flatten(1).mean(1).sqrt()
    return {
        "evaluations": 2 * codec.evaluations,
        "images": len(clean),
        "rmse": float(errors.mean()),
        "rmse_worst": float(errors.max()),
        "psnr": float((20 * (2 / errors.clamp_min(1e-6)).log10()).mean()),
        "ssim": float(structural_similarity(decoded, clean).mean()),
    }


def followed(codec: DiffusionCodec, clean: Tensor) -> float:
    """How far images follow the row of the next one when they keep their own noise, see `measured`."""
    rows = codec.encode(clean)
    way = rows.roll(-1, 0) - rows
    reached = codec.encode(codec.decode(rows + way, codec.invert(clean, rows))) - rows
    return float(((reached * way).sum(1) / way.square().sum(1).clamp_min(1e-12)).mean())
