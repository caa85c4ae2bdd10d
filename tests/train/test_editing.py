"""The steps that editors share: who learns in them, and who does not."""

import torch

from counterscan.core import Card
from counterscan.data.manifest import Manifest
from counterscan.nets import build
from counterscan.train.editing import (
    discriminate,
    editor_card,
    editor_networks,
    indices_of,
    jittered,
    judged,
)
from counterscan.weights.store import save_weights

CHEST = Card(name="chest", shape=(1, 32, 32), classes=("effusion", "nodule"), network="resnet", settings={"outputs": 2})


def manifest(**facts):
    return Manifest("here", CHEST.classes, (), **facts)


def test_the_card_tells_the_network_how_much_it_will_be_told():
    assert editor_card("e", CHEST, manifest(), "").settings["conditions"] == 2
    assert editor_card("e", CHEST, manifest(), "", bins=10).settings["conditions"] == 22
    assert "guide" not in editor_card("e", CHEST, manifest(), "", guided=False).settings


def saved_editor(folder, **more):
    card = editor_card("first", CHEST, manifest(), "", guided=False, **more)
    net = build("unet", card.settings)
    torch.nn.init.normal_(net.head.weight, std=0.1)
    save_weights(folder, net, card)
    return net


def test_a_generator_goes_on_from_another(tmp_path):
    first = saved_editor(tmp_path)
    net, _ = editor_networks(editor_card("second", CHEST, manifest(), "", guided=False), None, str(tmp_path))
    images, condition = torch.randn(1, 1, 32, 32), torch.ones(1, 2)
    torch.testing.assert_close(net(images, condition), first(images, condition), atol=1e-2, rtol=1e-2)  # half precision


def test_what_is_no_disease_is_not_edited_unless_it_is_named():
    assert indices_of("", manifest(), CHEST) == [0, 1]
    assert indices_of("", manifest(confounders=("nodule",)), CHEST) == [0]
    assert indices_of("nodule", manifest(confounders=("nodule",)), CHEST) == [1]


def test_a_generator_that_asks_for_approval_does_not_teach_the_discriminator():
    discriminator, images = build("discriminator", {"widths": [8, 8]}), torch.rand(2, 1, 32, 32, requires_grad=True)
    judged(discriminator, images, torch.ones(2, 1)).mean().backward()
    assert images.grad.abs().sum() > 0
    assert all(p.grad is None and p.requires_grad for p in discriminator.parameters())


def test_the_discriminator_learns_to_tell_them_apart():
    torch.manual_seed(0)
    discriminator = build("discriminator", {"widths": [8, 8]})
    optimiser, condition = torch.optim.Adam(discriminator.parameters(), 0.01), torch.ones(4, 1)
    real, fake = torch.full((4, 1, 16, 16), 0.5), torch.full((3, 1, 16, 16), -0.5)
    pairs = (real, condition), (fake, condition[:3])
    first = discriminate(discriminator, optimiser, *pairs)
    last = [discriminate(discriminator, optimiser, *pairs) for _ in range(20)][-1]
    assert last < first


def test_jitter_is_small_and_replays():
    images = torch.zeros(2, 1, 32, 32)
    images[..., 16, 16] = 1
    torch.manual_seed(1)
    seen = jittered(images)
    torch.manual_seed(1)
    assert torch.equal(seen, jittered(images))
    place = int(seen[0].flatten().argmax())
    assert abs(place // 32 - 16) <= 2
    assert abs(place % 32 - 16) <= 2
