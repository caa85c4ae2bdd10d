"""Areas under ROC curves with intervals in closed form, and whether two classifiers differ on the same cases.

The variance of DeLong, DeLong and Clarke-Pearson (1988, Biometrics 44, eq. 5), by the ranks of Sun and Xu (2014, IEEE
Signal Processing Letters 21). Changes: the two kinds of structural component are brought into one, the influence of
each image on the area, whose products summed over images are the covariances; summed over each patient first they are
those of clustered data (Obuchowski, 1997, Biometrics 53), and areas of several classes add up. Intervals of one area
are drawn on the logit, so that they stay within 0 and 1. `discrimination.auc` has the bootstrap by patient.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm, rankdata

from counterscan.metrics.intervals import Estimate, patient_groups

WIDTH = 1.96  # standard errors on either side that make a 95 % interval


@dataclass(frozen=True)
class Difference:
    """How much larger the first area is than the second: the `estimate`, and `p` of two sides that there is none."""

    estimate: Estimate
    p: float

    def to_dict(self) -> dict[str, Any]:
        """The form of the results."""
        return {**self.estimate.to_dict(), "p": None if np.isnan(self.p) else float(f"{self.p:.3g}")}


def influence(labels, scores, patients: Sequence[str] = ()) -> tuple[float, np.ndarray]:
    """The area under the curve of `scores` `(n,)`, ties counted half, and what each image adds to its error `(n,)`.

    `labels` `(n,)` are 1, 0, or nan for unknown, which adds nothing. The sum of the squares over images that are each a
    patient's own is DeLong's variance. Without a positive or without a negative the area is nan, and all is 0.
    """
    labels, scores = np.asarray(labels, float), np.asarray(scores, float)
    groups, errors = patient_groups(patients, len(labels)), np.zeros(len(labels))
    positive, negative = labels == 1, labels == 0
    n, m = int(positive.sum()), int(negative.sum())
    if not n or not m:
        return float("nan"), errors
    known, placed = positive | negative, np.zeros(len(labels))
    placed[known] = placements(scores[known], positive[known])
    area = float(placed[positive].mean())
    errors[positive] = (placed[positive] - area) / n * _unbiased(groups[positive])
    errors[negative] = (placed[negative] - area) / m * _unbiased(groups[negative])
    return area, errors


def placements(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Of finite `scores` `(..., n)` the share of the others that each is on the right side of; their mean is the area.

    `truth` `(n,)` is true where a high score is right; ties count half. A score that is nan has none, and does not
    count among the others; where there are no others it is nan.
    """
    known, placed = ~np.isnan(scores), np.zeros(scores.shape)
    filled = np.where(known, scores, np.inf)  # what is not known ranks above all, where it changes no count below
    below = rankdata(filled, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        for side in (truth, ~truth):
            others = (known & ~side).sum(-1, keepdims=True)
            placed[..., side] = (below[..., side] - rankdata(filled[..., side], axis=-1)) / others
    return np.where(known, np.where(truth, placed, 1 - placed), np.nan)


def covariance(errors: Sequence[np.ndarray], patients: Sequence[str] = ()) -> np.ndarray:
    """The covariance `(k, k)` of areas whose `influence` on the same images are the `errors`, each `(n,)`."""
    table = np.stack(errors)
    _, groups = np.unique(patient_groups(patients, table.shape[1]), return_inverse=True)
    summed = np.stack([np.bincount(groups, row) for row in table])
    return np.asarray(summed @ summed.T)


def delong(labels, scores, patients: Sequence[str] = ()) -> Estimate:
    """The area under the curve with DeLong's 95 % interval; nan where a class is missing.

    An area of 0 or 1 has an interval without width: it says what these images show, not what is possible.
    """
    area, errors = influence(labels, scores, patients)
    return _on_logit(area, errors, patients, int(np.isfinite(np.asarray(labels, float)).sum()))


def delong_mean(labels, scores, patients: Sequence[str] = ()) -> Estimate:
    """The mean area over the classes of `labels` and `scores` `(n, k)`; those without both kinds do not count."""
    area, errors = _averaged(labels, scores, patients)
    return _on_logit(area, errors, patients, len(np.asarray(labels)))


def delong_test(labels, first, second, patients: Sequence[str] = ()) -> Difference:
    """Is the area of the scores `first` another than that of `second` on the same images? All `(n,)`, or `(n, k)`.

    Of several classes the mean areas are compared. Without any error `p` is 1 where both areas are equal, else 0.
    """
    (one, own), (two, other) = (_averaged(labels, scores, patients) for scores in (first, second))
    error = _error(own - other, patients)
    difference = one - two
    low, high = difference - WIDTH * error, difference + WIDTH * error
    return Difference(Estimate(difference, low, high, len(own)), _two_sided(difference, error))


def delong_ratio(labels, first, second, patients: Sequence[str] = ()) -> Estimate:
    """The (mean) area of `first` over that of `second` on the same images, with a 95 % interval on the logarithm."""
    (one, own), (two, other) = (_averaged(labels, scores, patients) for scores in (first, second))
    if not (one > 0 and two > 0):
        return Estimate(float("nan"), float("nan"), float("nan"), len(own))
    spread = np.exp(WIDTH * _error(own / one - other / two, patients))
    return Estimate(one / two, one / two / spread, one / two * spread, len(own))


def _averaged(labels, scores, patients: Sequence[str]) -> tuple[float, np.ndarray]:
    """The mean over the columns that have an area, of the areas and of their influences."""
    labels, scores = (np.asarray(one, float).reshape(len(one), -1) for one in (labels, scores))
    found = [influence(labels[:, k], scores[:, k], patients) for k in range(labels.shape[1])]
    known = [one for one in found if not np.isnan(one[0])]
    if not known:
        return float("nan"), np.zeros(len(labels))
    return float(np.mean([area for area, _ in known])), np.mean([errors for _, errors in known], axis=0)


def _unbiased(groups: np.ndarray) -> float:
    """What makes a sum of squares about the mean of so many patients an unbiased variance."""
    count = len(np.unique(groups))
    return float(np.sqrt(count / (count - 1))) if count > 1 else 1.0


def _error(errors: np.ndarray, patients: Sequence[str]) -> float:
    return float(np.sqrt(covariance([errors], patients)[0, 0]))


def _on_logit(area: float, errors: np.ndarray, patients: Sequence[str], n: int) -> Estimate:
    if not 0 < area < 1:
        return Estimate(area, area, area, n)
    width = WIDTH * _error(errors, patients) / (area * (1 - area))
    return Estimate(area, float(expit(logit(area) - width)), float(expit(logit(area) + width)), n)


def _two_sided(difference: float, error: float) -> float:
    if np.isnan(difference):
        return float("nan")
    if not error:
        return float(difference == 0)
    return float(2 * norm.sf(abs(difference) / error))
