"""How good a classifier is: AUC, calibration error and Brier score, with intervals by patient."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import rankdata

from counterscan.metrics.intervals import DRAWS, Estimate, bootstrap, interval, patient_groups, resamples

BINS = 15  # of equal width, for the calibration error


def discrimination(labels, log_odds, classes: Sequence[str], patients: Sequence[str] = ()) -> dict[str, dict]:
    """For each class its `auc`, `ece` and `brier` (Estimates) from `labels` and `log_odds` `(n, k)`.

    Labels are 1 present, 0 absent, nan unknown; unknown ones are left out of their class.
    """
    labels, log_odds = np.asarray(labels, float), np.asarray(log_odds, float)
    report = {}
    for index, name in enumerate(classes):
        truth, answer = labels[:, index], log_odds[:, index]
        measures: dict[str, Callable] = {"auc": auc, "ece": calibration_error, "brier": brier}
        report[name] = {key: measure(truth, answer, patients) for key, measure in measures.items()}
    return report


def auc(labels, log_odds, patients: Sequence[str] = (), *, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """Area under the ROC curve, ties counted half; nan when a class is missing."""
    labels, log_odds, groups = _known(labels, log_odds, patients)
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return Estimate(float("nan"), float("nan"), float("nan"), len(labels))
    value = (rankdata(log_odds)[labels == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives)
    order = np.argsort(log_odds, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(log_odds[order]) > 0))  # equal scores are one step of the curve
    positive = labels[order] == 1

    def drawn(weights: np.ndarray) -> np.ndarray:
        weights = weights[:, groups][:, order].astype(float)
        hits = np.add.reduceat(weights * positive, starts, axis=1)
        misses = np.add.reduceat(weights * ~positive, starts, axis=1)
        below = misses.cumsum(1) - misses / 2
        with np.errstate(invalid="ignore"):  # a draw without a positive or a negative has no AUC
            return (hits * below).sum(1) / (hits.sum(1) * misses.sum(1))

    return _resampled(float(value), drawn, groups, len(labels), draws, seed)


def brier(labels, log_odds, patients: Sequence[str] = (), **settings) -> Estimate:
    """Mean squared error of the probabilities, in [0, 1]."""
    labels, log_odds = np.asarray(labels, float), np.asarray(log_odds, float)
    return bootstrap((_probability(log_odds) - labels) ** 2, patients, **settings)


def calibration_error(labels, log_odds, patients: Sequence[str] = (), *, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """Expected calibration error: |share present - mean probability| over `BINS` bins, weighted by their share."""
    labels, log_odds, groups = _known(labels, log_odds, patients)
    if not len(labels):
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    probability = _probability(log_odds)
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    gaps = np.zeros((groups.max() + 1, BINS))  # summed over each patient, so that a draw is one matrix product
    np.add.at(gaps, (groups, bins), labels - probability)
    counts = np.bincount(groups)

    def drawn(weights: np.ndarray) -> np.ndarray:
        return np.abs(weights @ gaps).sum(1) / (weights @ counts)

    value = drawn(np.ones((1, len(counts))))[0]
    return _resampled(float(value), drawn, groups, len(labels), draws, seed)


def _resampled(value: float, drawn: Callable, groups: np.ndarray, n: int, draws: int, seed: int) -> Estimate:
    parts = []
    for weights in resamples(groups.max() + 1, draws, seed):
        # in slices, because the AUC needs a weight for each image of each draw
        parts += [drawn(part) for part in np.array_split(weights, max(1, len(weights) * n // 4_000_000))]
    return interval(value, np.concatenate(parts), n)


def _known(labels, log_odds, patients: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels, log_odds = np.asarray(labels, float), np.asarray(log_odds, float)
    groups = patient_groups(patients, len(labels))
    keep = ~np.isnan(labels)
    return labels[keep], log_odds[keep], np.unique(groups[keep], return_inverse=True)[1]


def _probability(log_odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(log_odds, -700, 700)))
