import json

import numpy as np
import pytest
import torch

from counterscan.classifiers.function import FunctionClassifier
from counterscan.classifiers.load import load_classifier
from counterscan.classifiers.tempered import Tempered, fit_temperature
from counterscan.core import Card
from counterscan.errors import ClassifierError

DRAWS = torch.Generator().manual_seed(0)


def classifier(answers: torch.Tensor, output: str, **words) -> FunctionClassifier:
    names = ("a", "b", "c")[: 2 if output == "binary" else answers.shape[1]]
    card = Card(name="toy", shape=(1, 2, 2), classes=names, output=output, **words)
    return FunctionClassifier(lambda pixels: answers.numpy(), card)


LOGITS = torch.randn(4, 3, generator=DRAWS) * 3
BLANK = torch.zeros(4, 1, 2, 2)


@pytest.mark.parametrize(
    ("output", "answers", "temperature"),
    [
        ("multilabel", LOGITS, 2.0),
        ("multilabel", LOGITS, (0.5, 1, 4)),
        ("softmax", LOGITS, 2.5),
        ("binary", LOGITS[:, :1], 3.0),
    ],
)
def test_it_is_what_the_module_would_answer_with_divided_logits_by_wrapper_and_by_card(output, answers, temperature):
    divided = classifier(answers / torch.tensor(temperature), output)(BLANK)
    wrapped = Tempered(classifier(answers, output), temperature)
    torch.testing.assert_close(wrapped(BLANK), divided, rtol=1e-4, atol=1e-4)
    by_card = FunctionClassifier(lambda pixels: answers.numpy(), wrapped.card)
    torch.testing.assert_close(by_card(BLANK), divided, rtol=1e-4, atol=1e-4)
    twice = Tempered(by_card, 2.0)
    assert twice.card.temperature == pytest.approx([2 * value for value in wrapped.temperature])
    torch.testing.assert_close(
        FunctionClassifier(lambda pixels: answers.numpy(), twice.card)(BLANK), twice(BLANK), rtol=1e-4, atol=1e-4
    )


def test_a_card_in_a_file_may_hold_it(tmp_path, monkeypatch):
    (tmp_path / "warm_for_test.py").write_text("def ask(pixels): return pixels[:, 0, 0]")
    card = {"name": "w", "shape": [1, 2, 2], "classes": ["a", "b"], "temperature": [2, 4]}
    (tmp_path / "card.json").write_text(json.dumps(card))
    monkeypatch.chdir(tmp_path)
    asked = load_classifier("warm_for_test:ask", "card.json")
    torch.testing.assert_close(asked(torch.ones(1, 1, 2, 2)), torch.tensor([[0.5, 0.25]]))


@pytest.mark.parametrize(
    ("output", "temperature", "words"),
    [
        ("softmax", (1.0, 2.0, 3.0), r"temperature needs 1 value \(softmax\), got 3"),
        ("multilabel", (1.0, 2.0), r"temperature needs 1 or 3 values \(multilabel\), got 2"),
        ("multilabel", 0.0, "must be positive"),
        ("multilabel", (1.0, float("nan"), 1.0), "must be positive"),
    ],
)
def test_temperatures_that_do_not_fit_are_refused(output, temperature, words):
    with pytest.raises(ClassifierError, match=words):
        Tempered(classifier(LOGITS, output), temperature)
    given = (temperature,) if isinstance(temperature, float) else temperature
    with pytest.raises(ClassifierError, match=words):
        classifier(LOGITS, output, temperature=given)


def test_fitting_finds_the_temperature_of_each_class():
    truth = torch.randn(20000, 2, generator=DRAWS) * 2
    labels = (torch.rand(truth.shape, generator=DRAWS) < truth.sigmoid()).float()
    labels[torch.rand(truth.shape, generator=DRAWS) < 0.3] = float("nan")
    assert fit_temperature(truth * torch.tensor([3.0, 0.5]), labels) == pytest.approx((3.0, 0.5), rel=0.05)


@pytest.mark.parametrize("output", ["softmax", "binary"])
def test_fitting_finds_the_one_temperature_of_classes_that_exclude_one_another(output):
    truth = torch.randn(20000, 3 if output == "softmax" else 1, generator=DRAWS) * 2
    logits = truth if output == "softmax" else torch.cat([torch.zeros_like(truth), truth], 1)
    labels = torch.multinomial(logits.softmax(1), 1, generator=DRAWS)[:, 0]
    images = torch.zeros(len(truth), 1, 2, 2)
    (found,) = fit_temperature(classifier(truth * 4, output)(images), labels)
    assert found == pytest.approx(4, rel=0.05)


def test_fitting_never_makes_the_likelihood_worse():
    log_odds = torch.randn(50, 1, generator=DRAWS) * 9
    labels = (torch.rand(50, generator=DRAWS) < (log_odds[:, 0] / 5).sigmoid()).long()
    loss = torch.nn.functional.binary_cross_entropy_with_logits
    (found,) = fit_temperature(log_odds, labels)
    before, after = (float(loss(log_odds[:, 0] / value, labels.float())) for value in (1.0, found))
    assert after < before


@pytest.mark.parametrize(
    "labels", [[[1.0], [0.0], [1.0], [0.0]], [[1.0]] * 4, [[float("nan")]] * 4], ids=["no mistake", "one kind", "none"]
)
def test_what_teaches_nothing_stays_1_and_says_so(labels):
    log_odds = torch.tensor([[2.0], [-3.0], [1.0], [-1.0]])
    with pytest.warns(UserWarning, match="no temperature can be learnt for class 0"):
        assert fit_temperature(log_odds, torch.tensor(labels)) == (1.0,)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (torch.zeros(3), "do not fit log-odds"),
        (torch.zeros(4, 2), "do not fit log-odds"),
        (torch.full((4,), 3), "whole numbers from 0 to 2"),
        (torch.full((4, 3), 0.5), "whole numbers from 0 to 1"),
        (torch.tensor([0, 1, 2, np.nan]), "whole numbers from 0 to 2"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, words):
    with pytest.raises(ClassifierError, match=words):
        fit_temperature(LOGITS, labels)
