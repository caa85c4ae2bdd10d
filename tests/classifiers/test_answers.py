import math

import pytest
import torch

from counterscan.classifiers.answers import check_card, prepare, to_log_odds
from counterscan.core import Card
from counterscan.errors import ClassifierError


def card(**changes) -> Card:
    facts = {"name": "toy", "shape": (1, 8, 8), "classes": ("a", "b"), "output": "softmax"}
    return Card(**{**facts, **changes})


def test_binary_softmax_and_multilabel_give_the_same_probabilities():
    logit = torch.tensor([-3.0, 0.0, 2.5])
    binary = to_log_odds(logit, card(output="binary"), 3)
    softmax = to_log_odds(torch.stack([torch.zeros(3), logit], 1), card(), 3)
    multilabel = to_log_odds(torch.stack([-logit, logit], 1), card(output="multilabel"), 3)
    torch.testing.assert_close(binary, softmax)
    torch.testing.assert_close(binary, multilabel)
    torch.testing.assert_close(binary[:, 1].sigmoid(), logit.sigmoid())


def test_one_binary_class_is_one_log_odds():
    one = card(classes=("a",), output="binary")
    assert to_log_odds(torch.tensor([[1.5], [-1.0]]), one, 2).tolist() == [[1.5], [-1.0]]
    assert to_log_odds(torch.tensor([1.5, -1.0]), one, 2).tolist() == [[1.5], [-1.0]]


def test_softmax_log_odds_are_those_of_its_probabilities():
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)) * 3
    answer = to_log_odds(logits, card(classes=("a", "b", "c", "d")), 5)
    torch.testing.assert_close(answer.sigmoid(), logits.softmax(1))


def test_softmax_stays_exact_and_differentiable_where_probabilities_saturate():
    logits = torch.tensor([[200.0, 0.0, -1.0]], requires_grad=True)
    answer = to_log_odds(logits, card(classes=("a", "b", "c")), 1)
    assert answer[0, 0].item() == pytest.approx(200 - math.log(1 + math.exp(-1)), abs=1e-4)
    (gradient,) = torch.autograd.grad(answer[0, 0], logits)
    assert gradient[0, 0] == 1
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("output", ["multilabel", "softmax"])
def test_probabilities_become_their_logits_and_saturated_ones_stay_finite(output):
    p = torch.tensor([[0.25, 0.75], [0.0, 1.0]])
    answer = to_log_odds(p, card(output=output, scale="probabilities"), 2)
    assert answer[0].tolist() == pytest.approx([-math.log(3), math.log(3)], abs=1e-5)
    assert torch.isfinite(answer).all()
    assert answer[1, 1] > 13


def test_binary_probability():
    answer = to_log_odds(torch.tensor([[0.8]]), card(output="binary", scale="probabilities"), 1)
    assert answer[0].tolist() == pytest.approx([-math.log(4), math.log(4)], abs=1e-5)


@pytest.mark.parametrize(
    ("answers", "changes", "words"),
    [
        (torch.zeros(2, 3), {}, r"answered \(2, 3\) for 2 images.*promises \(2, 2\)"),
        (torch.zeros(2), {}, r"promises \(2, 2\)"),
        (torch.zeros(3, 2), {}, r"for 2 images"),
        (torch.zeros(2, 2, 1), {}, r"promises"),
        (torch.zeros(2, 2), {"output": "binary"}, r"promises \(2, 1\)"),
        (torch.tensor([[0.0, 1.0], [torch.nan, 0.0]]), {}, r"NaN or infinity for 1 of 2 images \(first: number 1\)"),
        (torch.tensor([[0.0, torch.inf], [1.0, 0.0]]), {}, r"NaN or infinity"),
        ((torch.zeros(2, 2),), {}, r"answered a tuple"),
        (torch.tensor([[2.0, -1.0], [0.0, 0.0]]), {"scale": "probabilities"}, r"say scale='logits'"),
        (torch.tensor([[0.9, 0.9], [0.1, 0.9]]), {"scale": "probabilities"}, r"say output='multilabel'"),
    ],
)
def test_answers_that_do_not_fit_the_card_are_refused_in_one_line(answers, changes, words):
    with pytest.raises(ClassifierError, match=words) as caught:
        to_log_odds(answers, card(**changes), 2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"output": "binary", "classes": ("a", "b", "c")}, "binary is for 1 or 2 classes"),
        ({"classes": ("a",)}, "softmax needs at least 2"),
        ({"classes": ("a", "a")}, "different names"),
        ({"classes": ()}, "needs classes"),
        ({"mean": (0.0, 0.0)}, "mean needs 1 or 1 values"),
        ({"std": (0.0,)}, "std must be positive"),
    ],
)
def test_cards_that_no_answer_can_fit_are_refused(changes, words):
    with pytest.raises(ClassifierError, match=words):
        check_card(card(**changes))


def test_prepare_normalises_each_channel_in_two_and_three_dimensions():
    images = torch.rand(2, 2, 4, 5)
    flat = card(shape=(2, 4, 5), mean=(0.5, 0.0), std=(0.5, 2.0))
    torch.testing.assert_close(prepare(images, flat), torch.stack([images[:, 0] * 2 - 1, images[:, 1] / 2], 1))
    volume = card(shape=(1, 4, 5, 6), mean=(0.5,), std=(0.5,))
    torch.testing.assert_close(prepare(torch.ones(1, 1, 4, 5, 6), volume), torch.ones(1, 1, 4, 5, 6))


def test_prepare_refuses_another_shape_and_names_the_cure():
    with pytest.raises(ClassifierError, match=r"takes images \(b, 1, 8, 8\), got \(2, 3, 8, 8\); Fitted"):
        prepare(torch.zeros(2, 3, 8, 8), card())


def test_half_precision_answers_come_back_in_float32():
    answer = to_log_odds(torch.tensor([[0.0, 1.0]], dtype=torch.bfloat16), card(), 1)
    assert answer.dtype == torch.float32
    torch.testing.assert_close(answer, torch.tensor([[-1.0, 1.0]]))
