import pytest
import torch
from torch import nn
from torch.nn import functional as F

from counterscan.classifiers.torch import TorchClassifier
from counterscan.classifiers.wrappers import BlackBox
from counterscan.core import Card, Target
from counterscan.errors import ClassifierError, NeedsGradients
from counterscan.explainers.attribution.layer_cam import LayerCAM

CARD = Card(name="toy", shape=(1, 24, 24), classes=("normal", "bright"), output="binary", normal="normal")
IMAGES = torch.rand(3, 1, 24, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture
def module():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 8, 3, padding=1), nn.Tanh(), nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(32, 1)),
    ).eval()


@pytest.mark.parametrize("layer", [0, 1, 4])
def test_it_is_the_paper_s_formula(module, layer):
    """Against gradients from a full hook on the untouched network (the library cuts the graph at the layer)."""
    seen = {}
    plain = nn.Sequential(*[nn.ReLU() if isinstance(part, nn.ReLU) else part for part in module])
    handle = plain[layer].register_forward_hook(lambda _m, _i, out: (out.retain_grad(), seen.update(a=out))[0])
    plain(IMAGES).sum().backward()
    handle.remove()
    truth = (seen["a"] * seen["a"].grad.clamp_min(0)).sum(1, keepdim=True).clamp_min(0).detach()
    truth = F.interpolate(truth, (24, 24), mode="bilinear", align_corners=False)

    explanation = LayerCAM(str(layer))(TorchClassifier(module, CARD), IMAGES, Target.parse("normal", CARD))
    assert truth.max() > 0
    # the answer is (-l, l), and for the class `normal` to be 1 the evidence against it is l
    torch.testing.assert_close(explanation.heatmap, truth, rtol=1e-4, atol=1e-6)


def test_it_finds_what_the_classifier_looks_at():
    """A classifier that answers with the brightest place, and an image with one bright place."""
    module = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten())
    nn.init.constant_(module[0].weight, 1 / 9)
    nn.init.zeros_(module[0].bias)
    images = torch.full((1, 1, 24, 24), -1.0)
    images[..., 6:10, 14:18] = 1
    heatmap = LayerCAM("24")(TorchClassifier(module, CARD), images, Target.parse("normal", CARD)).heatmap
    row, column = divmod(int(heatmap.argmax()), 24)
    assert 6 <= row < 10
    assert 14 <= column < 18
    assert (heatmap > 0).float().mean() < 0.01


def test_it_does_not_depend_on_the_batch(module):
    classifier, target = TorchClassifier(module, CARD), Target.parse("bright=0", CARD)
    together = LayerCAM()(classifier, IMAGES, target).heatmap
    alone = torch.cat([LayerCAM()(classifier, image[None], target).heatmap for image in IMAGES])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)


def test_what_it_cannot_explain(module):
    classifier, target = TorchClassifier(module, CARD), Target.parse("bright=0", CARD)
    with pytest.raises(NeedsGradients):
        LayerCAM()(BlackBox(classifier), IMAGES, target)
    with pytest.raises(ClassifierError, match=r"no layer '25'; did you mean|no layer '25' \(known"):
        LayerCAM("25")(classifier, IMAGES, target)
