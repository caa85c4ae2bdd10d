from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from counterscan.errors import CounterscanError
from counterscan.study.analysis.kappa import cohen_kappa, fleiss_kappa, gwet_ac1, raw_agreement

# Fourteen raters, ten subjects, five categories: the worked example of Fleiss's kappa in many texts, 0.210.
COUNTS = [
    (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1),
    (7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
]  # fmt: skip
FOURTEEN = np.array([np.repeat(range(5), row) for row in COUNTS], float)


def drawn(seed, items=30, readers=4, missing=0.2):
    rng = np.random.default_rng(seed)
    ratings = (rng.integers(0, 3, (items, 1)) + (rng.random((items, readers)) < 0.3)).astype(float)
    return np.where(rng.random(ratings.shape) < missing, np.nan, ratings)


def pairs_of(row):
    known = row[~np.isnan(row)]
    return [a == b for a, b in combinations(known, 2)]


def test_fleiss_worked_example():
    assert fleiss_kappa(FOURTEEN).value == pytest.approx(0.210, abs=5e-4)
    assert raw_agreement(FOURTEEN).value == pytest.approx(0.378, abs=5e-4)


@given(st.integers(0, 1000))
def test_fleiss_and_gwet_by_counting_pairs(seed):
    ratings = drawn(seed)
    rows = [row for row in ratings if (~np.isnan(row)).sum() >= 2]
    seen = np.mean([np.mean(pairs_of(row)) for row in rows])
    flat = np.concatenate(rows)
    flat = flat[~np.isnan(flat)]
    kinds = np.unique(flat)
    chance = sum(np.mean(flat == kind) ** 2 for kind in kinds)
    assert fleiss_kappa(ratings, draws=10).value == pytest.approx((seen - chance) / (1 - chance))
    shares = [np.mean([np.mean(row[~np.isnan(row)] == kind) for row in rows]) for kind in kinds]
    luck = sum(share * (1 - share) for share in shares) / (len(kinds) - 1)
    assert gwet_ac1(ratings, draws=10).value == pytest.approx((seen - luck) / (1 - luck))


def test_cohen_worked_example():
    first, second = np.repeat([0, 0, 1, 1], [20, 5, 10, 15]), np.repeat([0, 1, 0, 1], [20, 5, 10, 15])
    found = cohen_kappa(first, second)
    assert found.value == pytest.approx(0.4)
    assert found.low < 0.4 < found.high


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
def test_cohen_is_scikit_learns(weights):
    rng = np.random.default_rng(2)
    first = rng.integers(1, 6, 80)
    second = np.clip(first + rng.integers(-1, 2, 80), 1, 5)
    theirs = cohen_kappa_score(first, second, weights=None if weights == "none" else weights)
    assert cohen_kappa(first, second, weights).value == pytest.approx(theirs)


def test_prevalence_breaks_kappa_and_not_ac1():
    ratings = np.zeros((100, 2))
    ratings[:2, 0] = ratings[2:4, 1] = 1  # 96 % the same
    assert fleiss_kappa(ratings).value < 0
    assert gwet_ac1(ratings).value > 0.9


def test_all_the_same_has_no_kappa():
    assert np.isnan(fleiss_kappa(np.ones((10, 3))).value)
    assert np.isnan(cohen_kappa(np.ones(10), np.ones(10)).value)


def test_nothing_to_compare():
    assert fleiss_kappa(np.full((5, 3), np.nan)).n == 0


def test_unknown_weights_are_refused():
    with pytest.raises(CounterscanError, match="quadratic"):
        cohen_kappa(np.ones(3), np.ones(3), "square")
