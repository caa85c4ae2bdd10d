import pytest
import torch
from torch import nn

from counterscan.classifiers.features import Extractor, feature_layer, features
from counterscan.classifiers.torch import TorchClassifier
from counterscan.classifiers.wrappers import BlackBox, Fitted
from counterscan.core import Card
from counterscan.errors import ClassifierError, CounterscanError, NeedsGradients
from counterscan.nets import build


def classifier(module, side=32):
    return TorchClassifier(module, Card(name="toy", shape=(1, side, side), classes=("a",)))


@pytest.mark.parametrize(("network", "width"), [("resnet", 320), ("vgg", 160)])
def test_of_our_networks_it_is_what_the_last_layer_is_fed(network, width):
    toy = classifier(build(network, {"outputs": 1}).eval())
    images = torch.rand(3, 1, 32, 32) * 2 - 1
    found = features(toy, images)
    assert feature_layer(toy) == "head"
    assert found.shape == (3, width)
    torch.testing.assert_close(toy.module.head(found), toy(images), rtol=1e-4, atol=1e-5)
    assert not toy.module.head._forward_pre_hooks


def test_a_layer_by_name_and_a_network_without_a_linear_layer():
    toy = classifier(
        nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Conv2d(5, 1, 1), nn.AdaptiveMaxPool2d(1), nn.Flatten())
    )
    images = torch.rand(2, 1, 32, 32)
    assert features(toy, images, "1").shape == (2, 5)
    torch.testing.assert_close(features(toy, images, "1"), toy.module[:2](images).mean((2, 3)))
    assert features(toy, images).ndim == 2
    with pytest.raises(ClassifierError, match="no layer"):
        features(toy, images, "lost")


def test_sizes_are_fitted_and_a_black_box_is_refused():
    toy = classifier(build("vgg", {"outputs": 1}).eval())
    assert features(Fitted(toy, (1, 64, 64)), torch.zeros(2, 1, 64, 64)).shape == (2, 160)
    with pytest.raises(NeedsGradients):
        features(BlackBox(toy), torch.zeros(2, 1, 32, 32))


def test_an_extractor_is_named_after_what_it_takes_and_fits_any_size():
    toy = classifier(build("resnet", {"outputs": 1}).eval())
    taken = Extractor.of(toy)
    assert taken.name == "toy, layer head"
    images = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(taken(images), features(toy, images))
    assert taken(torch.rand(2, 3, 48, 48)).shape == (2, 320)
    assert "(abc)" in Extractor.of(TorchClassifier(toy.module, toy.card.model_copy(update={"sha256": "abc"}))).name


def test_any_function_is_an_extractor_if_it_gives_a_finite_row_an_image():
    images = torch.rand(2, 1, 8, 8)
    assert Extractor("mean", lambda x: x.mean((2, 3)))(images).shape == (2, 1)
    with pytest.raises(CounterscanError, match=r"flat gave \(2,\) for 2 images"):
        Extractor("flat", lambda x: x.mean((1, 2, 3)))(images)
    with pytest.raises(CounterscanError, match="NaN"):
        Extractor("log", lambda x: x.mean((2, 3)).mul(-1).log())(images)
