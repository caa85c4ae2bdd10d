import pytest
import torch
from torch import nn

from counterscan.classifiers.averaged import Averaged
from counterscan.classifiers.torch import TorchClassifier, forward_with_layers
from counterscan.classifiers.wrappers import BlackBox, Counting, Fitted
from counterscan.core import Card
from counterscan.errors import ClassifierError

DRAWS = torch.Generator().manual_seed(0)
WEIGHTS = torch.randn(2, 6, 8, generator=DRAWS)
IMAGES = torch.rand(3, 1, 6, 8, generator=DRAWS) * 2 - 1


class Weighted:
    """Answers weighted sums, which no flip and no shift leaves alone."""

    differentiable = True

    def __init__(self, output="multilabel"):
        self.card = Card(name="w", shape=(1, 6, 8), classes=("a", "b"), output=output)

    def __call__(self, images):
        return torch.einsum("bchw,khw->bk", images, WEIGHTS)


def test_it_is_the_mean_over_flips():
    ask = Weighted()
    both = (IMAGES, IMAGES.flip(-1), IMAGES.flip(-2), IMAGES.flip(-1, -2))
    torch.testing.assert_close(Averaged(ask)(IMAGES), (ask(both[0]) + ask(both[1])) / 2)
    torch.testing.assert_close(Averaged(ask, flips=(-1, -2))(IMAGES), sum(map(ask, both)) / 4)


def test_shifts_move_by_so_many_pixels_and_repeat_the_border():
    ask = Weighted()
    left = torch.cat([IMAGES[..., 2:], IMAGES[..., -1:], IMAGES[..., -1:]], -1)
    right = torch.cat([IMAGES[..., :1], IMAGES[..., :1], IMAGES[..., :-2]], -1)
    up = torch.cat([IMAGES[:, :, 2:], IMAGES[:, :, -1:], IMAGES[:, :, -1:]], -2)
    down = torch.cat([IMAGES[:, :, :1], IMAGES[:, :, :1], IMAGES[:, :, :-2]], -2)
    expected = sum(map(ask, (IMAGES, left, right, up, down))) / 5
    torch.testing.assert_close(Averaged(ask, flips=(), shift=2)(IMAGES), expected)


def test_a_softmax_s_probabilities_still_sum_to_1():
    class Three(Weighted):
        def __call__(self, images):
            logits = torch.cat([super().__call__(images), images.mean((1, 2, 3))[:, None]], 1)
            return logits.log_softmax(1).exp().logit()

    three = Three("softmax")
    three.card = three.card.model_copy(update={"classes": ("a", "b", "c")})
    answers = Averaged(three)(IMAGES)
    torch.testing.assert_close(answers.sigmoid().sum(1), torch.ones(3))
    logs = [three(view).sigmoid().log() for view in (IMAGES, IMAGES.flip(-1))]
    torch.testing.assert_close(answers.sigmoid(), ((logs[0] + logs[1]) / 2).softmax(1))


@pytest.mark.parametrize(("flips", "shift", "views"), [((), 0, 1), ((-1,), 0, 2), ((-1, -2), 3, 20)])
def test_every_view_is_counted_whatever_wraps_it(flips, shift, views):
    averaged = Averaged(Weighted(), flips, shift)
    counted = Counting(BlackBox(Fitted(averaged, (1, 12, 16))))
    counted(torch.zeros(3, 1, 12, 16))
    assert averaged.views == views
    assert counted.queries == 3 * views


def test_volumes_and_gradients_pass():
    module = nn.Sequential(nn.Conv3d(1, 2, 3), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    card = Card(name="3d", shape=(1, 5, 6, 7), classes=("a", "b"))
    averaged = Averaged(TorchClassifier(module, card), flips=(-3,), shift=1)
    assert averaged.views == 14
    images = torch.rand(2, 1, 5, 6, 7, requires_grad=True)
    (gradient,) = torch.autograd.grad(averaged(images).sum(), images)
    assert (gradient != 0).float().mean() > 0.9


def test_its_layers_are_refused_in_one_line_that_names_the_cure():
    card = Card(name="net", shape=(1, 6, 8), classes=("a", "b"))
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ClassifierError, match="take the classifier out of Averaged"):
        forward_with_layers(Averaged(TorchClassifier(module, card)), IMAGES, [""])


@pytest.mark.parametrize("settings", [{"flips": (-3,)}, {"flips": (0,)}, {"flips": (-1, -1)}])
def test_axes_that_are_not_there_are_refused(settings):
    with pytest.raises(ClassifierError, match=r"can be flipped along \[-2, -1\], each once"):
        Averaged(Weighted(), **settings)


@pytest.mark.parametrize("shift", [-1, 6])
def test_shifts_out_of_the_image_are_refused(shift):
    with pytest.raises(ClassifierError, match="can be shifted by 0 to 5 pixels"):
        Averaged(Weighted(), shift=shift)
