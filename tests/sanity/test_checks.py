import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterscan.core import Card, Target
from counterscan.metrics.intervals import Estimate
from counterscan.sanity.checks import ENOUGH, FAILS, PASSES, UNCLEAR, Check, decide, missed

CARD = Card(name="chest", shape=(1, 8, 8), classes=("effusion", "nodule", "mass"))


@pytest.mark.parametrize(
    ("low", "high", "n", "verdict"),
    [(0.6, 0.8, 20, FAILS), (0.1, 0.3, 20, PASSES), (0.4, 0.8, 20, UNCLEAR), (0.6, 0.8, ENOUGH - 1, UNCLEAR)],
)
def test_a_verdict_needs_the_whole_interval_on_one_side(low, high, n, verdict):
    assert decide(Estimate((low + high) / 2, low, high, n), 0.5) == verdict


def test_nothing_measured_is_no_verdict():
    nan = float("nan")
    assert decide(Estimate(nan, nan, nan, 0), 0.5) == UNCLEAR


@given(st.floats(-2, 2), st.floats(0, 1), st.floats(-2, 2))
def test_a_larger_value_never_turns_a_failure_into_a_pass(value, width, threshold):
    order = [PASSES, UNCLEAR, FAILS]
    first = decide(Estimate(value, value - width, value + width, 20), threshold)
    later = decide(Estimate(value + 1, value + 1 - width, value + 1 + width, 20), threshold)
    assert order.index(later) >= order.index(first)


def test_the_number_is_told_with_interval_and_threshold():
    check = Check("a", "Is it?", FAILS, "It is.", "AUC", Estimate(0.91, 0.85, 0.96, 50), 0.75)
    assert check.number == "AUC 0.91 (0.85 to 0.96), fails above 0.75"
    assert check.to_dict()["value"] == {"value": 0.91, "low": 0.85, "high": 0.96, "n": 50}
    assert Check("a", "Is it?", UNCLEAR, "No images.").number == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [("effusion=0", "effusion"), ("effusion=1,nodule=0", "not effusion or nodule"), ("normal", "any finding")],
)
def test_what_misses_a_target_is_said_in_words(text, words):
    assert missed(Target.parse(text, CARD), CARD) == words
