import pytest
import torch
from torch import nn

from counterscan.classifiers.torch import TorchClassifier
from counterscan.classifiers.wrappers import BlackBox
from counterscan.core import Card, Target
from counterscan.errors import CounterscanError, NeedsGradients
from counterscan.explainers.attribution.gradient import Gradient
from counterscan.explainers.attribution.smooth_grad import SmoothGrad

CARD = Card(name="toy", shape=(1, 9, 9), classes=("lesion",), output="binary")
IMAGES = torch.rand(3, 1, 9, 9, generator=torch.Generator().manual_seed(1)) * 2 - 1
TARGET = Target.parse("lesion=0", CARD)


class Square(nn.Module):
    """Answers the sum of w x^2: its gradient 2 w x is linear, so that noise leaves its mean where it was."""

    def __init__(self, *shape: int):
        super().__init__()
        self.w = nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
        self.sizes: list[int] = []

    def forward(self, x):
        self.sizes.append(len(x))
        return (self.w * x**2).flatten(1).sum(1, keepdim=True)


@pytest.mark.parametrize("absolute", [True, False])
def test_without_noise_it_is_the_gradient(absolute):
    classifier = TorchClassifier(Square(1, 9, 9), CARD)
    smooth = SmoothGrad(samples=3, noise=0.0, absolute=absolute)(classifier, IMAGES, TARGET).heatmap
    torch.testing.assert_close(smooth, Gradient(absolute=absolute)(classifier, IMAGES, TARGET).heatmap)


def test_the_mean_is_over_noise_of_the_stated_size():
    """For sum w x^2 the mean gradient is 2 w (x + sigma * mean of the noise)."""
    module = Square(1, 9, 9)
    smooth = SmoothGrad(samples=400, noise=0.2, absolute=False).run(TorchClassifier(module, CARD), IMAGES, TARGET)
    drawn = (smooth / (2 * module.w.detach()) - IMAGES) * 400**0.5  # sigma times a standard normal
    sigma = 0.2 * (IMAGES.amax((1, 2, 3)) - IMAGES.amin((1, 2, 3)))
    torch.testing.assert_close(drawn.flatten(1).std(1), sigma, rtol=0.3, atol=0)


def test_noise_smooths_what_jumps():
    """The gradient of |x| jumps at zero; its mean over noise is the chance to be on either side."""

    class Size(nn.Module):
        def forward(self, x):
            return x.abs().flatten(1).sum(1, keepdim=True)

    images = torch.linspace(-1, 1, 81).reshape(1, 1, 9, 9)
    smooth = SmoothGrad(samples=500, noise=0.1, absolute=False).run(TorchClassifier(Size(), CARD), images, TARGET)
    truth = torch.erf(images / (0.2 * 2**0.5))
    assert (smooth - truth).abs().max() < 0.2


def test_seeds_replay_and_neither_batch_matters():
    classifier = TorchClassifier(Square(1, 9, 9), CARD)
    together = SmoothGrad(samples=10, batch=8)(classifier, IMAGES, TARGET, seed=3)
    alone = [SmoothGrad(samples=10, batch=3)(classifier, x[None], TARGET, seed=3).heatmap for x in IMAGES]
    torch.testing.assert_close(together.heatmap, torch.cat(alone))
    assert together.meta["queries"] == 3 + 3 * 10
    assert not torch.allclose(together.heatmap, SmoothGrad(samples=10)(classifier, IMAGES, TARGET, seed=4).heatmap)


def test_it_asks_in_small_batches_whatever_the_number_of_samples():
    module = Square(1, 9, 9)
    SmoothGrad(samples=50, batch=4)(TorchClassifier(module, CARD), IMAGES, TARGET)
    assert max(module.sizes) == 4
    assert module.w.grad is None


def test_volumes_and_frozen_parameters():
    card = CARD.model_copy(update={"shape": (1, 4, 5, 6)})
    module = Square(1, 4, 5, 6).requires_grad_(False)
    heatmap = SmoothGrad(samples=2)(TorchClassifier(module, card), torch.rand(2, 1, 4, 5, 6), TARGET).heatmap
    assert heatmap.shape == (2, 1, 4, 5, 6)
    assert heatmap.max() > 0


def test_black_boxes_and_wrong_settings_are_refused():
    with pytest.raises(NeedsGradients, match="rise"):
        SmoothGrad()(BlackBox(TorchClassifier(Square(1, 9, 9), CARD)), IMAGES, TARGET)
    for wrong in ({"samples": 0}, {"batch": 0}, {"noise": -0.1}):
        with pytest.raises(CounterscanError, match="smooth-grad needs samples >= 1"):
            SmoothGrad(**wrong)
