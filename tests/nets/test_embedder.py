"""Rows of length one, from images of any size, that tell where things are."""

import pytest
import torch

from counterscan.nets import build


def embedder(**settings):
    torch.manual_seed(0)
    return build("embedder", {"outputs": 12, "widths": [8, 16], **settings}).eval()


@pytest.mark.parametrize(("channels", "size"), [(1, 32), (3, 64), (1, 96)])
def test_rows_have_length_one_whatever_the_size(channels, size):
    rows = embedder(channels=channels)(torch.randn(3, channels, size, size))
    assert rows.shape == (3, 12)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(3))


def test_results_do_not_depend_on_the_batch():
    net, images = embedder(), torch.randn(4, 1, 32, 32)
    torch.testing.assert_close(net(images)[:1], net(images[:1]), atol=1e-4, rtol=1e-4)


def test_the_same_thing_elsewhere_is_another_row():
    net, images = embedder(), torch.full((2, 1, 64, 64), -1.0)
    images[0, :, 16:24, 16:24] = images[1, :, 40:48, 40:48] = 1
    first, second = net(images)
    assert first @ second < 0.99


def test_it_holds_nothing_that_is_not_used():
    net = embedder()
    net.train()(torch.randn(2, 1, 32, 32)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
