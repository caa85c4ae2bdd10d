import json

import numpy as np
import pytest

from counterscan.metrics.intervals import Estimate, bootstrap, paired


def test_mean_and_interval_of_independent_values():
    values = np.random.default_rng(0).normal(3, 1, 400)
    estimate = bootstrap(values)
    error = values.std() / 20
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.low == pytest.approx(values.mean() - 1.96 * error, abs=0.02)
    assert estimate.high == pytest.approx(values.mean() + 1.96 * error, abs=0.02)
    assert estimate.n == 400


def test_images_of_one_patient_are_not_independent():
    per_patient = np.random.default_rng(0).normal(size=20)
    values, patients = np.repeat(per_patient, 50), np.repeat([f"p{i}" for i in range(20)], 50)
    by_image, by_patient = bootstrap(values), bootstrap(values, patients)
    assert by_patient.value == pytest.approx(by_image.value)
    assert by_patient.high - by_patient.low > 5 * (by_image.high - by_image.low)


def test_undefined_values_are_left_out_and_n_says_so():
    estimate = bootstrap([1.0, np.nan, 0.0, np.nan], ["a", "b", "c", "d"])
    assert (estimate.value, estimate.n) == (0.5, 2)
    nothing = bootstrap([np.nan])
    assert nothing.to_dict() == {"value": None, "low": None, "high": None, "n": 0}
    assert str(nothing) == "not defined"


def test_blank_patients_stand_for_themselves():
    values = np.random.default_rng(0).normal(size=100)
    blank, named = bootstrap(values, [""] * 100), bootstrap(values, [str(i) for i in range(100)])
    assert blank.high - blank.low == pytest.approx(named.high - named.low, rel=0.1)


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(0).normal(size=50)
    assert bootstrap(values) == bootstrap(values)
    assert bootstrap(values) != bootstrap(values, seed=1)


def test_paired_difference_sees_what_two_intervals_hide():
    generator = np.random.default_rng(0)
    hard = generator.normal(0.5, 0.2, 200)
    better, worse = hard + 0.02, hard + generator.normal(0, 0.02, 200)
    difference = paired(better, worse)
    assert difference.low > 0
    assert bootstrap(better).low < bootstrap(worse).high


def test_paired_takes_images_where_both_are_defined():
    assert paired([1.0, np.nan, 3.0], [0.0, 1.0, np.nan]).n == 1


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    generator = np.random.default_rng(0)
    covered = [e.low <= 1 <= e.high for e in (bootstrap(generator.normal(1, 1, 60), draws=400) for _ in range(200))]
    assert 0.88 <= np.mean(covered) <= 0.99


def test_dict_has_four_digits_and_is_json():
    text = json.dumps(Estimate(0.123456, float("nan"), 1234.56, 3).to_dict())
    assert json.loads(text) == {"value": 0.1235, "low": None, "high": 1235.0, "n": 3}


def test_many_patients_need_no_large_matrix():
    assert bootstrap(np.ones(30_000), draws=200).low == 1
