from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterscan.errors import CounterscanError
from counterscan.study.analysis.reliability import intraclass_correlation, krippendorff_alpha

n = np.nan
FOUR = np.array([  # Krippendorff's own example: four observers, twelve units
    [1, 2, 3, 3, 2, 1, 4, 1, 2, n, n, n], [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, n, 3],
    [n, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, n], [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, n],
]).T  # fmt: skip
THREE = np.array([
    [n, n, n, n, n, 3, 4, 1, 2, 1, 1, 3, 3, n, 3], [1, n, 2, 1, 3, 3, 4, 3, n, n, n, n, n, n, n],
    [n, n, 2, 1, 3, 4, 4, n, 2, 1, 1, 3, 3, n, 4],
]).T  # fmt: skip
SHROUT = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_krippendorffs_example(level, alpha):
    assert krippendorff_alpha(FOUR, level).value == pytest.approx(alpha, abs=6e-4)


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.691), ("ordinal", 0.807), ("interval", 0.811)])
def test_three_observers(level, alpha):
    assert krippendorff_alpha(THREE, level).value == pytest.approx(alpha, abs=6e-4)


def by_pairs(ratings, far):
    """Alpha from every ordered pair within items, against every ordered pair of all ratings."""
    rows = [row[~np.isnan(row)] for row in ratings]
    rows = [row for row in rows if len(row) >= 2]
    flat = np.concatenate(rows)
    seen = sum(sum(far(a, b, flat) for a, b in permutations(row, 2)) / (len(row) - 1) for row in rows) / len(flat)
    expected = sum(far(a, b, flat) for a, b in permutations(flat, 2)) / (len(flat) * (len(flat) - 1))
    return 1 - seen / expected


def ordinal(a, b, flat):
    low, high = min(a, b), max(a, b)
    between = np.sum((flat >= low) & (flat <= high)) - (np.sum(flat == low) + np.sum(flat == high)) / 2
    return 0 if a == b else between**2


FAR = {"nominal": lambda a, b, _: a != b, "interval": lambda a, b, _: (a - b) ** 2, "ordinal": ordinal}


@given(st.integers(0, 500), st.sampled_from(sorted(FAR)))
def test_alpha_by_counting_pairs(seed, level):
    rng = np.random.default_rng(seed)
    ratings = np.where(rng.random((8, 3)) < 0.2, n, rng.integers(1, 5, (8, 3)))
    if len(np.unique(ratings[(~np.isnan(ratings)).sum(1) >= 2])) > 2:
        found = krippendorff_alpha(ratings, level, draws=5).value
        assert found == pytest.approx(by_pairs(ratings, FAR[level]), abs=1e-9)


def test_shrout_and_fleiss_example():
    assert intraclass_correlation(SHROUT).value == pytest.approx(0.29, abs=0.005)


def test_the_interval_holds_the_value_and_missing_ratings_are_left_out():
    rng = np.random.default_rng(4)
    ratings = rng.normal(size=(60, 1)) + 0.5 * rng.normal(size=(60, 4))
    found = intraclass_correlation(ratings)
    assert found.low < found.value < found.high
    ratings[0, 0] = n
    assert intraclass_correlation(ratings).n == 59


def test_an_unknown_level_is_refused():
    with pytest.raises(CounterscanError, match="ordinal"):
        krippendorff_alpha(FOUR, "ordered")
