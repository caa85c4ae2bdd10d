"""Train a classifier from image-level labels: one of our small networks, or one of MONAI's by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterscan.classifiers.torch import TorchClassifier
from counterscan.core import Card
from counterscan.data.batches import Images
from counterscan.data.manifest import Manifest
from counterscan.errors import ManifestError
from counterscan.metrics.discrimination import auc, discrimination
from counterscan.nets.blocks import channels_last, fast_layout
from counterscan.nets.precision import reduced
from counterscan.pictures import contact_sheet, grey
from counterscan.registry import RECIPES
from counterscan.train.augment import augment
from counterscan.train.descent import descend
from counterscan.train.loop import fit
from counterscan.train.parts import parts
from counterscan.train.starting import channels_of, first_card, first_network, opened
from counterscan.weights.store import save_weights


@RECIPES.register("classifier")
@dataclass(frozen=True)
class ClassifierRecipe:
    """Cross-entropy (binary per class, or softmax where a case has one class), AdamW, augmentation, moving average.

    `network` is `resnet`, `vgg`, or with the extra [monai] `densenet121`, `resnet18`, `resnet50`. `share` and
    `seed` choose which part of the training cases is used, so that a judge can be trained on other ones:
    `first` half, `second` half, or `all`. With `shuffled` the labels of all but the test cases are dealt out anew: a
    classifier that learns nothing true, for `counterscan sanity --shuffled`. `channels` is 1 for grey, 3 for colour,
    and 0 for what the first image has. `start` is a classifier (a shipped name or a folder) to go on from; where the
    classes are others, its last layer begins anew.
    """

    network: str = "resnet"
    name: str = ""
    channels: int = 0
    size: int = 128
    steps: int = 3000
    batch: int = 32
    rate: float = 1.5e-3
    share: str = "all"
    flip: bool = False
    fold: int = 0
    shuffled: bool = False
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
        task = self.task(manifest, self.card(manifest, out, command))
        network = fit(task, out, steps=self.steps, seed=self.seed, resume=resume, say=say)
        return save_weights(out, network, task.calibrated(network, task.card))

    def task(self, manifest: Manifest, card: Card) -> "ClassifierTask":
        """What is trained: a network with fresh weights, and the images of the three parts."""
        images = opened(parts(manifest, fold=self.fold, share=self.share, flip=self.flip), card.shape)
        if self.shuffled:
            images |= {name: _shuffled(images[name], self.seed) for name in ("train", "validation")}
        return ClassifierTask(
            first_network(card, self.seed, self.start), images, card, self.batch, self.rate, self.flip
        )

    def card(self, manifest: Manifest, out: Path, command: str) -> Card:
        """What the weights will expect and promise, as far as it is known before training."""
        if not manifest.classes:
            raise ManifestError(f"{manifest.root} has no class to learn; add a label column or one column per class")
        classes, channels = manifest.classes, self.channels or channels_of(manifest)
        return first_card(
            self.name or out.name,
            manifest,
            command,
            shape=(channels, self.size, self.size),
            classes=classes,
            output="softmax" if manifest.exclusive else "multilabel",
            normal=manifest.normal,
            network=self.network,
            settings={"channels": channels, "outputs": len(classes)},
        )


@dataclass
class ClassifierTask:
    """One step sees a batch of training images drawn at random."""

    network: nn.Module
    images: Mapping[str, Images]
    card: Card
    batch: int = 32
    rate: float = 1.5e-3
    flip: bool = False
    averaged: str = "network"

    def __post_init__(self) -> None:
        self.network = fast_layout(self.network)
        self.modules = {"network": self.network}
        self.optimisers = {"network": torch.optim.AdamW(self.network.parameters(), self.rate, weight_decay=0.05)}

    def step(self, step: int) -> Mapping[str, float]:
        images, labels = self.drawn()
        self.network.train()
        return {"loss": self.descend(self.loss(self.logits(images), labels))}

    def drawn(self) -> tuple[Tensor, Tensor]:
        """A batch of training images, augmented, and their labels."""
        train = self.images["train"]
        chosen = torch.randint(len(train), (self.batch,))
        return augment(train.batch(chosen), flip=self.flip), train.labels[chosen]

    def logits(self, images: Tensor) -> Tensor:
        """The network's answers in float32, computed in reduced precision, in whatever mode it is."""
        with reduced(images.device):
            logits = self.network(channels_last(images))
        return logits.float()

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy, smoothed where a case has one class, else binary over the labels that are known."""
        if self.card.output == "softmax":
            return F.cross_entropy(logits, labels.argmax(1), label_smoothing=0.02)
        known = ~labels.isnan()
        losses = F.binary_cross_entropy_with_logits(logits, labels.nan_to_num(0.5), reduction="none")
        return (losses * known).sum() / known.sum().clamp_min(1)

    def descend(self, loss: Tensor) -> float:
        """One step of the optimiser down the loss, and its value."""
        return descend(self.network, self.optimisers["network"], {"loss": loss}, clip=5.0)["loss"]

    def validate(self, network: nn.Module) -> Mapping[str, float]:
        answers, labels, _ = self._answers(network, "validation")
        area = mean_area(answers, labels)
        return {"score": area, "auc": area}

    def preview(self, network: nn.Module, path: Path) -> None:
        """A sheet of augmented training images, to see what the network sees."""
        chosen = torch.randint(len(self.images["train"]), (8,))
        contact_sheet([[grey(image) for image in augment(self.images["train"].batch(chosen), flip=self.flip)]]).save(
            path
        )

    @torch.no_grad()
    def _answers(self, network: nn.Module, part: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
        images = self.images[part]
        classifier = TorchClassifier(network, self.card)
        answers = [classifier(images.batch(chosen)) for chosen in torch.arange(len(images)).split(16)]
        return torch.cat(answers).numpy(), images.labels.numpy(), list(images.patients)

    def calibrated(self, network: nn.Module, card: Card) -> Card:
        """The card with AUC (intervals by patient) and calibration error per class on the test part."""
        answers, labels, patients = self._answers(network, "test")
        report = discrimination(labels, answers, card.classes, patients)
        metrics = {
            f"{measure}_{name}": estimate.to_dict()
            for name, measures in report.items()
            for measure, estimate in measures.items()
        }
        return card.model_copy(update={"metrics": metrics})


def mean_area(answers: np.ndarray, labels: np.ndarray) -> float:
    """The mean AUC over the classes of `answers` and `labels` `(n, k)`; those without both kinds do not count."""
    return float(np.nanmean([_area(answers[:, k], labels[:, k]) for k in range(labels.shape[1])]))


def _area(answers: np.ndarray, labels: np.ndarray) -> float:
    known = ~np.isnan(labels)
    return auc(labels[known], answers[known], draws=1).value


def _shuffled(images: Images, seed: int) -> Images:
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return replace(images, labels=images.labels[order])
