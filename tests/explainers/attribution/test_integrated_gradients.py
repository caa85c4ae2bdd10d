import pytest
import torch
from torch import nn

from counterscan.classifiers.torch import TorchClassifier
from counterscan.classifiers.wrappers import BlackBox
from counterscan.core import Card, Target
from counterscan.errors import CounterscanError, NeedsGradients
from counterscan.explainers.attribution.evidence import ask_counted, ask_evidence
from counterscan.explainers.attribution.integrated_gradients import IntegratedGradients
from counterscan.explainers.attribution.substrate import substrate

CARD = Card(name="toy", shape=(2, 12, 12), classes=("a", "b"))
IMAGES = torch.rand(3, 2, 12, 12, generator=torch.Generator().manual_seed(1)) * 2 - 1


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.Tanh(), nn.Flatten(), nn.Linear(384, 2))


@pytest.mark.parametrize("baseline", [None, "border", "mean", "blur", 0.0, -1])
@pytest.mark.parametrize("text", ["a=0", "b=1", "normal", "a=0,b=1"])
def test_it_is_complete(baseline, text):
    """The map's sum is the evidence in the image minus that in the baseline, for several classes too."""
    module, target = network(), Target.parse(text, CARD)
    with torch.no_grad():
        module[-1].weight.mul_(8)  # so that classes cross one half on the way
    classifier = TorchClassifier(module, CARD)
    counted = ask_counted(classifier, IMAGES, target)
    ends = [ask_evidence(classifier, x, target, counted) for x in (IMAGES, substrate(IMAGES, baseline))]
    total = IntegratedGradients(baseline=baseline, steps=200).run(classifier, IMAGES, target).sum((1, 2, 3))
    assert (ends[0] - ends[1]).abs().min() > 0.01
    torch.testing.assert_close(total, ends[0] - ends[1], rtol=0.01, atol=0.02)


def test_a_linear_model_has_weights_times_the_change_in_one_step():
    card = CARD.model_copy(update={"classes": ("a",), "output": "binary"})
    module = nn.Sequential(nn.Flatten(), nn.Linear(288, 1))
    w = module[1].weight.detach().reshape(1, 2, 12, 12)
    found = IntegratedGradients(baseline=-0.5, steps=1).run(
        TorchClassifier(module, card), IMAGES, Target.parse("a=0", card)
    )
    torch.testing.assert_close(found, (w * (IMAGES + 0.5)).sum(1, keepdim=True))


def test_the_middle_of_each_step_is_exact_for_a_square():
    """For sum x^2 every path integral is x^2 - baseline^2, and its gradient is linear along the path."""

    class Square(nn.Module):
        def forward(self, x):
            return x.square().flatten(1).sum(1, keepdim=True).expand(-1, 2)

    found = IntegratedGradients(baseline=0.5, steps=3).run(
        TorchClassifier(Square(), CARD), IMAGES, Target.parse("a=0", CARD)
    )
    torch.testing.assert_close(found, (IMAGES**2 - 0.25).sum(1, keepdim=True), rtol=1e-4, atol=1e-5)


def test_neither_batch_matters_and_memory_is_flat_in_steps():
    sizes: list[int] = []
    module, target = network(), Target.parse("a=0", CARD)
    module[0].register_forward_hook(lambda _module, inputs, _out: sizes.append(len(inputs[0])))
    classifier = TorchClassifier(module, CARD)
    together = IntegratedGradients(steps=30, batch=7)(classifier, IMAGES, target)
    assert max(sizes) == 7
    assert together.meta["queries"] == 3 + 3 * 30
    alone = [IntegratedGradients(steps=30)(classifier, x[None], target).heatmap for x in IMAGES]
    torch.testing.assert_close(together.heatmap, torch.cat(alone), rtol=1e-4, atol=1e-6)
    assert all(parameter.grad is None for parameter in module.parameters())


def test_volumes_and_frozen_parameters():
    card = Card(name="3d", shape=(1, 4, 5, 6), classes=("a",), output="binary")
    module = nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 1)).requires_grad_(False)
    explainer = IntegratedGradients(baseline="blur", steps=4)
    found = explainer(TorchClassifier(module, card), torch.rand(2, 1, 4, 5, 6), Target.parse("a=0", card))
    assert found.heatmap.shape == (2, 1, 4, 5, 6)


def test_black_boxes_and_wrong_settings_are_refused():
    with pytest.raises(NeedsGradients, match="rise"):
        IntegratedGradients()(BlackBox(TorchClassifier(network(), CARD)), IMAGES, Target.parse("a=0", CARD))
    for wrong in ({"steps": 0}, {"batch": 0}, {"baseline": "black"}, {"baseline": 2.0}):
        with pytest.raises(CounterscanError, match="integrated-gradients"):
            IntegratedGradients(**wrong)
