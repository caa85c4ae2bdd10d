"""Train a COIN editor (arXiv 2404.12832) from image-level labels and a frozen classifier.

The paper's terms: adversarial, the answer asked for, L1 to the image, total variation of the change. Changes: hinge
loss for the adversarial term and healthy labels (not predictions) for its real images; a hinge on the log-odds, not
Kullback-Leibler, for the answer; the restoration of healthy images that were spoilt by grafts and invented lesions
(`train/corruption.py`), which is what teaches healthy anatomy; the classifier sees the counterfactual through small
shifts and noise, so that no pattern of single pixels flips it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterscan.core import Classifier, Target
from counterscan.data.manifest import Manifest
from counterscan.errors import CounterscanError
from counterscan.nets.precision import reduced
from counterscan.priors.editor import inpaint
from counterscan.registry import RECIPES
from counterscan.train.attention import Attention
from counterscan.train.corruption import changed, grown
from counterscan.train.descent import descend
from counterscan.train.editing import (
    discriminate,
    editor_card,
    editor_networks,
    editor_optimisers,
    frozen,
    indices_of,
    jittered,
    judged,
    open_parts,
)
from counterscan.train.loop import fit
from counterscan.train.sampler import Sampler
from counterscan.train.selection import Selection
from counterscan.train.spoiling import Spoiler, Spoilt
from counterscan.weights.store import save_weights

LEAST = 5  # images in a batch
HOSTS = 5  # times as many healthy images as abnormal ones are looked through for one that a graft fits into
# Healthy anatomy first, and the classifier's gradient last: a generator that must flip the classifier before it can
# restore anything finds the classifier's blind spots instead (it drew white discs into both kidneys), and stays there.
RESTORING_ONLY, FLIPPING_IN_FULL = 0.4, 0.5  # shares of the steps


@dataclass(frozen=True)
class Weights:
    """Weights of the loss terms; images are in [-1, 1] and every term is a mean over the pixels it is about."""

    adversarial: float = 0.3
    flipping: float = 0.05
    closeness: float = 5.0
    variation: float = 0.5
    restoration: float = 10.0
    spoilt: float = 3.0


@RECIPES.register("inpainting")
@dataclass(frozen=True)
class InpaintingRecipe:
    """Trains an editor that removes `findings` (comma-separated; every class that is a disease, if not given).

    `classifier` is the frozen one to be explained: a shipped name or a folder. The other settings: `steps` of `batch`
    abnormal and `batch` healthy images, `guided` to build the classifier's own features in (where it is a network
    `resnet` of ours), `augmented` for scarce images, `flip` where left and right are alike, `fold` for manifests with
    folds, and the weights of the loss terms. `start` is an editor (a shipped name or a folder) to go on from: it can
    restore anatomy already, and flips from the first step on.
    """

    classifier: str = ""
    findings: str = ""
    name: str = ""
    steps: int = 4000
    batch: int = 8
    rate: float = 6e-4
    guided: bool = True
    start: str = ""
    augmented: bool = False
    flip: bool = False
    fold: int = 0
    seed: int = 0
    adversarial: float = Weights.adversarial
    flipping: float = Weights.flipping
    closeness: float = Weights.closeness
    variation: float = Weights.variation
    restoration: float = Weights.restoration
    spoilt: float = Weights.spoilt

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
        if self.batch < LEAST:
            raise CounterscanError(f"batch={self.batch} leaves no image for each way of spoiling; set {LEAST} or more")
        classifier = frozen("inpainting", self.classifier)
        name = self.name or out.name
        card = editor_card(name, classifier.card, manifest, command, guided=self.guided)
        images = open_parts(manifest, card, fold=self.fold, flip=self.flip)
        findings = indices_of(self.findings, manifest, card)
        selection = Selection(classifier, images["validation"], findings, card)
        sampler = Sampler(images["train"], findings, augmented=self.augmented, flip=self.flip)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            networks = editor_networks(card, classifier, self.start)
            task = InpaintingTask(
                *networks,
                classifier,
                sampler,
                selection,
                self.steps,
                weights=self._weights(),
                batch=self.batch,
                rate=self.rate,
                trained=FLIPPING_IN_FULL if self.start else 0.0,
            )
        network = fit(task, out, steps=self.steps, seed=self.seed, resume=resume, say=say)
        return save_weights(out, network, selection.calibrated(network, card))

    def _weights(self) -> "Weights":
        return Weights(**{item.name: getattr(self, item.name) for item in fields(Weights)})


@dataclass
class InpaintingTask:
    """One step sees as many abnormal images (to be flipped) as healthy ones (to be kept, or restored)."""

    generator: nn.Module
    discriminator: nn.Module
    classifier: Classifier
    sampler: Sampler
    selection: Selection
    steps: int
    weights: Weights = field(default_factory=Weights)
    batch: int = 8
    rate: float = 4e-4
    trained: float = 0.0  # share of the training that the generator has behind it
    averaged: str = "generator"

    def __post_init__(self) -> None:
        self.attention, self.spoiler = Attention(self.classifier), Spoiler(self.classifier)
        self.modules = {"generator": self.generator, "discriminator": self.discriminator}
        self.optimisers = editor_optimisers(self.generator, self.discriminator, self.rate)

    def step(self, step: int) -> Mapping[str, float]:
        """Restore; later also flip the abnormal, and then update the discriminator."""
        progress = self.trained + (1 - self.trained) * step / self.steps
        restoring = progress < RESTORING_ONLY
        abnormal, healthy, condition = self.sampler(self.batch, HOSTS * self.batch)
        counterfactual = self._edit(abnormal, condition, learning=not restoring)
        seen = self._seen(abnormal, counterfactual.detach(), condition)
        spoilt = self.spoiler(abnormal, seen, healthy, (1 + restoring) * self.batch, condition[0])
        losses = self._restore_losses(spoilt, condition, progress)
        if restoring:
            return self._update(losses)
        values = self._update({**losses, **self._flip_losses(abnormal, counterfactual, condition, progress)})
        if self.weights.adversarial:
            real, fake = (healthy[: self.batch], condition), (counterfactual.detach(), condition)
            values["discriminator"] = discriminate(self.discriminator, self.optimisers["discriminator"], real, fake)
        return values

    def _seen(self, abnormal: Tensor, counterfactual: Tensor, condition: Tensor) -> Tensor:
        """Where the findings are: where the change lies that convinced the classifier, else where it looks."""
        target = wished_away(condition)
        seen, there = self.attention(abnormal, target)
        with torch.no_grad(), reduced(counterfactual.device):
            undone = there & target.reached(self.classifier(counterfactual))
        return torch.where(undone.view(-1, 1, 1, 1), changed(abnormal, counterfactual), grown(seen))

    def _update(self, losses: Mapping[str, Tensor]) -> dict[str, float]:
        return descend(self.generator, self.optimisers["generator"], losses)

    def _restore_losses(self, spoilt: Spoilt, condition: Tensor, progress: float) -> dict[str, Tensor]:
        # L1 asks for the median: a change where one is likelier than the ratio of the weights. At first that is nearly
        # everywhere, so that what is spoilt is found at all; later it has to be likelier.
        eager, strict = max(0.5, 1 - progress), min(1.0, 0.2 + 1.6 * progress)
        error = (self._edit(spoilt.images, condition[:1].expand(len(spoilt.images), -1)) - spoilt.whole).abs() / 2
        return {
            "kept": self.weights.restoration * strict * error.mean(),
            "restored": self.weights.spoilt * eager * (error * spoilt.where).sum() / spoilt.where.sum().clamp_min(1),
        }

    def _flip_losses(self, abnormal, counterfactual, condition, progress: float) -> dict[str, Tensor]:
        w = self.weights
        ramp = min((progress - RESTORING_ONLY) / (FLIPPING_IN_FULL - RESTORING_ONLY), 1.0)
        change = (counterfactual - abnormal) / 2
        losses = {
            "flip": w.flipping * ramp * self._flip(counterfactual, condition),
            "closeness": w.closeness * change.abs().mean(),
            "variation": w.variation * _variation(change),
        }
        if w.adversarial:
            losses["adversarial"] = -w.adversarial * ramp * judged(self.discriminator, counterfactual, condition).mean()
        return losses

    def _flip(self, counterfactual: Tensor, condition: Tensor) -> Tensor:
        with reduced(counterfactual.device):
            log_odds = self.classifier(jittered(counterfactual)).float()
        # one beyond the border, so that the answer does not hang by a thread, and no further: what is healthy already
        # would be made healthier than health, kidneys brighter than kidneys are
        return (F.relu(log_odds + 1) * condition).sum(1).mean()

    def _edit(self, images: Tensor, condition: Tensor, *, learning: bool = True) -> Tensor:
        with torch.set_grad_enabled(learning), reduced(images.device):
            return inpaint(self.generator, images, condition)

    def validate(self, network: nn.Module) -> Mapping[str, float]:
        return self.selection.validate(network)

    def preview(self, network: nn.Module, path: Path) -> None:
        self.selection.preview(network, path)


def wished_away(condition: Tensor) -> Target:
    """The target that a batch's `condition` `(b, k)` asks for: it is the same one for all of its images."""
    return Target(tuple((k, 0.0) for k in condition[0].nonzero()[:, 0].tolist()))


def _variation(change: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels of the change."""
    return (change[..., 1:] - change[..., :-1]).abs().mean() + (change[:, :, 1:] - change[:, :, :-1]).abs().mean()
