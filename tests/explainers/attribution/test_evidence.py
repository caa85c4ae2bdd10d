import pytest
import torch
from torch import nn

from counterscan.classifiers.torch import TorchClassifier
from counterscan.classifiers.wrappers import BlackBox, Counting
from counterscan.core import Card, Target
from counterscan.errors import ClassifierError
from counterscan.explainers.attribution.evidence import activations_and_gradients, asker, evidence_against

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


class Seen(nn.Module):
    """Keeps how its images lie in memory; `flat` is a network that cannot take them channels last."""

    def __init__(self, flat: bool, channels: int):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head, self.flat, self.last = nn.Conv2d(channels, 3, 3), nn.Linear(588, 2), flat, []

    def forward(self, x):
        self.last.append(x.stride(1) == 1)
        x = self.conv(x)
        return self.head(x.view(len(x), -1) if self.flat else x.flatten(1))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("flat", [False, True])
def test_images_reach_a_torch_module_channels_last_unless_it_cannot_take_them_so(flat, channels):
    card = CARD.model_copy(update={"shape": (channels, 16, 16)})
    module = Seen(flat, channels)
    counted = Counting(TorchClassifier(module, card))
    images = torch.rand(4, channels, 16, 16)
    ask = asker(counted)
    module.last.clear()
    found = ask(images)
    assert module.last == [not flat]
    assert counted.queries == 4, "to try the layout is no query"
    assert not found.requires_grad
    torch.testing.assert_close(found, counted(images).detach(), rtol=1e-5, atol=1e-6)


def test_black_boxes_get_their_images_as_they_are_and_bfloat16_comes_back_as_float32():
    module, images = Seen(False, 1), torch.rand(4, 1, 16, 16)
    exact = asker(BlackBox(TorchClassifier(module, CARD)))(images)
    assert module.last == [False]
    rough = asker(TorchClassifier(module, CARD), bfloat16=True)(images)
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.02)
