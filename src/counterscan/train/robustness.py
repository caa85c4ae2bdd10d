"""How often a classifier stays right while it is attacked, by attacks that it was not trained with.

Each answer is attacked by itself: the one class of a softmax, every known label of a multi-label classifier. It counts
as right at a radius only if it survives both attacks there, and all smaller radii (as in AutoAttack, Croce and Hein,
2020, 2003.01690): projected gradient descent on the margin (Carlini and Wagner, 2017, 1608.04644, loss f6) with many
steps and restarts, and where foolbox is installed its fast minimum-norm attack (Pintor et al., 2021, 2102.12827).
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from importlib import metadata
from typing import Any

import torch
from torch import Tensor, nn

from counterscan.core import Card, Classifier
from counterscan.metrics.intervals import bootstrap
from counterscan.train.attack import PGD

STEPS, RESTARTS = 50, 2
MINIMUM_NORM_STEPS = 100
BATCH = 50


def robustness(
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    patients: Sequence[str] = (),
    *,
    norm: str = "l2",
    radii: Sequence[float],
    seed: int = 0,
) -> dict[str, Any]:
    """The share of right answers, clean and at each of the `radii` (see PGD), with intervals by patient.

    `images` `(n, c, *spatial)` in [-1, 1], `labels` `(n, k)` 1, 0 or nan for unknown, which is not asked. The answer
    says by `attack` which attacks it was, and has `accuracy` and `accuracy_NORM_RADIUS` in the form of the results.
    """
    pgd = PGD(norm, 0.0, STEPS, RESTARTS)
    radii = sorted(radii)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        rows = [
            _survived(classifier, images[part], labels[part], pgd, radii)
            for part in torch.arange(len(images)).split(BATCH)
        ]
    # (n, questions, radii + 1), nan where a label is unknown
    right = torch.cat(rows).numpy()
    whose = [patient for patient in (list(patients) or map(str, range(len(images)))) for _ in range(right.shape[1])]
    names = ["accuracy", *(f"accuracy_{norm}_{radius:g}" for radius in radii)]
    shares = {name: bootstrap(right[:, :, column], whose).to_dict() for column, name in enumerate(names)}
    return {"attack": describe(norm), **shares}


def describe(norm: str) -> str:
    """Which attacks `robustness` uses here."""
    ours = f"projected gradient descent on the margin, {STEPS} steps, {RESTARTS} restarts"
    if importlib.util.find_spec("foolbox") is None:
        return f"{ours} (foolbox is not installed)"
    return f"{ours}; fast minimum-norm, {MINIMUM_NORM_STEPS} steps, of foolbox {metadata.version('foolbox')}"


def margin(log_odds: Tensor, labels: Tensor, card: Card, question: int) -> Tensor:
    """How far `(b,)` each answer is on the right side: positive where it is right.

    Of a multi-label or binary classifier the answer is that on class `question`; a softmax has one answer, the class.
    """
    if card.output != "softmax":
        return (labels[:, question] * 2 - 1) * log_odds[:, question]
    truth = nn.functional.one_hot(labels.argmax(1), labels.shape[1]).bool()
    return log_odds[truth] - log_odds.masked_fill(truth, -torch.inf).amax(1)


def _survived(classifier: Classifier, images: Tensor, labels: Tensor, pgd: PGD, radii: Sequence[float]) -> Tensor:
    """Whether each answer is right, clean and at each radius: `(b, questions, radii + 1)`, nan where unknown."""
    questions = 1 if classifier.card.output == "softmax" else labels.shape[1]
    found = torch.full((len(images), questions, 1 + len(radii)), torch.nan)
    for question in range(questions):
        known = torch.nonzero(~labels[:, question].isnan())[:, 0]
        if len(known):
            found[known, question] = _one(classifier, images[known], labels[known], question, pgd, radii)
    return found


def _one(
    classifier: Classifier, images: Tensor, labels: Tensor, question: int, pgd: PGD, radii: Sequence[float]
) -> Tensor:
    def right(truth: Tensor, points: Tensor) -> Tensor:
        return margin(classifier(points), truth, classifier.card, question)

    with torch.no_grad():
        stands = right(labels, images) > 0
    columns, broken = [stands], _minimum_norm(classifier, images, labels, question, pgd.norm, radii)
    for column, radius in enumerate(radii):
        stands = stands & ~broken[column]
        alive = torch.nonzero(stands)[:, 0]
        if len(alive):
            loss = partial(_minus, partial(right, labels[alive]))
            points = replace(pgd, radius=radius)(loss, images[alive])
            with torch.no_grad():
                stands = stands.index_put((alive,), right(labels[alive], points) > 0)
        columns.append(stands)
    return torch.stack(columns, 1).float()


def _minus(function, points: Tensor) -> Tensor:
    return -function(points)


def _minimum_norm(
    classifier: Classifier, images: Tensor, labels: Tensor, question: int, norm: str, radii: Sequence[float]
) -> Tensor:
    """Which answers `(radii, b)` foolbox breaks; none where it is not installed."""
    if importlib.util.find_spec("foolbox") is None:
        return torch.zeros(len(radii), len(images), dtype=torch.bool)
    import foolbox

    kind = foolbox.attacks.L2FMNAttack if norm == "l2" else foolbox.attacks.LInfFMNAttack
    softmax = classifier.card.output == "softmax"
    truth = labels.argmax(1) if softmax else labels[:, question].long()
    model = foolbox.PyTorchModel(_Sided(classifier, None if softmax else question).eval(), bounds=(-1, 1), device="cpu")
    attack = kind(steps=MINIMUM_NORM_STEPS)
    return attack(model, images.clamp(-1, 1), truth, epsilons=list(radii))[2]


class _Sided(nn.Module):
    """A classifier as a module whose largest output is its answer: its log-odds, or those against and for one class."""

    def __init__(self, classifier: Classifier, question: int | None):
        super().__init__()
        self.classifier, self.question = classifier, question

    def forward(self, images: Tensor) -> Tensor:
        log_odds = self.classifier(images)
        if self.question is None:
            return log_odds
        one = log_odds[:, self.question]
        return torch.stack([-one, one], 1)
