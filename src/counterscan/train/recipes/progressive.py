"""Train the editor of progressive exaggeration (arXiv 1911.00483) from image-level labels and a frozen classifier.

The paper's terms: adversarial (hinge, a projection discriminator that is told the probability step by step), the answer
asked for (Kullback-Leibler), and reconstruction: asked for the answer that an image has already the generator leaves it
as it is, and brings it back from any other. Changes: a U-Net whose change is added to the image, in place of an encoder
and decoder without skips, so that there is no embedding to reconstruct; as many abnormal as healthy images in a batch;
the generator is updated at every step, not at every fifth; probabilities asked for stay within `SURE`; the classifier
sees the images through small shifts and noise.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from counterscan.core import Classifier, Target
from counterscan.data.manifest import Manifest
from counterscan.errors import CounterscanError
from counterscan.explainers.progressive import Progressive
from counterscan.nets.precision import reduced
from counterscan.pictures import contact_sheet, grey
from counterscan.priors.editor import ConditionedEditor, conditions, inpaint
from counterscan.registry import RECIPES
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
from counterscan.train.terms import divergence
from counterscan.weights.store import save_weights

SURE = 0.02  # no more certain than this need an answer be: log-odds have no end, and kidneys no end of brightness
SHOWN, FRAMES = 6, 7  # images of a preview, and how many of their frames
FILMED = 48  # validation images whose films are looked at


@dataclass(frozen=True)
class Weights:
    """Weights of the loss terms; images are in [-1, 1], reconstruction is a mean over the pixels."""

    adversarial: float = 0.3
    answering: float = 0.2
    kept: float = 5.0
    cycle: float = 5.0


@RECIPES.register("progressive")
@dataclass(frozen=True)
class ProgressiveRecipe:
    """Trains an editor that gives `findings` (comma-separated; every class that is a disease) any probability.

    `classifier` is the frozen one to be explained: a shipped name or a folder. The other settings: `steps` of `batch`
    images, half of them abnormal, `bins` for the probability, and `guided`, `augmented`, `flip`, `fold`, `start` and
    the weights of the loss terms as for `inpainting`.
    """

    classifier: str = ""
    findings: str = ""
    name: str = ""
    steps: int = 3000
    batch: int = 8
    bins: int = 10
    rate: float = 6e-4
    guided: bool = True
    augmented: bool = False
    flip: bool = False
    fold: int = 0
    start: str = ""
    seed: int = 0
    adversarial: float = Weights.adversarial
    answering: float = Weights.answering
    kept: float = Weights.kept
    cycle: float = Weights.cycle

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
        if self.bins < 2 or self.batch < 2:
            raise CounterscanError(f"bins={self.bins} and batch={self.batch} must both be 2 or more; leave them out")
        classifier = frozen("progressive", self.classifier)
        name = self.name or out.name
        card = editor_card(name, classifier.card, manifest, command, bins=self.bins, guided=self.guided)
        images = open_parts(manifest, card, fold=self.fold, flip=self.flip)
        findings = indices_of(self.findings, manifest, card)
        selection = Selection(classifier, images["validation"], findings, card)
        sampler = Sampler(images["train"], findings, augmented=self.augmented, flip=self.flip)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            networks = editor_networks(card, classifier, self.start)
            weights = Weights(**{item.name: getattr(self, item.name) for item in fields(Weights)})
            task = ProgressiveTask(*networks, classifier, sampler, selection, self.bins, weights, self.batch, self.rate)
        network = fit(task, out, steps=self.steps, seed=self.seed, resume=resume, say=say)
        return save_weights(out, network, selection.calibrated(network, card, task.answer(network)))


@dataclass
class ProgressiveTask:
    """One step asks each image for a random probability, for its own, and from the first back to its own."""

    generator: nn.Module
    discriminator: nn.Module
    classifier: Classifier
    sampler: Sampler
    selection: Selection
    bins: int = 10
    weights: Weights = field(default_factory=Weights)
    batch: int = 8
    rate: float = 6e-4
    averaged: str = "generator"

    def __post_init__(self) -> None:
        self.modules = {"generator": self.generator, "discriminator": self.discriminator}
        self.optimisers = editor_optimisers(self.generator, self.discriminator, self.rate)

    def step(self, step: int) -> Mapping[str, float]:
        """Update the generator, then the discriminator."""
        half = self.batch // 2
        abnormal, healthy, asked = self.sampler(half, self.batch - half)
        images, asked = torch.cat([abnormal, healthy]), asked[:1].expand(self.batch, -1)
        with torch.no_grad(), reduced(images.device):
            own = self.classifier(images).float().sigmoid()
        p = torch.randint(self.bins + 1, asked.shape) / self.bins
        there, back = conditions(asked, p, self.bins), conditions(asked, own, self.bins)
        edited = self._edit(images, there)
        returned, kept = self._edit(torch.cat([edited, images]), torch.cat([back, back])).chunk(2)
        losses = {
            "answer": self.weights.answering * self._answer(edited, asked, p),
            "kept": self.weights.kept * (kept - images).abs().mean() / 2,
            "cycle": self.weights.cycle * (returned - images).abs().mean() / 2,
        }
        if not self.weights.adversarial:
            return descend(self.generator, self.optimisers["generator"], losses)
        losses["adversarial"] = -self.weights.adversarial * judged(self.discriminator, edited, there).mean()
        values = descend(self.generator, self.optimisers["generator"], losses)
        values["discriminator"] = discriminate(
            self.discriminator, self.optimisers["discriminator"], (images, back), (edited.detach(), there)
        )
        return values

    def _edit(self, images: Tensor, condition: Tensor) -> Tensor:
        with reduced(images.device):
            return inpaint(self.generator, images, condition)

    def _answer(self, edited: Tensor, asked: Tensor, p: Tensor) -> Tensor:
        with reduced(edited.device):
            log_odds = self.classifier(jittered(edited)).float()
        return (divergence(p.clamp(SURE, 1 - SURE), log_odds) * asked).sum(1).mean()

    def answer(self, network: nn.Module) -> Callable[[Tensor, Target], Tensor]:
        """What the explainer answers with this network, for the calibration of its mask rule.

        Images that are as asked already get no mask, and so no film, which would take eleven passes.
        """
        explainer = Progressive(ConditionedEditor(network, self.selection.card))

        def edit(images: Tensor, target: Target) -> Tensor:
            edited, left = images.clone(), ~target.reached(self.classifier(images))
            if left.any():
                edited[left] = explainer.run(self.classifier, images[left], target).images
            return edited

        return edit

    def validate(self, network: nn.Module) -> Mapping[str, float]:
        """Those of `Selection`, and how far the answers along the film are from what was asked for."""
        scores = dict(self.selection.validate(network))
        error = self._film_error(network)
        return {**scores, "film_error": error, "score": scores["score"] * (1 - error)}

    @torch.no_grad()
    def _film_error(self, network: nn.Module) -> float:
        """Mean absolute difference of the probabilities answered and asked for, over whole films."""
        errors = []
        for asked, frames, target in self._film(network, FILMED):
            answers = self.classifier(frames).sigmoid()
            errors += [(answers[:, index] - asked).abs().mean() for index, _ in target.wanted]
        return float(torch.stack(errors).mean())

    def _film(self, network: nn.Module, n: int, frames: int = 6):
        """(probability, frames `(n, c, h, w)`, target) along the film of the first of the findings."""
        editor = ConditionedEditor(network, self.selection.card)
        chosen = torch.cat([self.selection.abnormal[: n // 2], self.selection.healthy[: n // 2]])
        images = self.selection.images.batch(chosen)
        first = self.selection.target.wanted[0]
        for p in torch.linspace(0, 1, frames).tolist():
            target = replace(self.selection.target, wanted=((first[0], p),))
            yield p, editor(images, target), target

    def preview(self, network: nn.Module, path: Path) -> None:
        """A sheet: films from 0 to 1, the upper half of abnormal images, the lower of healthy ones."""
        film = [frames for _, frames, _ in self._film(network, SHOWN, FRAMES)]
        rows = torch.stack(film, 1)
        contact_sheet([[grey(frame) for frame in row] for row in rows]).save(path)
