"""Augmentation changes place and exposure a little, and nothing else."""

import torch

from counterscan.train.augment import augment, augment_both


def test_range_shape_and_replay():
    images = torch.rand(6, 1, 32, 32) * 2 - 1
    torch.manual_seed(1)
    first = augment(images)
    torch.manual_seed(1)
    assert torch.equal(augment(images), first)
    assert first.shape == images.shape
    assert first.abs().max() <= 1
    assert not torch.allclose(first, images, atol=0.05)


def test_left_stays_left_unless_flips_are_allowed():
    torch.manual_seed(0)
    images = torch.full((64, 1, 32, 32), -1.0)
    images[..., 10:22, 3:11] = 1.0
    assert on_the_left(augment(images)).all()
    assert 0.25 < on_the_left(augment(images, flip=True)).float().mean() < 0.75


def on_the_left(images):
    """Is the left half of each image the brighter one?"""
    return images[..., :16].mean((1, 2, 3)) > images[..., 16:].mean((1, 2, 3))


def test_a_mask_moves_with_its_image():
    torch.manual_seed(0)
    masks = torch.zeros(6, 1, 64, 64, dtype=torch.bool)
    masks[:, :, 20:36, 30:50] = True
    images, moved = augment_both(masks * 1.6 - 0.8, masks, flip=True)
    assert moved.dtype == torch.bool
    assert ((images > 0) == moved).float().mean() > 0.99
    assert not torch.equal(moved, masks)
