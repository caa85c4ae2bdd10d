import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from counterscan.metrics.delong import influence
from counterscan.study.analysis.indices import area, balanced, mean, sensitivity


def drawn(readers=4, cases=40, seed=0):
    rng = np.random.default_rng(seed)
    truth = np.arange(cases) % 2
    return np.round(rng.normal(size=(readers, cases)) + truth, 1), truth  # with ties


def by_pairs(scores, truth):
    """DeLong's areas and covariances from every pair of a positive and a negative."""
    high, low = scores[:, truth == 1, None], scores[:, None, truth == 0]
    wins = (high > low) + 0.5 * (high == low)
    return wins.mean((1, 2)), np.cov(wins.mean(2)) / wins.shape[1] + np.cov(wins.mean(1)) / wins.shape[2]


@given(st.integers(0, 10_000))
def test_areas_and_covariances_are_those_of_all_pairs(seed):
    scores, truth = drawn(seed=seed)
    found = area(scores, truth)
    areas, covariances = by_pairs(scores, truth)
    assert found.values == pytest.approx(areas)
    assert found.influences @ found.influences.T == pytest.approx(covariances)


def test_the_area_is_scikit_learns():
    scores, truth = drawn()
    assert area(scores, truth).values == pytest.approx([roc_auc_score(truth, row) for row in scores])


def test_what_was_not_read_changes_nothing():
    scores, truth = drawn()
    short = area(scores[:, :30], truth[:30])
    scores[:, 30:] = np.nan
    found = area(scores, truth)
    assert found.values == pytest.approx(short.values)
    assert found.influences[:, :30] == pytest.approx(short.influences)
    assert not found.influences[:, 30:].any()
    assert found.cases == 15


def test_pictures_of_one_case_are_counted_as_one():
    scores, truth = drawn(readers=3)
    cases = np.arange(40) // 2  # each case once with and once without
    _, errors = influence(truth, scores[0], [f"p{case}" for case in cases])
    clustered = np.bincount(cases, errors)
    assert area(scores, truth, cases).influences[0] == pytest.approx(clustered)


def test_many_studies_at_once_are_the_same_as_one_at_a_time():
    scores = np.stack([drawn(seed=seed)[0] for seed in range(3)])
    truth = drawn()[1]
    both = area(scores, truth)
    assert both.values[1] == pytest.approx(area(scores[1], truth).values)
    assert both.influences[2] == pytest.approx(area(scores[2], truth).influences)


def test_the_variance_of_a_mean_is_the_textbooks():
    values = np.random.default_rng(1).normal(size=(2, 25))
    found = mean(values)
    assert (found.influences**2).sum(-1) == pytest.approx(values.var(1, ddof=1) / 25)
    assert found.influences[0] @ found.influences[1] == pytest.approx(np.cov(values)[0, 1] / 25)


def test_balanced_accuracy_does_not_depend_on_how_many_of_each_were_shown():
    right = np.array([[1.0, 1, 1, 1, 1, 1, 1, 1, 0, 1]])
    truth = np.array([0] * 8 + [1] * 2)
    assert balanced(right, truth).values == pytest.approx([0.75])


def test_sensitivity_has_the_corrected_rates_and_stays_finite():
    said = np.array([[1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 1, 0, 0, 0]])
    truth = np.array([1] * 4 + [0] * 4)
    d, criterion = sensitivity(said, truth)
    sure = norm.ppf(0.9)  # (4 + 0.5) / (4 + 1)
    assert d.values == pytest.approx([2 * sure, norm.ppf(0.5) - norm.ppf(0.3)])
    assert criterion.values == pytest.approx([0, -(norm.ppf(0.5) + norm.ppf(0.3)) / 2])


def test_a_reader_of_one_class_has_no_area():
    scores, truth = drawn()
    scores[1, truth == 1] = np.nan
    assert np.isnan(area(scores, truth).values).tolist() == [False, True, False, False]
