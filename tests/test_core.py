import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from counterscan.core import Card, Target
from counterscan.errors import TargetError

GRADES = Card(name="grades", shape=(1, 8, 8), classes=("none", "mild", "severe"), output="softmax", normal="none")
FINDINGS = GRADES.model_copy(update={"name": "findings", "output": "multilabel", "normal": None})


@given(st.dictionaries(st.sampled_from(FINDINGS.classes), st.sampled_from([0.0, 0.25, 1.0]), min_size=1))
def test_a_target_reads_what_it_writes(asked):
    target = Target(tuple((FINDINGS.index(name), p) for name, p in asked.items()))
    assert Target.parse(target.describe(FINDINGS), FINDINGS) == target


def test_normal_is_the_normal_class_or_the_absence_of_all_findings():
    assert Target.parse("normal", GRADES).wanted == ((0, 1.0),)
    assert Target.parse("normal", FINDINGS).wanted == ((0, 0.0), (1, 0.0), (2, 0.0))


@pytest.mark.parametrize("text", ["mild=1,severe=1", "mild=0.8,severe=0.4", "none=0,mild=0,severe=0"])
def test_exclusive_classes_cannot_be_asked_for_what_does_not_sum_to_one(text):
    with pytest.raises(TargetError, match="ask for one class"):
        Target.parse(text, GRADES)
    Target.parse(text, FINDINGS)


@pytest.mark.parametrize("text", ["mild=1", "mild=0,severe=0", "mild=0.3,severe=0.7", "severe=0.2"])
def test_exclusive_classes_may_be_asked_for_what_can_be(text):
    assert Target.parse(text, GRADES).describe(GRADES) == text


def test_a_target_is_reached_when_the_class_that_lags_most_is_there():
    target = Target.parse("mild=1,severe=0", FINDINGS)
    answers = torch.tensor([[0.0, 2.0, -1.0], [0.0, 2.0, 1.0], [0.0, -0.1, -1.0]])
    assert target.reached(answers).tolist() == [True, False, False]
    assert target.score(answers).tolist() == pytest.approx([1.0, -1.0, -0.1])
