import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterscan.metrics.delong import covariance, delong, delong_mean, delong_ratio, delong_test, influence, placements


def brute(labels, *scores):
    """Areas and their covariance by the definition: every positive against every negative, structural components."""
    labels = np.asarray(labels)
    components = []
    for one in scores:
        x, y = np.asarray(one)[labels == 1], np.asarray(one)[labels == 0]
        wins = np.array([[1.0 if a > b else 0.5 if a == b else 0.0 for b in y] for a in x])
        components.append((wins.mean(1), wins.mean(0)))
    by_positive = np.cov(np.stack([v for v, _ in components])).reshape(len(scores), -1)
    by_negative = np.cov(np.stack([v for _, v in components])).reshape(len(scores), -1)
    n, m = (labels == 1).sum(), (labels == 0).sum()
    return [v.mean() for v, _ in components], by_positive / n + by_negative / m


def drawn(n, seed, effect=1.0, ties=False):
    generator = np.random.default_rng(seed)
    labels = np.r_[1, 1, 0, 0, generator.integers(0, 2, n - 4)]
    first = generator.normal(size=n) + effect * labels
    second = first + generator.normal(size=n)
    return labels, *(np.round(one) if ties else one for one in (first, second))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_areas_and_their_covariance_are_those_of_the_definition(ties, seed):
    labels, first, second = drawn(40, seed, ties=ties)
    areas, wanted = brute(labels, first, second)
    found = [influence(labels, one) for one in (first, second)]
    np.testing.assert_allclose([area for area, _ in found], areas)
    np.testing.assert_allclose(covariance([errors for _, errors in found]), wanted)


def test_the_area_is_that_of_scikit_learn_with_ties_and_unknown_labels():
    metrics = pytest.importorskip("sklearn.metrics")
    labels, scores, _ = drawn(200, 0, ties=True)
    assert delong(labels, scores).value == pytest.approx(metrics.roc_auc_score(labels, scores))
    with_unknown = np.r_[labels.astype(float), [np.nan] * 20], np.r_[scores, np.full(20, 99.0)]
    found, whole = delong(*with_unknown), delong(labels, scores)
    assert (found.value, found.low, found.high) == pytest.approx((whole.value, whole.low, whole.high))
    assert found.n == 200


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=30))
def test_turning_labels_or_scores_round_turns_the_area_round(cases):
    labels, scores = (np.array(column, float) for column in zip(*cases, strict=True))
    found = delong(labels, scores)
    if len(set(labels)) == 1:
        assert np.isnan(found.value)
        return
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert delong(1 - labels, -scores).value == pytest.approx(found.value)
    turned = delong(labels, -scores)
    assert (turned.value, turned.low, turned.high) == pytest.approx((1 - found.value, 1 - found.high, 1 - found.low))


def test_nineteen_of_twenty_intervals_hold_the_true_area():
    truth = 0.76025  # Phi(1 / sqrt(2)): positives one standard deviation above negatives
    held = [low <= truth <= high for low, high in ((one.low, one.high) for one in map(interval, range(300)))]
    assert 0.92 < np.mean(held) < 0.98


def interval(seed):
    return delong(*drawn(60, seed)[:2])


def test_a_test_of_equal_classifiers_is_below_one_in_twenty_that_often():
    generator = np.random.default_rng(0)
    chances = []
    for _ in range(250):
        labels = generator.integers(0, 2, 80)
        shared = labels + generator.normal(size=80)
        chances.append(delong_test(labels, *(shared + generator.normal(size=80) for _ in range(2))).p)
    assert np.mean(np.array(chances) < 0.05) == pytest.approx(0.05, abs=0.035)


def test_the_same_scores_do_not_differ_and_the_order_changes_the_sign():
    labels, first, second = drawn(100, 3)
    same = delong_test(labels, first, first)
    assert (same.estimate.value, same.p) == (0, 1)
    one, other = delong_test(labels, first, second), delong_test(labels, second, first)
    assert one.estimate.value == pytest.approx(-other.estimate.value)
    assert one.p == pytest.approx(other.p)
    assert one.estimate.low < one.estimate.value < one.estimate.high


def test_images_of_one_patient_count_as_one():
    labels, scores, other = drawn(60, 5)
    patients = [f"p{index}" for index in range(60)]
    alone = delong(labels, scores, patients)
    assert alone == delong(labels, scores)
    thrice = delong(np.tile(labels, 3), np.tile(scores, 3), patients * 3)
    assert (thrice.value, thrice.low, thrice.high) == pytest.approx((alone.value, alone.low, alone.high))
    assert delong(np.tile(labels, 3), np.tile(scores, 3)).low > thrice.low
    test, again = (
        delong_test(labels, scores, other),
        delong_test(*(np.tile(x, 3) for x in (labels, scores, other)), patients * 3),
    )
    assert again.p == pytest.approx(test.p)


def test_several_classes_are_averaged_and_those_without_both_kinds_left_out():
    labels, first, second = drawn(80, 1)
    table = np.stack([labels, labels[::-1], np.ones(80)], 1)
    scores = np.stack([first, second, first], 1)
    parts = [delong(table[:, k], scores[:, k]).value for k in range(2)]
    assert delong_mean(table, scores).value == pytest.approx(np.mean(parts))
    assert delong_mean(table[:, :1], scores[:, :1]) == delong(labels, first)
    ratio = delong_ratio(labels, second, first)
    assert ratio.value == pytest.approx(delong(labels, second).value / delong(labels, first).value)
    assert ratio.low < ratio.value < ratio.high
    assert delong_ratio(labels, first, first) == delong_ratio(labels, second, second)


def test_nothing_to_tell_apart_is_not_a_number():
    nothing = delong_test(np.ones(5), np.arange(5), np.arange(5))
    assert np.isnan(nothing.estimate.value)
    assert np.isnan(nothing.p)
    assert nothing.to_dict()["p"] is None
    assert np.isnan(delong_ratio(np.ones(5), np.arange(5), np.arange(5)).value)


def test_placements_are_shares_of_the_other_side_and_leave_out_what_is_not_known():
    scores = np.array([[0.1, 0.4, 0.4, 0.9], [0.1, np.nan, 0.4, 0.9]])
    truth = np.array([False, True, False, True])
    np.testing.assert_allclose(placements(scores, truth), [[1.0, 0.75, 0.75, 1.0], [1.0, np.nan, 1.0, 1.0]])
    alone = placements(np.array([0.2, np.nan]), np.array([True, False]))
    assert np.isnan(alone).all()
