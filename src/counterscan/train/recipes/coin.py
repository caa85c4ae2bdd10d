"""Train an editor as COIN was published (Shvetsov et al., 2024, arXiv 2404.12832), every term of it a setting.

The generator has one condition, "normal": what the classifier calls abnormal must lose its findings, what it calls
normal must keep its answer. A discriminator that is told the class (the classifier's answer for real images, normal for
all that is generated) is updated at every step, the generator at every fifth. Changes: our U-Net and discriminator, a
twentieth of the size; the score of the discriminator is per patch, not of the whole image; fusion is clamp(x + o) with
o = 0 at first, where the paper has tanh(x + o) (`fusion`); gradients are clipped, the learning rate follows the loop's
schedule, the weights are averaged; the variation is measured per 1/256 of the edge, so that its weight does not depend
on the size. The recipe `inpainting` is what became of it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor, nn

from counterscan.core import Card, Classifier
from counterscan.data.batches import Images
from counterscan.data.manifest import Manifest
from counterscan.errors import CounterscanError, did_you_mean
from counterscan.nets.precision import reduced
from counterscan.priors.editor import inpaint
from counterscan.registry import RECIPES
from counterscan.train.descent import descend, learning
from counterscan.train.editing import editor_card, editor_networks, frozen, indices_of, judged, open_parts, scored
from counterscan.train.loop import fit
from counterscan.train.selection import Selection
from counterscan.train.terms import answering, closeness, desired, pleasing, telling, variation
from counterscan.weights.store import save_weights

PUBLISHED_SIDE = 256
CYCLES = ("image", "edited", "none")
FUSIONS = ("clamp", "tanh", "none")


@dataclass(frozen=True)
class Weights:
    """Weights of the loss terms, whose units `train/terms.py` tells; `variation` is at 256 px."""

    adversarial: float
    answer: float
    reconstruction: float
    variation: float
    balanced: bool  # as many abnormal images as healthy ones in a batch, or as they come


PRESETS = {
    "synthetic": Weights(adversarial=1.0, answer=5.0, reconstruction=1.0, variation=0.05, balanced=False),
    "tuh": Weights(adversarial=1.0, answer=1.0, reconstruction=1.0, variation=5e-5, balanced=True),
}


@RECIPES.register("coin")
@dataclass(frozen=True)
class CoinRecipe:
    """Trains an editor that removes `findings` (comma-separated; every class that is a disease), as published.

    `classifier` is the frozen one to be explained: a shipped name or a folder. `preset` is `synthetic` (Gaussian
    anomalies) or `tuh` (renal tumours); `adversarial`, `answer`, `reconstruction`, `variation` and `balanced` stand for
    themselves where they are given, and 0 switches a term off. `cycle`: the second pass is to bring back the `image`
    (as published), to leave the `edited` as it is, or `none` is made. `fusion`: `clamp`, `tanh` (as published), or
    `none`, where the answer is painted from nothing; `skips` of the U-Net's levels, coarse ones first. `hinge` in place
    of cross-entropy. The generator learns at every `interval`-th step; `guided` as for `inpainting`.
    """

    classifier: str = ""
    findings: str = ""
    name: str = ""
    preset: str = "synthetic"
    steps: int = 6000
    batch: int = 16
    rate: float = 2e-4
    interval: int = 5
    adversarial: float | None = None
    answer: float | None = None
    reconstruction: float | None = None
    variation: float | None = None
    balanced: bool | None = None
    cycle: str = "image"
    hinge: bool = False
    fusion: str = "clamp"
    skips: int = 4
    guided: bool = False
    fold: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for setting, known in (("preset", tuple(PRESETS)), ("cycle", CYCLES), ("fusion", FUSIONS)):
            if (value := getattr(self, setting)) not in known:
                raise CounterscanError(f"coin has no {setting} {value!r}{did_you_mean(value, known)}")
        if self.interval < 1 or self.batch < 2:
            raise CounterscanError(f"coin needs interval >= 1 and batch >= 2, got {self.interval} and {self.batch}")

    @property
    def weights(self) -> Weights:
        """Those of the preset, but for what was given."""
        preset = PRESETS[self.preset]
        given = {item.name: getattr(self, item.name) for item in fields(Weights)}
        return Weights(**{key: getattr(preset, key) if value is None else value for key, value in given.items()})

    def train(
        self,
        manifest: Manifest,
        out: Path,
        *,
        resume: bool = False,
        say: Callable[[str], None] = print,
        command: str = "",
    ) -> Path:
        """Train on the manifest's training part, select and calibrate on validation; write weights and card."""
        classifier = frozen("coin", self.classifier)
        card = self._card(editor_card(self.name or out.name, classifier.card, manifest, command, guided=self.guided))
        images = open_parts(manifest, card, fold=self.fold)
        findings = indices_of(self.findings, manifest, card)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            networks = editor_networks(card, classifier)
        selection = Selection(classifier, images["validation"], findings, card)
        task = CoinTask(*networks, classifier, images["train"], findings, selection, self)
        network = fit(task, out, steps=self.steps, seed=self.seed, resume=resume, say=say)
        return save_weights(out, network, selection.calibrated(network, card))

    def _card(self, card: Card) -> Card:
        default = {"fusion": CoinRecipe.fusion, "skips": CoinRecipe.skips}
        chosen = {key: getattr(self, key) for key, value in default.items() if getattr(self, key) != value}
        return card.model_copy(update={"settings": card.settings | chosen})


