"""Train a latent diffusion that is told a text (Rombach et al., 2022, arXiv 2112.10752; of radiology: VALD-MD, Siddiqui
et al., 2025, Sci Rep 15:962).

Latents come from a frozen autoencoder. Captions are written by `prompts.py` from what the manifest says of an image, in
other words each time, or are the sentences of one of its columns; a share of them is left out, so that guidance has
something to go away from. The text encoder is a small one of our own that is taught the grammar first
(`train/wording.py`) and learns along, or one that is brought and stays as it is. Images are not mirrored: their
captions know left and right.

Levels are those of a DDPM with a scaled linear schedule, drawn evenly over its timesteps. Three images of four show a
finding, so that there is something to be told. The error of the clean estimate is weighted by min(SNR, 5), which is
min-SNR weighting whatever the network predicts (Hang et al., 2023, arXiv 2303.09556), but at least by 1 (Salimans and
Ho, 2022, arXiv 2202.00512): under much noise, where the text decides what is drawn, it would hardly count.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from counterscan.core import Card
from counterscan.data.batches import Images
from counterscan.data.manifest import Case, Manifest
from counterscan.errors import CounterscanError, ManifestError
from counterscan.pictures import contact_sheet, grey
from counterscan.priors.autoencoder import load_autoencoder
from counterscan.priors.sampling import Noise, dpm_solver
from counterscan.priors.schedules import scaled_linear
from counterscan.priors.text import NETWORK, NetworkTextPrior, TextEncoder, brought, guided
from counterscan.prompts import mentions_of, paraphrase, tokens, vocabulary
from counterscan.registry import RECIPES
from counterscan.train.denoising import MOST
from counterscan.train.descent import descend
from counterscan.train.loop import fit
from counterscan.train.parts import parts
from counterscan.train.sampler import pick
from counterscan.train.starting import first_card, first_network, opened
from counterscan.train.wording import teach_words
from counterscan.weights.store import save_weights, share_part

SCHEDULE = scaled_linear()
LEAST_SNR, LARGEST_SNR = 1.0, 5.0
SHOWING = 0.75  # of a batch: images that show a finding, for of healthy ones there is little to be said
LEVELS = (0.2, 0.5, 1.0, 2.0, 5.0)  # at which the error is measured
SHOWN, STEPS, WEIGHT = 4, 20, 3.0  # samples of a caption in a preview, their steps, and their guidance


@RECIPES.register("text-diffusion")
@dataclass(frozen=True)
class TextDiffusionRecipe:
    """Trains a denoiser of the latents of `autoencoder` (a shipped name or a folder) that is told captions.

    `captions` is the manifest's column that holds them; without one the grammar writes them from labels and facts.
    `dropped` is the share of captions that is left out. `text` is a folder of transformers with a text encoder and its
    tokenizer, which is not trained; without one a small encoder of words learns along. The network `predicts` velocity
    or noise. `widths` are its channels at the size of the latents, half of it, and so on. `start` is one to go on from.
    """

    autoencoder: str = ""
    name: str = ""
    captions: str = ""
    text: str = ""
    dropped: float = 0.12
    predicts: str = "velocity"
    widths: Sequence[int] = (64, 96, 128)
    steps: int = 12000
    batch: int = 16
    rate: float = 1e-3
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
        if not self.autoencoder:
            raise CounterscanError("give --set autoencoder=FOLDER, which `counterscan train autoencoder` wrote")
        codec = load_autoencoder(self.autoencoder)
        split = parts(manifest, fold=self.fold)
        images = opened(split, codec.card.shape)
        captions = Captions(split["train"], self.captions)
        card = self._card(manifest, out, command, codec.card, captions)
        text = brought(card)
        width = text(["."])[0].shape[2] if text else 96
        card = card.model_copy(update={"settings": {**card.settings, "tokens": width}})
        network = first_network(card, self.seed, self.start)
        network.autoencoder.load_state_dict(codec.module.state_dict())  # type: ignore[union-attr]
        if network.words is not None and not (self.captions or self.start or resume):
            teach_words(network.words, card.settings["vocabulary"], manifest.classes, self.seed)  # type: ignore[arg-type]
        task = TextDiffusionTask(network, images, card, captions, text, self.dropped, self.batch, self.rate)
        network = fit(task, out, steps=self.steps, seed=self.seed, resume=resume, say=say)
        metrics = {f"test_{name}": value for name, value in task.errors(network, "test").items()}
        save_weights(out, network, card.model_copy(update={"metrics": metrics}))
        share_part(out, "autoencoder", self.autoencoder)
        return out

    def _card(self, manifest: Manifest, out: Path, command: str, codec: Card, captions: "Captions") -> Card:
        settings = {
            "autoencoder": codec.settings,
            "vocabulary": [] if self.text else list(captions.vocabulary),
            "widths": list(self.widths),
            "predicts": self.predicts,
        }
        return first_card(
            self.name or out.name,
            manifest,
            command,
            kind="denoiser",
            shape=codec.shape,
            classes=tuple(manifest.classes),
            network=NETWORK,
            settings={**settings, "text": self.text} if self.text else settings,
        )


@dataclass(frozen=True)
class Captions:
    """What a case is said to show: its sentence under `column`, or with none the grammar's, from labels and facts."""

    manifest: Manifest
    column: str = ""

    def __post_init__(self) -> None:
        if self.column and not any(case.facts.get(self.column) for case in self.manifest.cases):
            raise ManifestError(
                f"{self.manifest.root} has no captions in a column {self.column!r}; name the one that has"
            )

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The words that may occur."""
        if not self.column:
            return vocabulary(self.manifest.classes)
        return tuple(sorted({word for case in self.manifest.cases for word in tokens(case.facts[self.column])}))

    def __call__(self, case: Case, rng: random.Random) -> str:
        if self.column:
            return case.facts.get(self.column, "")
        return paraphrase(mentions_of(case.labels, case.facts), rng, self.manifest.classes)


@dataclass
class TextDiffusionTask:
    """One step sees a batch of training images drawn at random, each with a caption, at a level of its own."""

    network: nn.Module
    images: Mapping[str, Images]
    card: Card
    captions: Captions
    text: TextEncoder | None = None
    dropped: float = 0.12
    batch: int = 16
    rate: float = 1e-3
    averaged: str = "network"

    def __post_init__(self) -> None:
        self.modules = {"network": self.network}
        learning = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.optimisers = {"network": torch.optim.AdamW(learning, self.rate, (0.9, 0.99), weight_decay=0.01)}
        self._showing = showing(self.images["train"])

    def step(self, step: int) -> Mapping[str, float]:
        self.network.train()
        chosen = self._chosen()
        prior, clean = self._latents(self.network, "train", chosen)
        said = self._said("train", chosen, random.Random(int(torch.randint(2**31, ()))))
        told = [one if drop >= self.dropped else "" for one, drop in zip(said, torch.rand(self.batch), strict=True)]
        sigma = drawn_levels(self.batch)
        noisy = clean + sigma.view(-1, 1, 1, 1) * torch.randn_like(clean)
        estimate = prior.denoiser(*prior.text(told))(noisy, sigma)
        errors = (estimate - clean).square().mean((1, 2, 3))
        losses = {"loss": (weight(sigma) * errors).mean()}
        return descend(self.network, self.optimisers["network"], losses)

    def _chosen(self) -> Tensor:
        """The images of a step: most show a finding, and rare findings are seen as often as common ones."""
        some = round(SHOWING * self.batch) if self._showing else 0
        wanted = torch.randint(max(len(self._showing), 1), (some,)).tolist()
        shown = [pick(self._showing[number], 1) for number in wanted]
        return torch.cat([*shown, torch.randint(len(self.images["train"]), (self.batch - some,))])

    def _latents(self, network: nn.Module, part: str, chosen: Tensor) -> tuple[NetworkTextPrior, Tensor]:
        prior = NetworkTextPrior.of(network, self.card, self.text)
        return prior, prior.codec.encode(self.images[part].batch(chosen))

    def _said(self, part: str, chosen: Tensor, rng: random.Random) -> list[str]:
        return [self.captions(self.images[part].manifest.cases[index], rng) for index in chosen.tolist()]

    def validate(self, network: nn.Module) -> Mapping[str, float]:
        """The weighted error over fixed levels and noises; the score is what it leaves of that of guessing zeros."""
        errors = self.errors(network, "validation")
        levels = torch.tensor(LEVELS)
        weighted = weight(levels) * torch.tensor([errors[f"error_at_{level:g}"] for level in LEVELS]).square()
        return {"score": 1 - float((weighted / weight(levels)).mean()), **errors}

    @torch.no_grad()
    def errors(self, network: nn.Module, part: str) -> dict[str, float]:
        """Root mean square error of latents at each of the `LEVELS`, with their captions, and at 2 without them."""
        chosen = torch.arange(min(len(self.images[part]), MOST))
        prior, clean = self._latents(network, part, chosen)
        said, noise = self._said(part, chosen, random.Random(0)), Noise(chosen.tolist())(clean)

        def error(level: float, told: Sequence[str]) -> float:
            estimate = prior.denoiser(*prior.text(told))(clean + level * noise, torch.full((len(clean),), level))
            return float((estimate - clean).square().mean().sqrt())

        found = {f"error_at_{level:g}": error(level, said) for level in LEVELS}
        return {**found, "untold_at_2": error(2.0, [""] * len(said))}

    @torch.no_grad()
    def preview(self, network: nn.Module, path: Path) -> None:
        """A sheet: validation images above samples of their captions, from the same noise."""
        chosen = torch.arange(min(len(self.images["validation"]), 2 * SHOWN))
        prior, clean = self._latents(network, "validation", chosen)
        said = self._said("validation", chosen, random.Random(0))
        levels = SCHEDULE.levels(STEPS)
        start = levels[0] * Noise([0] * len(clean))(clean)
        drawn = dpm_solver(guided(prior, said, [""] * len(said), WEIGHT), start, levels)
        rows = (self.images["validation"].batch(chosen), prior.codec.decode(clean), prior.codec.decode(drawn))
        contact_sheet([[grey(one) for one in row] for row in rows]).save(path)


def showing(images: Images) -> list[Tensor]:
    """For each class that is a finding and is shown at all, the numbers of the images that show it."""
    columns = [index for index, name in enumerate(images.manifest.classes) if name not in images.manifest.benign]
    found = [torch.nonzero(images.labels[:, column] == 1)[:, 0] for column in columns]
    return [numbers for numbers in found if len(numbers)]


def drawn_levels(count: int) -> Tensor:
    """Levels `(count,)` of timesteps of the schedule, one from each of `count` equal parts."""
    share = (torch.arange(count) + torch.rand(count)) / count
    return SCHEDULE.sigmas[(share * len(SCHEDULE.sigmas)).long()].float()


def weight(sigma: Tensor) -> Tensor:
    """What the squared error of the clean estimate weighs: its signal-to-noise ratio, between two limits."""
    return sigma.square().reciprocal().clamp(LEAST_SNR, LARGEST_SNR)
