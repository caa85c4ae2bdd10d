import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from counterscan.core import Card, Explanation, Target
from counterscan.errors import ScanError, TargetError

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


@pytest.fixture
def explanation(tmp_path):
    """The folder of an explanation of two images."""
    images, answers = torch.zeros(2, 1, 8, 8), torch.zeros(2, 3)
    heat, found = torch.ones(2, 1, 8, 8), torch.tensor([True, False])
    made = Explanation(images, Target(((1, 0.0),)), heat, answers, found, meta={"seed": 1})
    return made.save(tmp_path / "case")


def test_an_explanation_is_read_as_it_was_written(explanation):
    again = Explanation.load(explanation)
    assert again.images.shape == (2, 1, 8, 8)
    assert (again.target, dict(again.meta)) == (Target(((1, 0.0),)), {"seed": 1})


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("explanation.json", b'"target"', b'"tarte"'),
        ("explanation.json", b'"meta": {', b'"meta": [{'),
        ("explanation.json", b"1,", b"7,"),
        ("explanation.json", b"{", b"\xff"),
        ("explanation.safetensors", b"F32", b"F99"),
        ("explanation.safetensors", b"found", b"fou\xffd"),
        ("explanation.safetensors", b"[2,3]", b"[3,2]"),
    ],
)
def test_a_damaged_explanation_is_refused_in_one_line(explanation, file, old, new):
    content = (explanation / file).read_bytes()
    assert old in content
    (explanation / file).write_bytes(content.replace(old, new, 1))
    with pytest.raises(ScanError, match=r"explanation\.\w+ is damaged") as error:
        Explanation.load(explanation)
    assert "\n" not in str(error.value)
