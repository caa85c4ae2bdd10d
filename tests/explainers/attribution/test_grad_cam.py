import pytest
import torch
from torch import nn
from torch.nn import functional as F

from counterscan.classifiers.torch import TorchClassifier
from counterscan.classifiers.wrappers import BlackBox, Fitted
from counterscan.core import Card, Target
from counterscan.errors import NeedsGradients
from counterscan.explainers.attribution.grad_cam import GradCAM

CARD = Card(name="toy", shape=(1, 32, 32), classes=("a", "b"))
IMAGES = torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


def network(conv=nn.Conv2d, pool=nn.MaxPool2d, gather=nn.AdaptiveAvgPool2d) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(conv(1, 6, 3, padding=1), nn.Tanh(), pool(2), conv(6, 8, 3, padding=1), nn.Tanh()),
        *(conv(8, 8, 3, padding=1), nn.ReLU(), gather(2), nn.Flatten(), nn.LazyLinear(2)),
    )


@pytest.fixture
def module():
    made = network()
    made(IMAGES)
    return made.eval()


def oracle(module: nn.Module, images: torch.Tensor, layer: int, index: int, sign: float) -> torch.Tensor:
    """Grad-CAM by hand, image by image: the network cut in two, weights by a loop over channels."""
    maps = []
    for image in images:
        a = module[: layer + 1](image[None]).detach().requires_grad_()
        (sign * module[layer + 1 :](a)[0, index]).backward()
        total = sum(a.grad[0, k].mean() * a[0, k] for k in range(a.shape[1]))
        maps.append(F.interpolate(total.relu()[None, None], images.shape[2:], mode="bilinear", align_corners=False))
    return torch.cat(maps).detach()


@pytest.mark.parametrize(("text", "index", "sign"), [("a=0", 0, 1.0), ("a=1", 0, -1.0), ("b=0", 1, 1.0)])
@pytest.mark.parametrize("layer", [1, 4])
def test_it_is_the_paper_s_formula(module, text, index, sign, layer):
    explanation = GradCAM(str(layer))(TorchClassifier(module, CARD), IMAGES, Target.parse(text, CARD))
    truth = oracle(module, IMAGES, layer, index, sign)
    assert truth.max() > 0
    torch.testing.assert_close(explanation.heatmap, truth, rtol=1e-4, atol=1e-6)


def test_it_does_not_depend_on_the_batch_nor_on_frozen_parameters(module):
    classifier, target = TorchClassifier(module, CARD), Target.parse("a=0", CARD)
    together = GradCAM()(classifier, IMAGES, target).heatmap
    module.requires_grad_(False)
    with torch.no_grad():
        alone = torch.cat([GradCAM()(classifier, image[None], target).heatmap for image in IMAGES])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)


def test_binary_softmax_and_multilabel_give_one_map(module):
    one = nn.Sequential(*module[:-1], nn.Linear(32, 1)).eval()
    two = nn.Sequential(*module[:-1], nn.Linear(32, 2)).eval()
    both = nn.Sequential(*module[:-1], nn.Linear(32, 2)).eval()
    with torch.no_grad():
        for head, low in ((two[-1], 0.0), (both[-1], -1.0)):
            head.weight.copy_(torch.cat([one[-1].weight * low, one[-1].weight]))
            head.bias.copy_(torch.cat([one[-1].bias * low, one[-1].bias]))
    maps = []
    for made, output in ((one, "binary"), (two, "softmax"), (both, "multilabel")):
        card = CARD.model_copy(update={"output": output})
        maps.append(GradCAM("4")(TorchClassifier(made, card), IMAGES, Target.parse("b=0", card)).heatmap)
    assert maps[0].max() > 0
    torch.testing.assert_close(maps[0], maps[1], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(maps[0], maps[2], rtol=1e-4, atol=1e-6)


def test_volumes():
    card = CARD.model_copy(update={"shape": (1, 16, 16, 16)})
    module = network(nn.Conv3d, nn.MaxPool3d, nn.AdaptiveAvgPool3d)
    images = torch.rand(2, 1, 16, 16, 16)
    module(images)
    explanation = GradCAM("4")(TorchClassifier(module, card), images, Target.parse("a=0", card))
    assert explanation.heatmap.shape == images.shape
    assert explanation.heatmap.max() > 0


def test_a_map_has_the_size_of_the_image_not_of_the_classifier(module):
    fitted = Fitted(TorchClassifier(module, CARD), (3, 20, 24))
    explanation = GradCAM()(fitted, torch.rand(2, 3, 20, 24), Target.parse("a=0", CARD))
    assert explanation.heatmap.shape == (2, 1, 20, 24)
    assert explanation.meta["queries"] == 2, "the answer before is the one that the map was made from"


def test_black_boxes_are_refused(module):
    with pytest.raises(NeedsGradients, match="rise"):
        GradCAM()(BlackBox(TorchClassifier(module, CARD)), IMAGES, Target.parse("a=0", CARD))


def test_the_module_keeps_its_gradients_and_hooks(module):
    module.train()
    GradCAM()(TorchClassifier(module, CARD), IMAGES, Target.parse("a=0", CARD))
    assert all(parameter.grad is None and parameter.requires_grad for parameter in module.parameters())
    assert not any(part._forward_hooks for part in module.modules())
    assert all(part.training for part in module.modules())
