import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterscan.study.analysis.paired import holm


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_adjusted_values_are_larger_and_in_the_same_order(values):
    found = holm(values)
    assert all(value <= after <= 1 for value, after in zip(values, found, strict=True))
    assert sorted(found) == [after for _, after in sorted(zip(values, found, strict=True))]


def test_what_is_not_known_counts_for_nothing():
    assert holm([0.02, float("nan"), 0.5])[::2] == pytest.approx([0.04, 0.5])
