import pytest
import torch
from torch import nn
from torch.nn import functional as F

from counterscan.classifiers.torch import TorchClassifier
from counterscan.classifiers.wrappers import BlackBox
from counterscan.core import Card, Target
from counterscan.errors import CounterscanError, NeedsGradients
from counterscan.explainers.attribution.score_cam import ScoreCAM

CARD = Card(name="toy", shape=(1, 24, 24), classes=("lesion",), output="binary")
TARGET = Target.parse("lesion=0", CARD)
IMAGES = torch.rand(3, 1, 24, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1


def network(channels: int = 6, conv=nn.Conv2d, pool=nn.MaxPool2d, gather=nn.AdaptiveMaxPool2d) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(conv(1, channels, 3, padding=1), nn.ReLU(inplace=True), pool(2)),
        *(gather(2), nn.Flatten(), nn.LazyLinear(1)),
    )


@pytest.fixture
def module():
    made = network()
    made(IMAGES)
    return made


def oracle(module: nn.Module, images: torch.Tensor, fill: float) -> torch.Tensor:
    """Score-CAM by hand, channel by channel, at the pooled layer."""
    maps = []
    for image in images:
        a = module[:3](image[None])[0]
        total = torch.zeros_like(a[0])
        for channel in a:
            up = F.interpolate(channel[None, None], (24, 24), mode="bilinear", align_corners=False)
            if up.max() == up.min():
                continue
            shown = fill + (image[None] - fill) * (up - up.min()) / (up.max() - up.min())
            total += (module(shown) - module(torch.full_like(shown, fill))).item() * channel
        maps.append(F.interpolate(total.relu()[None, None], (24, 24), mode="bilinear", align_corners=False))
    return torch.cat(maps)


@torch.no_grad()
def test_it_is_the_paper_s_formula_with_the_increase_as_the_weight(module):
    module[-1].weight.abs_()
    truth = oracle(module, IMAGES, -1.0)
    found = ScoreCAM("2", fill=-1.0, tolerance=0)(TorchClassifier(module, CARD), IMAGES, TARGET).heatmap
    assert truth.amax((1, 2, 3)).min() > 0
    torch.testing.assert_close(found, truth, rtol=1e-4, atol=1e-5)


def bright(conv=nn.Conv2d, gather=nn.AdaptiveMaxPool2d) -> nn.Sequential:
    """Answers the brightest place; its channels are what is bright, what is dark, and one that is dead."""
    module = nn.Sequential(conv(1, 3, 3, padding=1), nn.ReLU(), conv(3, 1, 1), gather(1), nn.Flatten())
    with torch.no_grad():
        module[0].bias.copy_(torch.tensor([0.0, -0.95, 0.0]))  # dark means dark all around
        nn.init.zeros_(module[2].bias)
        for channel, weight in enumerate((1.0, -1.0, 0.0)):
            module[0].weight[channel] = weight / module[0].weight[0].numel()
        module[2].weight.copy_(torch.tensor([4.0, 0.0, 0.0]).reshape(module[2].weight.shape))
    return module


@pytest.mark.parametrize("dims", [2, 3])
def test_it_finds_a_planted_spot(dims):
    card = CARD.model_copy(update={"shape": (1, *[16] * dims)})
    module = bright() if dims == 2 else bright(nn.Conv3d, nn.AdaptiveMaxPool3d)
    images = torch.full((1, 1, *[16] * dims), -1.0)
    images[(..., *[slice(4, 10)] * dims)] = 1
    explanation = ScoreCAM("1")(TorchClassifier(module, card), images, TARGET)
    heatmap = explanation.heatmap[0, 0]
    assert heatmap.shape == (16,) * dims
    assert all(4 <= int(place) < 10 for place in torch.unravel_index(heatmap.argmax(), heatmap.shape))
    assert heatmap[(slice(12, None),) * dims].max() == 0
    assert explanation.meta["queries"] == 2 + 2, "the dead channel is not asked"


def test_constant_channels_make_an_empty_map_and_no_nan():
    module = network()
    module(IMAGES)
    with torch.no_grad():
        module[0].weight.zero_()
    heatmap = ScoreCAM("2")(TorchClassifier(module, CARD), IMAGES, TARGET).heatmap
    assert heatmap.abs().max() == 0


def test_it_stops_when_the_other_channels_cannot_matter():
    module = network(channels=64)
    with torch.no_grad():
        module(IMAGES)
        module[0].weight.abs_()
        module[0].weight[4:] *= 1e-6
        module[0].bias.zero_()
        module[-1].weight.abs_()
    images = (IMAGES + 1) / 2
    classifier = TorchClassifier(module, CARD)
    all_of_them = ScoreCAM("2", fill=0.0, batch=4, tolerance=0)(classifier, images, TARGET)
    stopped = ScoreCAM("2", fill=0.0, batch=4)(classifier, images, TARGET)
    assert all_of_them.meta["queries"] == 3 * (2 + 64)
    assert stopped.meta["queries"] == 3 * (2 + 4)
    most = float(all_of_them.heatmap.max())
    assert (stopped.heatmap - all_of_them.heatmap).abs().max() <= 0.01 * most


@pytest.mark.parametrize("channels", [20, 70])
def test_it_asks_in_small_batches_whatever_the_number_of_channels(channels):
    sizes: list[int] = []
    module = network(channels)
    module(IMAGES)
    module[0].register_forward_hook(lambda _module, inputs, _out: sizes.append(len(inputs[0])))
    ScoreCAM("2", batch=5, tolerance=0)(TorchClassifier(module, CARD), IMAGES, TARGET)
    assert max(sizes) == 5


def test_neither_batch_matters_nor_frozen_parameters(module):
    classifier = TorchClassifier(module, CARD)
    together = ScoreCAM("2", batch=4)(classifier, IMAGES, TARGET).heatmap
    module.requires_grad_(False)
    with torch.no_grad():
        alone = [ScoreCAM("2", batch=3)(classifier, x[None], TARGET).heatmap for x in IMAGES]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-6)


def test_the_module_keeps_its_gradients_hooks_and_modes(module):
    module.train()
    ScoreCAM("2", bfloat16=True)(TorchClassifier(module, CARD), IMAGES, TARGET)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in module.parameters())
    assert not any(part._forward_hooks for part in module.modules())
    assert all(part.training for part in module.modules())


def test_black_boxes_and_wrong_settings_are_refused(module):
    with pytest.raises(NeedsGradients, match="rise"):
        ScoreCAM()(BlackBox(TorchClassifier(module, CARD)), IMAGES, TARGET)
    for wrong in ({"batch": 0}, {"tolerance": 1.0}, {"tolerance": -0.1}, {"fill": "grey"}):
        with pytest.raises(CounterscanError, match="score-cam"):
            ScoreCAM(**wrong)
