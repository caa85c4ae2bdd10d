import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterscan.errors import CounterscanError
from counterscan.study.analysis.detection import chance, sensitivity_of, share_right

TASKS = [("real-or-synthetic", 1), ("forced-choice", 2), ("forced-choice", 4), ("odd-one-out", 3), ("odd-one-out", 5)]


@pytest.mark.parametrize(
    ("d", "shares"), [(1.0, (0.691, 0.760, 0.552, 0.418)), (0.5, (0.599, 0.638, 0.393, 0.356))]
)  # tables of Macmillan and Creelman (2005)
def test_shares_are_those_of_the_tables(d, shares):
    assert [share_right(d, *task) for task in TASKS[:4]] == pytest.approx(shares, abs=6e-4)


@pytest.mark.parametrize(("task", "pictures"), TASKS)
def test_shares_are_those_of_simulated_readers(task, pictures):
    x = np.random.default_rng(5).normal(size=(200_000, max(pictures, 1)))
    x[:, 0] += 1.3
    if task == "real-or-synthetic":
        right = x[:, 0] > 0.65
    elif task == "forced-choice":
        right = x.argmax(1) == 0
    else:
        right = np.abs(x - x.mean(1, keepdims=True)).argmax(1) == 0
    assert share_right(1.3, task, pictures) == pytest.approx(right.mean(), abs=0.005)


@pytest.mark.parametrize(("task", "pictures"), TASKS)
def test_no_sensitivity_is_chance(task, pictures):
    assert share_right(0, task, pictures) == pytest.approx(chance(task, pictures), abs=0.004)


@given(st.floats(0.3, 4), st.sampled_from(TASKS[:4]))
def test_there_and_back(d, task):
    assert sensitivity_of(share_right(d, *task), *task) == pytest.approx(d, abs=1e-3)


def test_beyond_what_a_task_can_tell():
    assert sensitivity_of(0.2, "odd-one-out", 3) == 0
    assert sensitivity_of(1.0, "forced-choice", 2) == 6
    assert sensitivity_of(0.4, "forced-choice", 2) < 0
    assert np.isnan(sensitivity_of(float("nan")))


def test_an_unknown_task_is_refused():
    with pytest.raises(CounterscanError, match="odd-one-out"):
        share_right(1.0, "odd-one")
