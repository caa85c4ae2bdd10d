"""Invented lesions stay in their place, and come in more than one kind."""

import torch

from counterscan.train.corruption import anywhere, blobs, corrupt, transplant, where_it_looks


def test_blobs_are_soft_shapes_of_bounded_size():
    torch.manual_seed(0)
    shape = blobs(anywhere(64), (64, 64))
    assert shape.shape == (64, 1, 64, 64)
    assert shape.min() >= 0
    assert shape.max() <= 1
    share = (shape > 0.5).float().mean((1, 2, 3))
    assert share.max() < 0.5
    assert (share > 0).float().mean() > 0.8


def test_corruption_stays_near_its_shape():
    torch.manual_seed(0)
    images = torch.rand(32, 1, 64, 64) - 0.5
    shape = torch.zeros(32, 1, 64, 64)
    shape[..., 20:30, 20:30] = 1
    spoilt = corrupt(images, shape)
    changed = (spoilt - images).abs() > 1e-4
    assert not changed[..., :8, :].any()
    assert not changed[..., 44:, :].any()
    assert changed[..., 20:30, 20:30].float().mean() > 0.9
    assert spoilt.abs().max() <= 1


def test_no_shape_no_corruption():
    torch.manual_seed(0)
    images = torch.rand(8, 1, 32, 32) - 0.5
    torch.testing.assert_close(corrupt(images, torch.zeros(8, 1, 32, 32)), images, atol=1e-5, rtol=0)


def test_transplant_moves_what_was_undone():
    torch.manual_seed(0)
    donors = torch.zeros(8, 1, 32, 32)
    donors[..., 12:18, 12:18] = 0.8
    hosts = torch.full((8, 1, 32, 32), -0.2)
    spoilt, where = transplant(donors, torch.zeros_like(donors), hosts)
    changed = (spoilt - hosts).abs() > 0.2
    assert changed.flatten(1).any(1).all()
    assert (where[changed] > 0).all()
    assert changed.float().mean() < 0.15


def test_places_are_drawn_where_the_classifier_looks():
    torch.manual_seed(0)
    saliency = torch.zeros(200, 1, 64, 64)
    saliency[:, :, 40:44, 8:12] = 1
    place = where_it_looks(saliency)
    assert place[:, 0].sub(0.3).abs().max() < 0.3
    assert place[:, 1].add(0.7).abs().max() < 0.3
    shape = blobs(place, (64, 64))
    assert shape[..., 40:44, 8:12].mean() > 0.5
