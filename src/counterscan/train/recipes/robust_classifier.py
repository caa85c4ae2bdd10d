"""Train a classifier whose answer small changes do not move: its gradients then point at what a finding looks like.

TRADES (Zhang et al., 2019, 1901.08573, eq. 5): the loss of the clean images + beta * KL(answer to them || answer near
them), the nearby image found by climbing that divergence. Adversarial training (Madry et al., 2018, 1706.06083,
eq. 2.1): the loss at the nearby image where it is highest. Changes: several labels have a divergence each, which are
summed; the radius grows from nothing over `warm_up`, because from the start a network learns nothing at a large one;
the network that is kept is the one with the best AUC, clean and attacked, on validation images.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterscan.classifiers.companion import companion, steering
from counterscan.classifiers.torch import TorchClassifier, undisturbed
from counterscan.core import Card, Classifier
from counterscan.data.batches import Images
from counterscan.data.manifest import Manifest
from counterscan.errors import CounterscanError, check_one_of
from counterscan.registry import RECIPES
from counterscan.train.attack import PGD
from counterscan.train.loop import fit
from counterscan.train.recipes.classifier import ClassifierRecipe, ClassifierTask, mean_area
from counterscan.train.robustness import robustness
from counterscan.weights.store import save_weights

METHODS = ("trades", "pgd")
RADII = (0.25, 0.5, 1.0, 2.0)  # of the training radius, where the accuracy is measured
SELECTED_ON = 256  # validation images that are attacked to choose among snapshots
TINY = 1e-3  # a radius below so much a value (root mean square) makes no gradient clearer


@RECIPES.register("robust-classifier")
@dataclass(frozen=True)
class RobustClassifierRecipe:
    """TRADES (`method=trades`, with `beta`) or adversarial training (`method=pgd`) of a classifier.

    The images' worst change has an l2 or linf `norm` of at most `radius` in image units, where the window is 2 wide:
    l2 is the root of the sum over all values of an image, so for the same strength it grows with the side. It is sought
    in `inner` steps, and grows over the first `warm_up` share of the training. The card says how accurate it is on
    `measured` test images, clean and under attacks that it was not trained with, at 0.25, 0.5, 1 and 2 times the
    radius; and how accurate the classifier `beside` is. The other settings are those of the recipe classifier.
    """

    method: str = "trades"
    norm: str = "l2"
    radius: float = 1.0
    beta: float = 6.0
    inner: int = 7
    warm_up: float = 0.3
    start: str = ""
    beside: str = ""
    measured: int = 200
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
        """Train on the manifest's training part, select on validation, attack on test; write weights and card."""
        attack = self._attack()
        plain = self._plain()
        card = plain.card(manifest, out, command)
        beside = _named(self.beside, card)
        self._warn(card, say)
        task = RobustTask(plain.task(manifest, card), attack, self.method, self.beta, int(self.warm_up * self.steps))
        network = fit(task, out, steps=self.steps, seed=self.seed, resume=resume, say=say)
        say("attacking test images")
        card = task.plain.calibrated(network, card)
        found = self._measured(task.plain.images["test"], TorchClassifier(network, card), beside)
        return save_weights(out, network, card.model_copy(update={"metrics": {**card.metrics, **found}}))

    def _plain(self) -> ClassifierRecipe:
        shared = {item.name for item in fields(ClassifierRecipe)} & {item.name for item in fields(self)}
        return ClassifierRecipe(**{name: getattr(self, name) for name in shared})

    def _attack(self) -> PGD:
        check_one_of("method", self.method, METHODS)
        if not self.radius > 0 or not 0 <= self.warm_up <= 1:
            raise CounterscanError(
                f"radius must be above 0 and warm_up between 0 and 1, got {self.radius:g} and {self.warm_up:g}"
            )
        return PGD(self.norm, self.radius, self.inner)

    def _warn(self, card: Card, say: Callable[[str], None]) -> None:
        values = card.shape[0] * card.shape[1] * card.shape[2]
        each = self.radius if self.norm == "linf" else self.radius / values**0.5
        if each < TINY:
            say(f"the radius {self.radius:g} is {each:.2g} a value: too small to make gradients clearer; try ten times")

    def _measured(self, images: Images, robust: Classifier, beside: Classifier | None) -> dict[str, Any]:
        """Accuracy under attack of both, on test images spread over all of them."""
        chosen = torch.arange(len(images))[:: -(-len(images) // self.measured)]
        whose = [images.patients[index] for index in chosen]
        ask = partial(
            robustness,
            images=images.batch(chosen),
            labels=images.labels[chosen],
            patients=whose,
            norm=self.norm,
            radii=[share * self.radius for share in RADII],
            seed=self.seed,
        )
        training = f"{self.method}, {self.norm}, radius {self.radius:g}, {self.inner} steps"
        found = {"training": training, **ask(robust)}
        return found if beside is None else {**found, "beside": {"name": self.beside, **ask(beside)}}


@dataclass
class RobustTask:
    """The steps of a plain classifier's task, on what an attack of growing radius makes of the images."""

    plain: ClassifierTask
    attack: PGD
    method: str = "trades"
    beta: float = 6.0
    warm: int = 0
    averaged: str = "network"

    def __post_init__(self) -> None:
        self.modules, self.optimisers = self.plain.modules, self.plain.optimisers

    def step(self, step: int) -> Mapping[str, float]:
        images, labels = self.plain.drawn()
        attack = replace(self.attack, radius=self.attack.radius * min(1.0, (step + 1) / max(self.warm, 1)))
        worst = self._worst(attack, images, labels)
        self.plain.network.train()
        if self.method == "pgd":
            return {"loss": self.plain.descend(self.plain.loss(self.plain.logits(worst), labels))}
        clean = self.plain.logits(images)
        apart = divergence(clean, self.plain.logits(worst), self.plain.card.output).mean()
        loss = self.plain.descend(self.plain.loss(clean, labels) + self.beta * apart)
        return {"loss": loss, "divergence": float(apart.detach())}

    def _worst(self, attack: PGD, images: Tensor, labels: Tensor) -> Tensor:
        """The images after the attack, for which the network answers as it does when it is used."""
        with undisturbed(self.plain.network):
            if self.method == "pgd":
                return attack(lambda points: label_loss(self.plain.logits(points), labels, self.plain.card), images)
            with torch.no_grad():
                clean = self.plain.logits(images)
            return attack(lambda points: divergence(clean, self.plain.logits(points), self.plain.card.output), images)

    def validate(self, network: nn.Module) -> Mapping[str, float]:
        """AUC clean, and at the full radius on some of the images; their mean decides."""
        area = self.plain.validate(network)["auc"]
        images = self.plain.images["validation"]
        chosen = torch.arange(len(images))[:: -(-len(images) // SELECTED_ON)]
        classifier = TorchClassifier(network, self.plain.card)
        answers, labels = [], images.labels[chosen]
        for part in torch.arange(len(chosen)).split(self.plain.batch):
            answers.append(self._attacked(classifier, images.batch(chosen[part]), labels[part]))
        attacked = mean_area(torch.cat(answers).numpy(), labels.numpy())
        return {"score": (area + attacked) / 2, "auc": area, "auc_attacked": attacked}

    def _attacked(self, classifier: TorchClassifier, images: Tensor, labels: Tensor) -> Tensor:
        card = self.plain.card
        with undisturbed(classifier.module):
            worst = self.attack(lambda points: label_loss(classifier.module(points), labels, card), images)
        with torch.no_grad():
            return classifier(worst)

    def preview(self, network: nn.Module, path: Path) -> None:
        """What the plain task shows: augmented training images."""
        self.plain.preview(network, path)


def divergence(clean: Tensor, other: Tensor, output: str) -> Tensor:
    """KL(clean || other) `(b,)` of the answers that logits `(b, k)` stand for: of one of k, or of each of k labels."""
    if output == "softmax":
        return F.kl_div(other.log_softmax(1), clean.log_softmax(1), reduction="none", log_target=True).sum(1)
    yes, no = F.logsigmoid(clean), F.logsigmoid(-clean)
    apart = yes.exp() * (yes - F.logsigmoid(other)) + no.exp() * (no - F.logsigmoid(-other))
    return apart.sum(1)


def label_loss(logits: Tensor, labels: Tensor, card: Card) -> Tensor:
    """Cross-entropy `(b,)`, of one of k classes, or summed over the labels `(b, k)` that are known."""
    if card.output == "softmax":
        return F.cross_entropy(logits, labels.argmax(1), reduction="none")
    losses = F.binary_cross_entropy_with_logits(logits, labels.nan_to_num(0.5), reduction="none")
    return (losses * ~labels.isnan()).sum(1)


def _named(name: str, card: Card) -> Classifier | None:
    return next((companion(one, card) for one in steering(name)), None)
