"""From a share of right answers to d' and back, so that tasks can be compared (Macmillan and Creelman, 2005).

The same pictures are found out in 69 % of answers to "real or synthetic?", in 76 % of pairs and in 42 % of triples of
which one is odd, all at d' = 1: shares of different tasks must not be compared, their d' may.
"""

import math
from functools import cache

import numpy as np
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri
from scipy.stats import qmc

from counterscan.errors import check_one_of

LARGEST = 6.0  # a d' beyond which every reader is right
YES_NO, CHOICE, ODD = "real-or-synthetic", "forced-choice", "odd-one-out"


def share_right(d: float, task: str = YES_NO, pictures: int = 2) -> float:
    """The share of right answers of a reader of sensitivity `d` without a bias, with so many `pictures` a trial.

    "real-or-synthetic" is yes/no; "forced-choice" asks which picture is synthetic, "odd-one-out" which is unlike the
    others, without a word on how. Raises CounterscanError for another task.
    """
    check_one_of("task", task, (YES_NO, CHOICE, ODD))
    if task == YES_NO:
        return float(ndtr(d / 2))
    return _chosen(d, pictures) if task == CHOICE else _odd(d, pictures)


def sensitivity_of(share: float, task: str = YES_NO, pictures: int = 2) -> float:
    """The d' at which a reader without a bias is right in `share` of the trials: the inverse of `share_right`.

    Negative below chance, where the task tells that from chance; an odd one out does not, and then it is 0.
    """
    if np.isnan(share):
        return float("nan")
    lowest = 0.0 if task == ODD else -LARGEST
    ends = [share_right(end, task, pictures) for end in (lowest, LARGEST)]
    if share <= ends[0] or share >= ends[1]:
        return lowest if share <= ends[0] else LARGEST
    return float(brentq(lambda d: share_right(d, task, pictures) - share, lowest, LARGEST, xtol=1e-6))


def chance(task: str, pictures: int) -> float:
    """The share right of a reader who guesses."""
    return 0.5 if task == YES_NO else 1 / pictures


def _chosen(d: float, pictures: int) -> float:
    """The one picture from d' up exceeds all others (Green and Swets, 1966)."""
    if pictures == 2:
        return float(ndtr(d / np.sqrt(2)))
    return float(quad(lambda x: _density(x - d) * ndtr(x) ** (pictures - 1), d - 8, d + 8)[0])


def _odd(d: float, pictures: int) -> float:
    """The odd picture lies furthest from the mean of all: for three the triangle of Ennis (1993), else summed."""
    if pictures == 3:
        far = d * np.sqrt(2 / 3)
        both = quad(lambda z: _density(z) * (ndtr(far - z * 3**0.5) + ndtr(-far - z * 3**0.5)), 0, 10)[0]
        return float(2 * both)
    drawn = _draws(pictures).copy()
    drawn[:, 0] += d
    return float((np.abs(drawn - drawn.mean(1, keepdims=True)).argmax(1) == 0).mean())


def _density(x: float) -> float:
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


@cache
def _draws(pictures: int) -> np.ndarray:
    """Evenly spread normal draws, the same each time; good to a thousandth."""
    return ndtri(qmc.Sobol(pictures, seed=0).random_base2(15))
