import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from counterscan.study.analysis.indices import Index, area, balanced, mean
from counterscan.study.analysis.mixed import BOTH, difference_p, hillis, measure, over_both, over_cases, over_readers

# Van Dyke et al. (1993), spin echo and cine MRI of aortic dissection, five readers, 114 patients, as published with the
# method (Hillis, Obuchowski and Berbaum, Academic Radiology 18, 2011): readers' areas and jackknife covariances.
CINE = np.array([0.91964573, 0.85877617, 0.90386473, 0.97310789, 0.82979066])
SPIN = np.array([0.94782609, 0.90531401, 0.92173913, 0.99935588, 0.92995169])
VAR, COV1, COV2, COV3 = 8.0229e-4, 3.4661e-4, 3.4407e-4, 2.3903e-4


def with_covariance(values, own, common, cases=45):
    """Readers' figures whose influences have just these variances and covariances."""
    n = len(values)
    root = np.linalg.cholesky(np.full((n, n), common) + (own - common) * np.eye(n))
    return Index(values, np.concatenate([root, np.zeros((n, cases))], 1), cases)


def drawn(studies, readers, cases, mu, seed=0):
    rng = np.random.default_rng(seed)
    truth = np.arange(cases) % 2
    case, own = rng.normal(size=(studies, 1, cases)), rng.normal(size=(studies, readers, cases))
    reader = 0.17 * rng.normal(size=(2, studies, readers, 1))
    scores = mu * truth + np.where(truth, reader[0], reader[1]) + np.sqrt(0.3) * case + np.sqrt(0.7) * own
    return scores, truth, norm.cdf(mu / np.sqrt(2 * (1 + 0.17**2)))


def test_the_published_example_of_van_dyke_comes_out():
    found = hillis(with_covariance(CINE - SPIN, 2 * (VAR - COV1), 2 * (COV2 - COV3)))
    assert found.value == pytest.approx(-0.04380, abs=1e-5)
    assert found.value**2 / found.variance == pytest.approx(4.456, abs=0.005)
    assert found.df == pytest.approx(15.26, abs=0.02)
    assert 2 * float(1 - found.above(0)) == pytest.approx(0.0517, abs=2e-4)
    assert found.interval() == pytest.approx((-0.08796, 0.00036), abs=5e-5)


def test_readers_alone_and_cases_alone_leave_variance_out():
    scores, truth, _ = drawn(400, 6, 80, 1.0)
    index = area(scores, truth)
    wide = over_both(index).variance.mean()
    assert max(over_cases(index).variance.mean(), over_readers(index).variance.mean()) < wide


def test_readers_alike_by_luck_count_half_of_what_cases_make_them_differ():
    own, common = 4e-3, 1e-3
    found = over_both(with_covariance(np.full(4, 0.8), own, common))
    assert found.variance == pytest.approx(common + 0.5 * (own - common) / 4)


def test_degrees_of_freedom_count_that_the_covariance_of_readers_is_estimated_too():
    values = np.random.default_rng(5).normal(size=(4, 30))
    index = mean(values)
    products = [
        np.mean([index.influences[i, case] * index.influences[j, case] for i in range(4) for j in range(4) if i != j])
        for case in range(30)
    ]
    unsure, between = 30 * np.var(products, ddof=1), values.mean(1).var(ddof=1)
    found = over_both(index)
    assert found.df == pytest.approx(found.variance**2 / ((between / 4) ** 2 / 3 + unsure / 2))


def test_the_variance_over_cases_is_that_of_the_mean_reader():
    values = np.random.default_rng(3).normal(size=(4, 30))
    assert over_cases(mean(values)).variance == pytest.approx(values.mean(0).var(ddof=1) / 30)


def test_intervals_hold_the_truth_as_often_as_they_say_where_plain_ones_do_not():
    scores, truth, true = drawn(1500, 4, 60, 2.4)
    index = area(scores, truth)
    low, high = over_both(index).interval(share=True)
    plain_low, plain_high = hillis(index).interval()
    ours, plain = np.mean((low <= true) & (true <= high)), np.mean((plain_low <= true) & (true <= plain_high))
    assert 0.93 <= ours <= 0.97
    assert plain < 0.93


def test_a_test_of_two_methods_that_do_not_differ_errs_in_one_of_twenty():
    scores, truth, _ = drawn(1500, 4, 60, 1.0)
    other = drawn(1500, 4, 60, 1.0, seed=1)[0]
    found = over_both(area(scores, truth) - area(other, truth))
    tail = found.above(0)
    assert 0.03 <= np.mean(2 * np.minimum(tail, 1 - tail) < 0.05) <= 0.07


@given(st.integers(1, 6), st.integers(2, 40), st.integers(0, 99))
def test_a_share_stays_in_its_bounds_and_within_its_interval(readers, cases, seed):
    right = np.random.default_rng(seed).random((readers, cases)) < 0.9
    found = measure(mean(right), share=True)
    if not np.isnan(found.low):
        assert 0 <= found.low <= found.value <= found.high <= 1
    assert (found.over == BOTH) == (readers >= 3 and cases >= 10)


def test_too_few_readers_or_cases_are_told_with_what_was_done_instead():
    scores, truth, _ = drawn(1, 5, 60, 1.0)
    index = area(scores[0], truth)
    two = measure(index.of([0, 1]), share=True)
    assert (two.over, "2 readers, where 3 are needed" in two.note) == ("cases", True)
    few = measure(area(scores[0, :, :12], truth[:12]), share=True)
    assert (few.over, "6 cases of the rarer class, where 10 are needed" in few.note) == ("readers", True)
    neither = measure(area(scores[0, :1, :12], truth[:12]), share=True)
    assert (neither.over, np.isnan(neither.low), neither.note[:11]) == ("nothing", True, "no interval")


def test_all_right_has_an_exact_interval_for_its_cases():
    found = measure(mean(np.ones((4, 20))), share=True)
    assert (found.value, found.high) == (1, 1)
    assert found.low == pytest.approx(0.025 ** (1 / 20))
    assert "exact interval for 20 cases" in found.note


def test_readers_without_a_figure_are_told_of():
    scores, truth, _ = drawn(1, 5, 60, 1.0)
    scores[0, 2, truth == 1] = np.nan
    found = measure(area(scores[0], truth), share=True)
    assert found.readers == 4
    assert "1 of 5 readers have no figure" in found.note


def test_p_and_interval_agree():
    scores, truth, _ = drawn(1, 5, 60, 0.4)
    right = (scores[0] > 0.2) == truth
    found = measure(balanced(right, truth), share=True)
    assert difference_p(found, found.low, share=True) == pytest.approx(0.05, abs=1e-6)
    assert difference_p(found, found.value, share=True) == pytest.approx(1)
