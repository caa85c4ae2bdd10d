import pytest
import torch
from torch import nn

from counterscan.classifiers.randomised import randomised, weight_groups
from counterscan.classifiers.torch import TorchClassifier
from counterscan.classifiers.wrappers import BlackBox, Fitted
from counterscan.core import Card
from counterscan.errors import NeedsGradients

CARD = Card(name="small", shape=(1, 16, 16), classes=("sick",))
IMAGES = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    body = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()]
    return TorchClassifier(nn.Sequential(*body, nn.Flatten(), nn.Linear(576, 1)), CARD)


def test_groups_go_from_the_answer_back_and_hold_every_layer_once(classifier):
    groups = weight_groups(classifier)
    assert groups[0] == ("6",)
    assert [name for group in groups for name in group] == ["6", "3", "1", "0"]
    assert len(weight_groups(classifier, 2)) == 2


def test_weights_are_drawn_anew_inside_and_as_before_after(classifier):
    before = {name: value.clone() for name, value in classifier.module.state_dict().items()}
    answer = classifier(IMAGES)
    with randomised(classifier, ("6",)) as other:
        assert not torch.allclose(other(IMAGES), answer)
        head = classifier.module[6].weight
        assert float(head.detach().std()) == pytest.approx(float(before["6.weight"].std()), rel=0.2)
        assert torch.equal(classifier.module[3].weight, before["3.weight"])
    assert all(torch.equal(value, before[name]) for name, value in classifier.module.state_dict().items())


def test_an_error_inside_leaves_the_weights_as_before(classifier):
    answer = classifier(IMAGES)
    with pytest.raises(KeyError), randomised(classifier, ("0", "6")):
        raise KeyError
    assert torch.equal(classifier(IMAGES), answer)


def test_the_seed_decides_and_wrappers_stay_in_force(classifier):
    fitted = Fitted(classifier, (1, 32, 32))
    larger = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))

    def answer(seed):
        with randomised(fitted, weight_groups(fitted)[0], seed) as other:
            return other(larger)

    assert torch.equal(answer(1), answer(1))
    assert not torch.allclose(answer(1), answer(2))


def test_tied_weights_come_back(classifier):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1)
            self.second.weight = self.first.weight

        def forward(self, images):
            return self.second(self.first(images)).mean((1, 2, 3))[:, None]

    tied = TorchClassifier(Tied(), CARD)
    answer = tied(IMAGES)
    with randomised(tied, ("first", "second")):
        pass
    assert torch.equal(tied(IMAGES), answer)


def test_what_holds_no_weights_says_so(classifier):
    with pytest.raises(NeedsGradients, match="black box"):
        weight_groups(BlackBox(classifier))
    with pytest.raises(NeedsGradients, match="no weights"):
        weight_groups(TorchClassifier(nn.Flatten(), CARD))
