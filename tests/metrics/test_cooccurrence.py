import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency

from counterscan.errors import CounterscanError
from counterscan.metrics.cooccurrence import (
    chi_square,
    compared_patterns,
    joint_counts,
    js_distance,
    odds_of_pairs,
    prevalence,
)

counts = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=2, max_size=8).filter(
    lambda rows: all(sum(column) for column in zip(*rows, strict=True))
)


@given(counts)
def test_both_distances_are_those_of_scipy_and_do_not_mind_the_order(rows):
    first, second = np.array(rows).T
    assert js_distance(first, second) == pytest.approx(jensenshannon(first, second, 2), abs=1e-6)
    assert js_distance(first, second) == pytest.approx(js_distance(second, first))
    assert 0 <= js_distance(first, second) <= 1
    known = first + second > 0
    wanted = chi2_contingency(np.stack([first, second])[:, known], correction=False).statistic
    assert chi_square(first, second) == pytest.approx(wanted)
    assert chi_square(first, second) == pytest.approx(chi_square(second, first))


def test_equal_shares_have_no_distance_and_disjoint_ones_all_of_it():
    assert js_distance(np.array([1, 2, 3]), np.array([2, 4, 6])) == 0
    assert js_distance(np.array([1, 0]), np.array([0, 5])) == 1


def tied(n, seed, together):
    generator = np.random.default_rng(seed)
    first = generator.random(n) < 0.5
    second = np.where(generator.random(n) < together, first, generator.random(n) < 0.5)
    return np.stack([first, second], 1).astype(float)


def test_findings_that_go_together_in_one_set_only_are_told():
    apart, joined = tied(400, 0, 0.0), tied(300, 1, 0.6)
    found = compared_patterns(joined, apart, ("a", "b"), draws=300)
    assert set(found.names) == {"none", "a", "b", "a + b"}
    assert found.counts.sum(1).tolist() == [300, 400]
    assert found.distance > found.distance_by_chance
    assert found.distance_p == found.chi_square_p == pytest.approx(1 / 301)
    odds = odds_of_pairs(joined, apart, ("a", "b"))["a", "b"]
    assert odds.first.low > 1
    assert odds.second.low < 1 < odds.second.high
    assert odds.ratio.value == pytest.approx(odds.first.value / odds.second.value)
    assert odds.p < 0.001
    assert prevalence(apart)[0].value == pytest.approx(apart[:, 0].mean())


def test_two_sets_of_one_law_differ_by_chance_only():
    chances = [
        compared_patterns(tied(80, s, 0.3), tied(60, 900 + s, 0.3), "ab", draws=99).distance_p for s in range(60)
    ]
    assert np.mean(np.array(chances) <= 0.05) < 0.15
    assert 0.35 < np.mean(chances) < 0.65


def test_patients_who_come_many_times_are_no_evidence():
    made, real = tied(30, 0, 0.3), np.repeat(tied(12, 3, 0.3), 10, 0)
    whose = [f"p{index}" for index in np.repeat(range(12), 10)]
    careful = compared_patterns(made, real, "ab", (), whose, draws=500).distance_p
    assert careful > compared_patterns(made, real, "ab", draws=500).distance_p
    wide, narrow = (odds_of_pairs(made, real, "ab", (), names)["a", "b"].second for names in (whose, ()))
    assert wide.value == narrow.value
    assert wide.high / wide.low > 2 * narrow.high / narrow.low


def test_an_odds_ratio_is_woolfs_with_half_an_image_more_in_each_cell():
    labels = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], [10, 4, 5, 20], axis=0)
    found = odds_of_pairs(labels, labels, "ab")["a", "b"].first
    error = np.sqrt(1 / 10.5 + 1 / 4.5 + 1 / 5.5 + 1 / 20.5)
    assert found.value == pytest.approx(10.5 * 20.5 / 4.5 / 5.5)
    assert found.high == pytest.approx(found.value * np.exp(1.96 * error))
    nobody = odds_of_pairs([[np.nan, 1.0]], labels, "ab")["a", "b"]
    assert np.isnan(nobody.first.value)
    assert nobody.to_dict()["p"] is None


def test_joint_counts_and_unknown_labels():
    labels = np.array([[1, 1, 0], [1, 0, np.nan], [1, 1, 1], [0, 0, 0]])
    assert joint_counts(labels).tolist() == [[3, 2, 1], [2, 2, 1], [1, 1, 1]]
    found = compared_patterns(labels, labels, "abc", draws=20)
    assert found.counts.sum(1).tolist() == [3, 3]
    assert (found.distance, found.distance_p) == (0, 1)
    with pytest.raises(CounterscanError, match="labels without blanks"):
        compared_patterns(np.full((3, 2), np.nan), labels[:, :2], "ab")
