import pytest
import torch

from counterscan.classifiers.function import FunctionClassifier
from counterscan.classifiers.torch import TorchClassifier
from counterscan.core import Card, Target
from counterscan.errors import CounterscanError
from counterscan.explainers.attribution.occlusion import Occlusion, windows
from counterscan.explainers.attribution.substrate import substrate

CARD = Card(name="linear", shape=(2, 12, 14), classes=("lesion",), output="binary")
TARGET = Target.parse("lesion=0", CARD)
IMAGES = torch.rand(2, 2, 12, 14, generator=torch.Generator().manual_seed(1)) * 2 - 1
W = torch.randn(2, 12, 14, generator=torch.Generator().manual_seed(0)) / 10


def linear(weights: torch.Tensor = W, card: Card = CARD, sizes: list | None = None) -> FunctionClassifier:
    """A black box whose log-odds are linear in the pixels."""

    def answer(x):
        if sizes is not None:
            sizes.append(len(x))
        return (x * weights.numpy()).reshape(len(x), -1).sum(1)[:, None]

    return FunctionClassifier(answer, card)


@pytest.mark.parametrize(("text", "sign"), [("lesion=0", 1.0), ("lesion=1", -1.0)])
@pytest.mark.parametrize("fill", [None, 0.3, "mean", "blur"])
def test_a_window_of_one_pixel_is_the_finite_difference_of_a_linear_model(fill, text, sign):
    found = Occlusion(window=1, stride=1, fill=fill).run(linear(), IMAGES, Target.parse(text, CARD))
    truth = sign * (W * (IMAGES - substrate(IMAGES, fill))).sum(1, keepdim=True)
    torch.testing.assert_close(found, truth, rtol=1e-3, atol=1e-5)


def test_a_pixel_has_the_mean_of_the_windows_that_hide_it():
    found = Occlusion(window=5, stride=3, fill=0.0).run(linear(), IMAGES, TARGET)
    effect = (W * IMAGES).sum(1)
    lost, times = torch.zeros(2, 12, 14), torch.zeros(12, 14)
    for top in (0, 3, 6, 7):
        for left in (0, 3, 6, 9):
            place = (slice(top, top + 5), slice(left, left + 5))
            lost[(slice(None), *place)] += effect[(slice(None), *place)].sum((1, 2))[:, None, None]
            times[place] += 1
    torch.testing.assert_close(found[:, 0], lost / times, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("spatial", "window", "stride"), [((12, 14), 5, 3), ((7, 9, 4), 6, 6), ((3, 30), 8, 8)])
def test_windows_hide_every_pixel_and_stay_inside(spatial, window, stride):
    hidden = torch.zeros(spatial)
    places = windows(spatial, window, stride)
    for place in places:
        assert hidden[place].shape == tuple(min(window, side) for side in spatial)
        hidden[place] += 1
    assert hidden.min() >= 1
    assert len({str(place) for place in places}) == len(places)


def test_it_asks_in_small_batches_and_neither_batch_matters():
    sizes: list[int] = []
    together = Occlusion(window=4, stride=2, batch=6)(linear(sizes=sizes), IMAGES, TARGET)
    assert max(sizes) == 6
    assert together.meta["queries"] == 2 * (2 + 5 * 6)
    alone = [Occlusion(window=4, stride=2, batch=100)(linear(), x[None], TARGET).heatmap for x in IMAGES]
    torch.testing.assert_close(together.heatmap, torch.cat(alone), rtol=1e-3, atol=1e-5)


def test_volumes():
    card = CARD.model_copy(update={"shape": (1, 8, 10, 12)})
    weights = torch.zeros(1, 8, 10, 12)
    spot = (..., slice(3, 6), slice(4, 7), slice(6, 9))
    weights[spot] = 0.01
    flat = Occlusion(window=3, stride=2)(linear(weights, card), torch.ones(1, 1, 8, 10, 12), TARGET).heatmap
    assert flat.max() == 0, "a flat image loses nothing to its own border"
    images = torch.full((1, 1, 8, 10, 12), -1.0)
    images[spot] = 1
    heatmap = Occlusion(window=3, stride=1)(linear(weights, card), images, TARGET).heatmap
    assert heatmap.shape == images.shape
    assert heatmap[0, 0, 4, 5, 7] == heatmap.max() > 0
    assert heatmap[0, 0, 0, 0, 0] == 0


def test_a_torch_module_is_left_as_it_was():
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(), torch.nn.Linear(336, 1)).train()
    exact = Occlusion(window=6, stride=6)(TorchClassifier(module, CARD), IMAGES, TARGET).heatmap
    rough = Occlusion(window=6, stride=6, bfloat16=True)(TorchClassifier(module, CARD), IMAGES, TARGET).heatmap
    assert (exact - rough).abs().max() < 0.1
    assert all(part.training for part in module.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in module.parameters())


@pytest.mark.parametrize("wrong", [{"stride": 20}, {"stride": 0}, {"batch": 0}, {"fill": "gray"}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(CounterscanError, match="occlusion"):
        Occlusion(**wrong)
