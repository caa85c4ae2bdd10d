"""Temperature: log-odds divided by a number that is fitted on validation images (Guo et al. 2017, section 4.2)."""

import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from counterscan.classifiers.answers import check_temperature, tempered
from counterscan.core import Classifier
from counterscan.errors import ClassifierError

BOUNDS = (0.05, 20.0)  # a temperature outside says that there is no mistake, or nothing right, to learn from


class Tempered:
    """Divides a classifier's log-odds by `temperature`: one number, or for multi-label one per class.

    No class changes sides: probabilities move towards one half (above 1) or away from it. Its `card` is the
    classifier's with this temperature in it, so that weights saved beside that card answer the same by themselves.
    Raises ClassifierError for a temperature that is not positive or does not fit the classes.
    """

    def __init__(self, classifier: Classifier, temperature: float | Sequence[float]):
        given = (temperature,) if isinstance(temperature, int | float) else temperature
        self.temperature = tuple(float(value) for value in given)
        check_temperature(self.temperature, classifier.card)
        self.classifier = classifier
        self.differentiable = classifier.differentiable
        self.card = classifier.card.model_copy(
            update={"temperature": _product(self.temperature, classifier.card.temperature)}
        )

    def __call__(self, images: Tensor) -> Tensor:
        return tempered(self.classifier(images), self.temperature, self.card)


def fit_temperature(log_odds: Tensor, labels: Tensor) -> tuple[float, ...]:
    """The temperature that makes `log_odds` `(n, k)` of validation images most likely, for `Tempered`.

    `labels` `(n,)` holds the number of each image's one class and gives one temperature; `(n, k)` holds 1, 0 or nan
    (unknown) for each class and gives one per class. A class without a mistake, or without images both with and without
    it, teaches nothing: a warning says so and its temperature stays 1. Raises ClassifierError for labels that do not
    fit.
    """
    log_odds = log_odds.detach().double().cpu()
    labels = torch.as_tensor(labels).cpu()
    _check(log_odds, labels)
    if labels.ndim == 1 and log_odds.shape[1] > 1:
        scores = F.logsigmoid(log_odds)
        return (_best(lambda cold: F.cross_entropy(scores * cold, labels.long()), "the classifier"),)
    columns = labels.reshape(log_odds.shape).double()
    return tuple(_of_class(log_odds[:, index], columns[:, index], index) for index in range(log_odds.shape[1]))


def _check(log_odds: Tensor, labels: Tensor) -> None:
    if log_odds.ndim != 2 or labels.shape not in (log_odds.shape, log_odds.shape[:1]):
        raise ClassifierError(
            f"labels {tuple(labels.shape)} do not fit log-odds {tuple(log_odds.shape)}; give (n,) class numbers, or "
            "(n, k) of 1, 0 and nan"
        )
    known = labels[~torch.isnan(labels.double())]
    top = log_odds.shape[1] - 1 if labels.ndim == 1 and log_odds.shape[1] > 1 else 1
    whole = labels.ndim == 2 or len(known) == len(labels)
    if not whole or not set(known.unique().tolist()) <= set(range(top + 1)):
        raise ClassifierError(f"labels {tuple(labels.shape)} must be whole numbers from 0 to {top}")


def _of_class(log_odds: Tensor, labels: Tensor, index: int) -> float:
    known = ~torch.isnan(labels)
    log_odds, labels = log_odds[known], labels[known]
    if len(labels.unique()) < 2:
        return _warned(f"class {index}")
    return _best(lambda cold: F.binary_cross_entropy_with_logits(log_odds * cold, labels), f"class {index}")


def _best(loss, what: str) -> float:
    """The temperature of least loss, which is convex in its inverse."""
    from scipy.optimize import minimize_scalar

    low, high = (math.log(bound) for bound in BOUNDS)
    found = minimize_scalar(lambda log: float(loss(math.exp(-log))), bounds=(low, high), method="bounded")
    return math.exp(found.x) if low + 0.01 < found.x < high - 0.01 else _warned(what)


def _warned(what: str) -> float:
    warnings.warn(
        f"no temperature can be learnt for {what}: no mistakes, or no better than chance; it stays 1", stacklevel=4
    )
    return 1.0


def _product(left: tuple[float, ...], right: tuple[float, ...]) -> tuple[float, ...]:
    size = max(len(left), len(right))
    pairs = zip(left * (size // len(left)), right * (size // len(right)), strict=True)
    return tuple(one * other for one, other in pairs)
