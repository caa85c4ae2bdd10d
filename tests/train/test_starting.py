import pytest
import torch

from counterscan.core import Card
from counterscan.errors import CounterscanError
from counterscan.nets import build
from counterscan.train.starting import first_network
from counterscan.weights.store import save_weights

CARD = Card(name="first", shape=(1, 32, 32), classes=("a", "b"), network="resnet", settings={"outputs": 2})
EDITOR = Card(name="e", kind="editor", shape=(1, 32, 32), classes=("a",), network="unet", settings={"widths": [8, 16]})


@pytest.fixture
def trained(tmp_path):
    network = first_network(CARD, 5)
    save_weights(tmp_path, network, CARD)
    return network


def close(one, other):
    return torch.allclose(one.float(), other.float(), atol=2e-3)  # weights lie in half precision


def test_weights_replay_from_the_seed_and_nothing_else_is_disturbed():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    one, again, other = first_network(CARD, 1), first_network(CARD, 1), first_network(CARD, 2)
    assert torch.rand(1) == expected
    assert torch.equal(one.head.weight, again.head.weight)
    assert not torch.equal(one.head.weight, other.head.weight)


def test_it_goes_on_from_the_weights_that_it_is_given(trained, tmp_path):
    started = first_network(CARD, 1, str(tmp_path)).state_dict()
    assert all(close(started[name], value) for name, value in trained.state_dict().items())


def test_other_classes_get_a_last_layer_of_their_own(trained, tmp_path):
    card = CARD.model_copy(update={"classes": ("x", "y", "z"), "settings": {"outputs": 3}})
    started = first_network(card, 1, str(tmp_path))
    assert started.head.weight.shape[0] == 3
    below = [name for name in trained.state_dict() if not name.startswith("head.")]
    assert all(close(started.state_dict()[name], trained.state_dict()[name]) for name in below)


def test_the_same_classes_in_another_order_are_other_classes(trained, tmp_path):
    started = first_network(CARD.model_copy(update={"classes": ("b", "a")}), 1, str(tmp_path))
    assert not close(started.head.weight, trained.head.weight)


@pytest.mark.parametrize("other", [{"network": "vgg"}, {"settings": {"outputs": 4}}])
def test_another_network_is_refused(trained, tmp_path, other):
    with pytest.raises(CounterscanError, match="another network, or has other settings"):
        first_network(CARD.model_copy(update=other), 1, str(tmp_path))


def test_what_is_of_another_kind_is_refused(tmp_path):
    save_weights(tmp_path, build("unet", EDITOR.settings), EDITOR)
    with pytest.raises(CounterscanError, match="is of kind editor; classifier is needed"):
        first_network(CARD, 1, str(tmp_path))


def test_an_editor_is_asked_for_other_classes_as_for_the_trained_ones_on_average(tmp_path):
    def card(classes, bins=2, **more):
        settings = {"widths": [8, 16], "conditions": len(classes) * (1 + bins)}
        return EDITOR.model_copy(update={"classes": classes, "settings": settings, **more})

    old = card(("well", "a", "b"), normal="well", output="softmax")
    trained = first_network(old, 5)
    save_weights(tmp_path, trained, old)
    started = first_network(card(("x", "y")), 1, str(tmp_path))
    weights = [network.down[0][0].modulate.weight.float() for network in (trained, started)]
    conditions = [weight.unflatten(1, (-1, 3)) for weight in weights]
    for own in conditions[1].unbind(1):
        assert close(own, conditions[0][:, 1:].mean(1)), "the normal class was never asked for"
    assert close(trained.down[0][0].conv1.weight, started.down[0][0].conv1.weight)
    with pytest.raises(CounterscanError, match="other settings"):
        first_network(card(("x", "y"), bins=3), 1, str(tmp_path))
