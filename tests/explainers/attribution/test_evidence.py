import pytest
import torch
from torch import nn

from counterscan.classifiers.torch import TorchClassifier
from counterscan.core import Card, Target
from counterscan.errors import ClassifierError
from counterscan.explainers.attribution.evidence import activations_and_gradients, evidence_against

CARD = Card(name="toy", shape=(1, 16, 16), classes=("a", "b"))


@pytest.mark.parametrize(
    ("text", "evidence"),
    [("a=0", 2.0), ("a=1", -2.0), ("a=0,b=0", 2.0), ("a=0,b=1", 3.0), ("a=1,b=0", -3.0), ("normal", 2.0)],
)
def test_evidence_is_summed_over_what_is_not_as_asked_or_over_all(text, evidence):
    answer = evidence_against(Target.parse(text, CARD), torch.tensor([[2.0, -1.0]]))
    assert answer.tolist() == pytest.approx([evidence])


@pytest.mark.parametrize(("log_odds", "sign"), [(2.0, 1.0), (-2.0, -1.0)])
def test_a_probability_in_between_counts_by_the_side_it_is_missed_on(log_odds, sign):
    answer = torch.tensor([[log_odds, 0.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(evidence_against(Target(((0, 0.5),)), answer).sum(), answer)
    assert gradient.tolist() == [[sign, 0.0]]


def test_a_layer_without_a_part_in_the_answer_says_so():
    class Aside(nn.Module):
        def __init__(self):
            super().__init__()
            self.aside, self.main = nn.Conv2d(1, 2, 3), nn.Conv2d(1, 2, 3)

        def forward(self, x):
            self.aside(x)
            return self.main(x).mean((2, 3))

    with pytest.raises(ClassifierError, match="'aside' has no part in the answer"):
        activations_and_gradients(
            TorchClassifier(Aside(), CARD), torch.zeros(1, 1, 16, 16), Target.parse("a=0", CARD), "aside"
        )
