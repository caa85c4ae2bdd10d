import torch

from counterscan.data.fitting import fit_images, fit_mask


def test_grey_is_repeated_and_colour_averaged():
    grey = torch.rand(2, 1, 8, 8)
    assert torch.equal(fit_images(grey, (3, 8, 8)), grey.expand(2, 3, 8, 8))
    colour = torch.rand(2, 3, 8, 8)
    assert torch.allclose(fit_images(colour, (1, 8, 8)), colour.mean(1, keepdim=True))


def test_shrinking_keeps_the_mean():
    images = torch.rand(1, 1, 64, 32)
    assert abs(fit_images(images, (1, 16, 16)).mean() - images.mean()) < 0.02


def test_a_mask_keeps_its_share_and_its_kind():
    mask = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    mask[..., 16:48, 16:48] = True
    fitted = fit_mask(mask, (32, 32))
    assert fitted.dtype == torch.bool
    assert fitted[..., 8:24, 8:24].all()
    assert int(fitted.sum()) == 256


def test_a_tiny_lesion_does_not_vanish_and_an_empty_mask_stays_empty():
    mask = torch.zeros(2, 1, 256, 256, dtype=torch.bool)
    mask[0, 0, 100, 100] = True
    fitted = fit_mask(mask, (32, 32))
    assert 1 <= int(fitted[0].sum()) <= 4
    assert fitted[0, 0, 11:14, 11:14].any()
    assert not fitted[1].any()
