import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from counterscan.metrics.discrimination import auc, brier, calibration_error, discrimination


def answers(n=300, seed=0, decimals=6):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, n).astype(float)
    return labels, (generator.normal(size=n) + labels).round(decimals)


@pytest.mark.parametrize("decimals", [6, 0])
def test_auc_and_its_interval_equal_scikit_learn(decimals):
    labels, log_odds = answers(decimals=decimals)
    estimate = auc(labels, log_odds)
    assert estimate.value == pytest.approx(roc_auc_score(labels, log_odds))
    generator = np.random.default_rng(1)
    draws = (generator.integers(0, 300, 300) for _ in range(400))
    drawn = [roc_auc_score(labels[draw], log_odds[draw]) for draw in draws]
    assert [estimate.low, estimate.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.01)


def test_auc_interval_is_wider_when_images_share_patients():
    labels, log_odds = answers(40)
    repeated = auc(np.repeat(labels, 10), np.repeat(log_odds, 10), np.repeat([f"p{i}" for i in range(40)], 10))
    naive = auc(np.repeat(labels, 10), np.repeat(log_odds, 10))
    assert repeated.high - repeated.low > 2 * (naive.high - naive.low)


def test_auc_without_one_of_the_classes_is_undefined():
    assert np.isnan(auc(np.ones(5), np.arange(5)).value)
    assert np.isnan(auc([], []).value)


def test_unknown_labels_are_left_out():
    labels, log_odds = answers()
    hidden = np.append(labels, [np.nan] * 50)
    assert auc(hidden, np.append(log_odds, np.full(50, 99.0))) == auc(labels, log_odds)
    assert calibration_error(hidden, np.append(log_odds, np.full(50, 99.0))) == calibration_error(labels, log_odds)
    assert brier(hidden, np.append(log_odds, np.zeros(50))).n == 300


def test_brier_equals_scikit_learn():
    labels, log_odds = answers()
    assert brier(labels, log_odds).value == pytest.approx(brier_score_loss(labels, 1 / (1 + np.exp(-log_odds))))


def test_calibration_error_of_calibrated_and_of_overconfident_answers():
    generator = np.random.default_rng(0)
    log_odds = generator.normal(0, 2, 4000)
    labels = (generator.random(4000) < 1 / (1 + np.exp(-log_odds))).astype(float)
    good, bad = calibration_error(labels, log_odds), calibration_error(labels, log_odds * 5)
    assert good.value < 0.03 < 0.1 < bad.low
    always = calibration_error([1.0, 0.0, 0.0, 0.0], np.full(4, np.log(3)))  # says 0.75, is 0.25
    assert always.value == pytest.approx(0.5)


def test_report_of_each_class():
    labels, log_odds = answers()
    report = discrimination(np.stack([labels, 1 - labels], 1), np.stack([log_odds, log_odds], 1), ("a", "b"))
    assert report["a"]["auc"].value == pytest.approx(1 - report["b"]["auc"].value)
    assert set(report["a"]) == {"auc", "ece", "brier"}
