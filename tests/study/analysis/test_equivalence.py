import numpy as np
import pytest
from scipy.stats import norm

from counterscan.errors import CounterscanError
from counterscan.study.analysis.equivalence import equivalence
from counterscan.study.analysis.indices import area, mean


def scores_at(true, seed, readers=6, cases=200):
    rng = np.random.default_rng(seed)
    truth = np.arange(cases) % 2
    scores = np.sqrt(2) * norm.ppf(true) * truth + np.sqrt(0.3) * rng.normal(size=cases)
    return area(scores + np.sqrt(0.7) * rng.normal(size=(readers, cases)), truth)


def test_pictures_that_cannot_be_told_apart_are_called_so():
    found = equivalence(scores_at(0.5, 3, readers=10, cases=600), margin=0.1)
    assert found.equivalent
    assert 0.4 < found.low < found.value < found.high < 0.6


def test_at_the_margin_one_in_twenty_is_called_equivalent():
    called = [equivalence(scores_at(0.6, seed), margin=0.1).equivalent for seed in range(400)]
    assert np.mean(called) == pytest.approx(0.05, abs=0.03)


def test_not_differing_from_chance_is_not_enough():
    found = equivalence(scores_at(0.5, 1, readers=3, cases=24), margin=0.05)
    assert found.low < 0.5 < found.high
    assert found.equivalent is False


def test_the_ninety_percent_interval_decides():
    for seed in range(60):
        found = equivalence(scores_at(0.53, seed), margin=0.1)
        assert found.equivalent == (found.low > 0.4 and found.high < 0.6)


def test_without_an_interval_nothing_is_said():
    found = equivalence(mean(np.array([[1.0, 0, 1, 0]])))
    assert (found.equivalent, found.over) == (None, "nothing")


@pytest.mark.parametrize(("chance", "margin"), [(0.5, 0.5), (1 / 3, 0.4), (0.5, 0.0)])
def test_an_impossible_margin_is_refused(chance, margin):
    with pytest.raises(CounterscanError, match="take another"):
        equivalence(scores_at(0.5, 0), chance, margin)
