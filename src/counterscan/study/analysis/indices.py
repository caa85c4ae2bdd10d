"""A figure of each reader, and what each case does to it: all that an interval over readers and cases needs.

A covariance between the figures of two readers of the same cases is the product of their influences, summed over the
cases. For the area under the ROC curve that is DeLong, DeLong and Clarke-Pearson (Biometrics 44, 1988), and
Obuchowski (Biometrics 53, 1997) where a case has several pictures; readers need not have seen the same cases.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm

from counterscan.metrics.delong import placements


@dataclass(frozen=True)
class Index:
    """A figure of each of R readers, `values` `(..., R)`, and the `influences` `(..., R, C)` of C cases on it.

    The influences of a reader sum to nothing, and their squares to the variance of the figure over samples of cases.
    `cases` is the number of cases behind it, of the rarer class where there are two.
    """

    values: np.ndarray
    influences: np.ndarray
    cases: int

    def __sub__(self, other: "Index") -> "Index":
        """One figure less another of the same readers and cases: how two methods differ."""
        return Index(self.values - other.values, self.influences - other.influences, min(self.cases, other.cases))

    @property
    def readers(self) -> int:
        """How many readers have the figure."""
        return self.values.shape[-1]

    def of(self, readers: Sequence[int] | np.ndarray) -> "Index":
        """The figure of some readers."""
        return Index(self.values[..., readers], self.influences[..., readers, :], self.cases)

    def scaled(self, factor: np.ndarray | float) -> "Index":
        """The figure of each reader times a `factor`, one or `(..., R)`."""
        factor = np.asarray(factor, float)
        return Index(self.values * factor, self.influences * factor[..., None], self.cases)


def area(scores: np.ndarray, truth: np.ndarray, cases: np.ndarray | None = None) -> Index:
    """The area under the ROC curve of `scores` `(..., R, N)`, nan where not read; ties count half.

    `truth` `(N,)` is 1 for what a high score speaks for and 0 else; `cases` `(N,)` are numbers from 0 up of whose
    picture each is, by default every one its own. A reader who saw one class only has no area (nan).
    """
    scores, truth = np.asarray(scores, float), np.asarray(truth).astype(bool)
    return _meeting(placements(scores, truth), truth, cases)


def mean(values: np.ndarray, cases: np.ndarray | None = None) -> Index:
    """The mean of `values` `(..., R, N)`, nan where not read: a share right, a time, a rating."""
    values = np.asarray(values, float)
    centre, parts, found = _part(values, np.ones(values.shape[-1], bool), cases)
    return Index(centre, parts, found)


def balanced(values: np.ndarray, truth: np.ndarray, cases: np.ndarray | None = None) -> Index:
    """Half the mean among `truth` 1 and half that among 0: a share right in which chance is one half.

    A study that shows many more real pictures than those of one method does so to nobody's advantage.
    """
    (high, low), found = _sides(np.asarray(values, float), np.asarray(truth), cases)
    return Index((high[0] + low[0]) / 2, (high[1] + low[1]) / 2, found)


def sensitivity(said: np.ndarray, truth: np.ndarray, cases: np.ndarray | None = None) -> tuple[Index, Index]:
    """d' = z(H) - z(F) and the criterion c = -(z(H) + z(F)) / 2 of each reader, from `said` `(..., R, N)` 1 or 0.

    H and F are the shares `said` of `truth` 1 and of 0, each with half an answer added on either side (Hautus,
    Behavior Research Methods 27, 1995), so that a reader who is always right has a finite d'. Needs no threshold but
    the reader's own. A criterion above 0 is a reader slow to say 1.
    """
    said, truth = np.asarray(said, float), np.asarray(truth).astype(bool)
    (high, low), found = _sides(said, truth, cases)
    scores = []
    for (share, parts), side in ((high, truth), (low, ~truth)):
        n = (~np.isnan(said[..., side])).sum(-1)
        z = norm.ppf((share * n + 0.5) / (n + 1))
        slope = n / (n + 1) / norm.pdf(z)
        scores.append(Index(z, parts * slope[..., None], found))
    hits, alarms = scores
    return hits - alarms, replace(hits - alarms.scaled(-1), cases=found).scaled(-0.5)


def _meeting(placed: np.ndarray, truth: np.ndarray, cases: np.ndarray | None) -> Index:
    """The area from the share that each positive lies above of the negatives, and each negative below."""
    (high, low), found = _sides(placed, truth, cases)
    return Index(high[0], high[1] + low[1], found)


def _sides(values: np.ndarray, truth: np.ndarray, cases: np.ndarray | None):
    """Mean and influences among truth 1, and among 0, and the cases of the rarer."""
    truth = np.asarray(truth).astype(bool)
    high, low = (_part(values, side, cases) for side in (truth, ~truth))
    return (high[:2], low[:2]), min(high[2], low[2])


def _part(values: np.ndarray, chosen: np.ndarray, cases: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, int]:
    """The mean of the `chosen` trials, its influences by case, and how many cases they are.

    A sum of squares of n influences is too small by (n - 1) / n, so that each is made larger by as much.
    """
    read = ~np.isnan(values) & chosen
    counts = read.sum(-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = np.where(read, values, 0).sum(-1, keepdims=True) / counts
        parts = np.where(read, values - centre, 0) / counts
    taken, n = _by_case(read.astype(float), cases) > 0, _by_case(parts, cases)
    each = taken.sum(-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        n = n * np.sqrt(each / np.maximum(each - 1, 1))
    return centre[..., 0], n, int(taken.reshape(-1, taken.shape[-1]).any(0).sum())


def _by_case(parts: np.ndarray, cases: np.ndarray | None) -> np.ndarray:
    if cases is None:
        return parts
    return parts @ (np.asarray(cases)[:, None] == np.arange(np.max(cases) + 1)).astype(float)
