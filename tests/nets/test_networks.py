"""Every network of ours takes what its docstring says."""

import importlib.util

import pytest
import torch
from torch import nn

from counterscan.errors import MissingExtra
from counterscan.nets import MONAI, OURS, build
from counterscan.nets.blocks import ConditionedBlock


@pytest.mark.parametrize("name", ["resnet", "vgg"])
@pytest.mark.parametrize("channels", [1, 3])
def test_classifiers_answer_one_logit_a_class(name, channels):
    net = build(name, {"channels": channels, "outputs": 4}).eval()
    assert net(torch.randn(2, channels, 64, 64)).shape == (2, 4)


@pytest.mark.parametrize("size", [32, 96, 128])
def test_the_unet_starts_at_zero_and_keeps_the_size(size):
    net = build("unet", {"conditions": 3})
    change = net(torch.randn(2, 1, size, size), torch.ones(2, 3))
    assert change.shape == (2, 1, size, size)
    assert change.abs().max() == 0


def test_the_unet_uses_its_condition():
    torch.manual_seed(0)
    net = build("unet", {"conditions": 2, "widths": [16, 16]})
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.1)
    images = torch.randn(1, 1, 32, 32)
    assert not torch.allclose(net(images, torch.tensor([[1.0, 0.0]])), net(images, torch.tensor([[0.0, 1.0]])))


def test_a_conditioned_block_starts_as_the_identity():
    x = torch.randn(2, 16, 8, 8)
    assert torch.equal(ConditionedBlock(16, 16, 1)(x, torch.ones(2, 1)), x)


def test_the_discriminator_answers_per_patch():
    net = build("discriminator", {"conditions": 2})
    scores = net(torch.randn(3, 1, 128, 128), torch.ones(3, 2))
    assert scores.shape[0] == 3
    assert scores.ndim == 3


def test_results_do_not_depend_on_the_batch():
    torch.manual_seed(0)
    for name in ("resnet", "vgg"):
        net = build(name, {"outputs": 2}).eval()
        images = torch.randn(4, 1, 64, 64)
        torch.testing.assert_close(net(images)[:1], net(images[:1]), atol=1e-4, rtol=1e-4)
    assert set(OURS) >= {"resnet", "vgg", "unet", "discriminator"}


@pytest.mark.parametrize("name", sorted(MONAI))
def test_monais_networks_come_by_name(name):
    settings = {"channels": 1, "outputs": 3}
    if importlib.util.find_spec("monai") is None:
        with pytest.raises(MissingExtra, match=r"counterscan\[monai\]"):
            build(name, settings)
    else:
        maps = (64, 64) if name == "basic_unet" else ()
        assert build(name, settings).eval()(torch.randn(2, 1, 64, 64)).shape == (2, 3, *maps)


def test_a_guide_is_seen_and_stays_as_it_was():
    torch.manual_seed(0)
    net = build("unet", {"guide": {"channels": 1, "outputs": 2}})
    torch.nn.init.normal_(net.head.weight, std=0.1)
    images, condition = torch.randn(2, 1, 64, 64), torch.ones(2, 1)
    before = {name: value.clone() for name, value in net.guide.state_dict().items()}
    net.train()
    first = net(images, condition)
    first.square().mean().backward()
    assert all(torch.equal(value, before[name]) for name, value in net.guide.state_dict().items())
    assert all(p.grad is None for p in net.guide.parameters())
    assert all(adapter.weight.grad.abs().sum() > 0 for adapter in net.adapters)
    torch.nn.init.normal_(net.guide.stem.weight)
    assert not torch.allclose(net(images, condition), first)


def test_the_change_of_another_fusion_leads_to_it():
    torch.manual_seed(0)
    settings = {"channels": 1, "conditions": 1, "widths": [8, 8], "patch": 4}
    images, condition = torch.rand(2, 1, 16, 16) * 2 - 1, torch.ones(2, 1)
    plain = build("unet", settings)
    nn.init.normal_(plain.head.weight)
    for fusion, expected in (("tanh", lambda o: torch.tanh(images + o)), ("none", torch.tanh)):
        network = build("unet", {**settings, "fusion": fusion})
        network.load_state_dict(plain.state_dict())
        torch.testing.assert_close(images + network(images, condition), expected(plain(images, condition)))


def test_skips_can_be_left_out_the_finest_first():
    torch.manual_seed(0)
    images, condition = torch.rand(2, 1, 32, 32), torch.ones(2, 1)
    every = build("unet", {"channels": 1, "conditions": 1, "widths": [8, 8], "patch": 4})
    nn.init.normal_(every.head.weight)
    answers = []
    for skips in (0, 1, 2):
        network = build("unet", {"channels": 1, "conditions": 1, "widths": [8, 8], "patch": 4, "skips": skips})
        network.load_state_dict(every.state_dict())
        answers.append(network(images, condition))
    assert torch.equal(answers[2], every(images, condition))
    assert not torch.allclose(answers[0], answers[1])
    assert not torch.allclose(answers[1], answers[2])
