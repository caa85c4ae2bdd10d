"""What goes into a classifier and what comes out: checked batches in, log-odds out. No other file knows scales."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from counterscan.core import Card
from counterscan.errors import ClassifierError

SURE = 1e-6  # probabilities nearer to 0 or 1 than this count as this far: log-odds stay within +-13.8


def check_card(card: Card) -> None:
    """Refuse a card that no answer can fit: the numbers of classes, of channels, of outputs."""
    outputs = len(card.classes)
    if outputs == 0 or len(set(card.classes)) < outputs:
        raise ClassifierError(f"{card.name}: a card needs classes with different names, got {card.classes}")
    if card.output == "binary" and outputs > 2:
        raise ClassifierError(f"{card.name}: binary is for 1 or 2 classes, not {outputs}; say softmax or multilabel")
    if card.output == "softmax" and outputs < 2:
        raise ClassifierError(f"{card.name}: softmax needs at least 2 classes; for one class say multilabel")
    for word, values in (("mean", card.mean), ("std", card.std)):
        if len(values) not in (1, card.shape[0]):
            raise ClassifierError(f"{card.name}: {word} needs 1 or {card.shape[0]} values, got {len(values)}")
    if min(card.std) <= 0:
        raise ClassifierError(f"{card.name}: std must be positive, got {card.std}")
    check_temperature(card.temperature, card)


def check_temperature(temperature: tuple[float, ...], card: Card) -> None:
    """Refuse a temperature that is not positive, or several where the classes depend on one another."""
    most = len(card.classes) if card.output == "multilabel" else 1
    if len(temperature) not in (1, most):
        wanted = f"1 or {most} values" if most > 1 else "1 value"
        raise ClassifierError(f"{card.name}: temperature needs {wanted} ({card.output}), got {len(temperature)}")
    if not all(0 < value < math.inf for value in temperature):
        raise ClassifierError(f"{card.name}: temperature must be positive, got {temperature}")


def number_of(card: Card, key: str, default: float) -> float:
    """A positive number in the card's settings, or the default."""
    value = card.settings.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ClassifierError(f"{card.name}: the setting {key} must be a positive number, got {value!r}")
    return value


def prepare(images: Tensor, card: Card) -> Tensor:
    """`(images - mean) / std` of images `(b, *card.shape)`; another shape raises ClassifierError."""
    if tuple(images.shape[1:]) != tuple(card.shape):
        wanted, got = ", ".join(map(str, card.shape)), tuple(images.shape)
        raise ClassifierError(f"{card.name} takes images (b, {wanted}), got {got}; Fitted(classifier, shape) fits them")
    if set(card.mean) == {0.0} and set(card.std) == {1.0}:
        return images
    mean, std = (_per_channel(values, images) for values in (card.mean, card.std))
    return (images - mean) / std


def to_log_odds(answers: Tensor, card: Card, count: int) -> Tensor:
    """Log-odds `(count, k)` in float32 from what the classifier answered, as its card says it answers.

    A binary answer l becomes (-l, l) for two classes and (l,) for one; softmax logits become
    `logit_i - logsumexp(the others)`; probabilities their logit; then the card's temperature divides them. A wrong
    shape, NaN, infinity, or a probability outside [0, 1] raises ClassifierError.
    """
    answers = _checked(answers, card, count)
    if card.scale == "probabilities":
        answers = torch.logit(_probabilities(answers, card), eps=SURE)
    elif card.output == "softmax":
        answers = _against_the_others(answers)
    if card.output == "binary" and len(card.classes) == 2:
        answers = torch.cat([-answers, answers], 1)
    return tempered(answers, card.temperature, card).float()


def tempered(log_odds: Tensor, temperature: tuple[float, ...], card: Card) -> Tensor:
    """Log-odds `(b, k)` whose scores are divided by `temperature`: one number, or one per class."""
    if set(temperature) == {1.0}:
        return log_odds
    return from_scores(to_scores(log_odds, card) / log_odds.new_tensor(temperature), card)


def to_scores(log_odds: Tensor, card: Card) -> Tensor:
    """What may be scaled or averaged class by class: of a softmax the log-probabilities, else the log-odds."""
    return F.logsigmoid(log_odds) if card.output == "softmax" else log_odds


def from_scores(scores: Tensor, card: Card) -> Tensor:
    """Log-odds `(b, k)` from scores; those of a softmax need not sum to 1 any more, their probabilities will."""
    return _against_the_others(scores) if card.output == "softmax" else scores


def _per_channel(values: tuple[float, ...], images: Tensor) -> Tensor:
    return images.new_tensor(values).reshape(1, -1, *[1] * (images.ndim - 2))


def _checked(answers: Tensor, card: Card, count: int) -> Tensor:
    if not isinstance(answers, Tensor):
        kind = type(answers).__name__
        raise ClassifierError(f"{card.name} answered a {kind}, not one tensor; wrap it so that it returns the scores")
    outputs = 1 if card.output == "binary" else len(card.classes)
    if outputs == 1 and answers.ndim == 1:
        answers = answers[:, None]
    if tuple(answers.shape) != (count, outputs):
        raise ClassifierError(
            f"{card.name} answered {tuple(answers.shape)} for {count} images, where its card promises "
            f"({count}, {outputs}): {card.output} over {', '.join(card.classes)}"
        )
    answers = answers.double() if answers.dtype == torch.float64 else answers.float()
    bad = ~torch.isfinite(answers).all(1)
    if bad.any():
        first = int(bad.nonzero()[0])
        raise ClassifierError(
            f"{card.name} answered NaN or infinity for {int(bad.sum())} of {count} images (first: number {first}); "
            "check its weights and the mean and std of its card"
        )
    return answers


def _probabilities(answers: Tensor, card: Card) -> Tensor:
    low, high = float(answers.min()), float(answers.max())
    if low < -1e-3 or high > 1 + 1e-3:
        raise ClassifierError(f"{card.name} answered {low:g} to {high:g}, not probabilities; say scale='logits'")
    sums = answers.sum(1)
    if card.output == "softmax" and float((sums - 1).abs().max()) > 0.02:
        furthest = float(sums[(sums - 1).abs().argmax()])
        raise ClassifierError(
            f"{card.name}: probabilities do not sum to 1 (but to {furthest:.3g}); say output='multilabel'"
        )
    return answers


def _against_the_others(logits: Tensor) -> Tensor:
    """The log-odds of each class: its logit minus the logsumexp of the others (exact where 1 - p would round to 0)."""
    itself = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)
    others = logits[:, None, :].expand(-1, len(itself), -1).masked_fill(itself, -torch.inf)
    return logits - others.logsumexp(2)