@dataclass
class CoinTask:
    """One step updates the discriminator, and every `recipe.interval`-th step the generator before it."""

    generator: nn.Module
    discriminator: nn.Module
    classifier: Classifier
    images: Images
    findings: list[int]
    selection: Selection
    recipe: CoinRecipe
    averaged: str = "generator"

    def __post_init__(self) -> None:
        self.weights = self.recipe.weights
        self.shares = shares(self.images.labels[:, self.findings], self.weights.balanced)
        self.scale = (self.images.shape[-1] / PUBLISHED_SIDE) ** 2
        self.asked = torch.zeros(1, self.images.labels.shape[1])
        self.asked[0, self.findings] = 1
        self.modules = {"generator": self.generator, "discriminator": self.discriminator}
        self.optimisers = {
            name: torch.optim.Adam(learning(module), self.recipe.rate, (0.0, 0.999))
            for name, module in self.modules.items()
        }

    def step(self, step: int) -> Mapping[str, float]:
        """The edited images cost a gradient only where the generator learns from them."""
        images = self.images.batch(torch.multinomial(self.shares, self.recipe.batch, replacement=True))
        learns = step % self.recipe.interval == 0
        with torch.no_grad():
            before = self._answers(images)
        with torch.set_grad_enabled(learns):
            edited = self._edit(images)
        values = {}
        if learns:
            values = descend(self.generator, self.optimisers["generator"], self._losses(images, edited, before))
        if self.weights.adversarial:
            seen = torch.zeros(len(images), self.asked.shape[1])
            seen[:, self.findings] = (before >= 0).float()
            loss = self._telling((images, seen), edited.detach())
            values |= descend(self.discriminator, self.optimisers["discriminator"], {"discriminator": loss})
        return values

    def _losses(self, images: Tensor, edited: Tensor, before: Tensor) -> dict[str, Tensor]:
        """The terms of the generator that have a weight; those of what is not asked for are not computed."""
        w, terms = self.weights, {}
        if w.adversarial:
            terms["adversarial"] = w.adversarial * self._pleasing(edited)
        if w.answer:
            terms["answer"] = w.answer * answering(desired(before), self._answers(edited))
        if w.reconstruction:
            terms["reconstruction"] = w.reconstruction * self._reconstruction(images, edited)
        if w.variation:
            terms["variation"] = w.variation * self.scale * variation(images, edited)
        return terms

    def _reconstruction(self, images: Tensor, edited: Tensor) -> Tensor:
        once = closeness(images, edited)
        if self.recipe.cycle == "none":
            return once
        return once + closeness(images if self.recipe.cycle == "image" else edited, self._edit(edited))

    def _pleasing(self, edited: Tensor) -> Tensor:
        scores = judged(self.discriminator, edited, torch.zeros(len(edited), self.asked.shape[1]))
        return pleasing(scores, hinge=self.recipe.hinge)

    def _telling(self, real: tuple[Tensor, Tensor], edited: Tensor) -> Tensor:
        images, seen = real
        condition = torch.cat([seen, torch.zeros_like(seen)])
        scores = scored(self.discriminator, torch.cat([images, edited]), condition)
        on_real, on_fake = scores.split([len(images), len(edited)])
        return telling(on_real, on_fake, hinge=self.recipe.hinge)

    def _answers(self, images: Tensor) -> Tensor:
        """The classifier's log-odds `(b, findings)`."""
        with reduced(images.device):
            return self.classifier(images).float()[:, self.findings]

    def _edit(self, images: Tensor) -> Tensor:
        with reduced(images.device):
            return inpaint(self.generator, images, self.asked.expand(len(images), -1))

    def validate(self, network: nn.Module) -> Mapping[str, float]:
        return self.selection.validate(network)

    def preview(self, network: nn.Module, path: Path) -> None:
        self.selection.preview(network, path)


def shares(labels: Tensor, balanced: bool) -> Tensor:
    """How often each image `(n,)` is drawn: all alike, or those abnormal by `labels` `(n, k)` as often as the rest."""
    abnormal = (labels == 1).any(1)
    count = int(abnormal.sum())
    if not balanced or count in (0, len(abnormal)):
        return torch.ones(len(abnormal))
    return torch.where(abnormal, 1 / count, 1 / (len(abnormal) - count))
