import pytest
import torch
from torch import nn

from counterscan.classifiers.torch import TorchClassifier
from counterscan.classifiers.wrappers import BlackBox, Fitted
from counterscan.core import Card, Target
from counterscan.errors import ClassifierError, CounterscanError, NeedsGradients
from counterscan.explainers.attribution.gradient import Gradient

CARD = Card(name="linear", shape=(2, 8, 10), classes=("lesion",), output="binary")
IMAGES = torch.rand(3, 2, 8, 10, generator=torch.Generator().manual_seed(1)) * 2 - 1
TARGET = Target.parse("lesion=0", CARD)


@pytest.fixture
def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(160, 1))


def weights(module: nn.Module) -> torch.Tensor:
    return module[-1].weight.detach().reshape(1, 2, 8, 10)


@pytest.mark.parametrize(("text", "sign"), [("lesion=0", 1.0), ("lesion=1", -1.0)])
def test_a_linear_model_has_its_weights(module, text, sign):
    classifier, target = TorchClassifier(module, CARD), Target.parse(text, CARD)
    w = sign * weights(module)
    every = (3, 1, 8, 10)
    absolute = Gradient()(classifier, IMAGES, target).heatmap
    torch.testing.assert_close(absolute, w.abs().amax(1, keepdim=True).expand(every))
    signed = Gradient(absolute=False).run(classifier, IMAGES, target)
    torch.testing.assert_close(signed, w.sum(1, keepdim=True).expand(every))
    times = Gradient(absolute=False, times_input=True, fill=-0.5).run(classifier, IMAGES, target)
    torch.testing.assert_close(times, (w * (IMAGES + 0.5)).sum(1, keepdim=True))


def test_negative_parts_are_cut_at_the_door(module):
    explainer = Gradient(absolute=False)
    signed = explainer.run(TorchClassifier(module, CARD), IMAGES, TARGET)
    heatmap = explainer(TorchClassifier(module, CARD), IMAGES, TARGET).heatmap
    assert signed.min() < 0
    assert torch.equal(heatmap, signed.clamp_min(0))


def test_several_classes_are_summed_where_they_are_missed():
    """An image with one class as asked has the gradient of the other alone."""
    card = Card(name="two", shape=(1, 4, 4), classes=("a", "b"))
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with torch.no_grad():
        module[1].weight.copy_(torch.stack([torch.full((16,), 1.0), torch.full((16,), 2.0)]))
        module[1].bias.copy_(torch.tensor([5.0, -5.0]))
    heatmap = Gradient()(TorchClassifier(module, card), torch.zeros(1, 1, 4, 4), Target.parse("normal", card)).heatmap
    assert heatmap.unique().tolist() == [1.0]


def test_frozen_parameters_no_grad_and_volumes():
    card = Card(name="3d", shape=(1, 6, 8, 10), classes=("lesion",))
    module = nn.Sequential(nn.Conv3d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.LazyLinear(1))
    images = torch.rand(2, 1, 6, 8, 10)
    module(images)
    free = Gradient()(TorchClassifier(module, card), images, TARGET).heatmap
    module.requires_grad_(False)
    with torch.inference_mode():
        frozen = Gradient()(TorchClassifier(module, card), images.clone(), TARGET).heatmap
    assert free.shape == images.shape
    assert free.max() > 0
    torch.testing.assert_close(free, frozen.clone())


def test_a_map_has_the_size_of_the_image_not_of_the_classifier(module):
    explanation = Gradient()(Fitted(TorchClassifier(module, CARD), (2, 20, 24)), torch.rand(2, 2, 20, 24), TARGET)
    assert explanation.heatmap.shape == (2, 1, 20, 24)
    assert explanation.meta["queries"] == 4  # two for the answers before, two for the map


def test_the_module_keeps_its_gradients_hooks_and_modes(module):
    module.train()
    module[1].eval()  # frozen by its owner
    module[-1].weight.grad = torch.full((1, 160), 7.0)
    Gradient()(TorchClassifier(module, CARD), IMAGES, TARGET)
    assert module[-1].weight.grad.unique().tolist() == [7.0]
    assert module[-1].bias.grad is None
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert not any(part._forward_hooks or part._backward_hooks for part in module.modules())
    assert [part.training for part in module] == [True, False, True]


def test_what_it_cannot_explain(module):
    with pytest.raises(NeedsGradients, match="rise"):
        Gradient()(BlackBox(TorchClassifier(module, CARD)), IMAGES, TARGET)

    class Cut(nn.Module):
        def forward(self, x):
            return x.detach().mean((1, 2, 3))[:, None]

    with pytest.raises(ClassifierError, match="no gradient leads from the answer"):
        Gradient()(TorchClassifier(Cut(), CARD), IMAGES, TARGET)
    with pytest.raises(CounterscanError, match="fill"):
        Gradient(fill="grey")
