"""The distance of patches sees what is wrong, at the scale where it is wrong."""

import pytest
import torch
from torch.nn import functional as F

from counterscan.errors import CounterscanError
from counterscan.metrics.patches import bands, patch_distances


def clouds(n, seed, side=64):
    noise = torch.randn(n, 1, side, side, generator=torch.Generator().manual_seed(seed))
    return F.avg_pool2d(noise, 5, stride=1, padding=2) + 0.2 * noise


def test_a_set_is_at_no_distance_from_itself_and_near_another_of_its_kind():
    same, kin = patch_distances(clouds(40, 0), clouds(40, 0)), patch_distances(clouds(40, 0), clouds(40, 1))
    assert set(same) == {16, 32, 64}
    assert max(same.values()) == 0
    assert 0 < max(kin.values()) < 80


def test_blur_is_seen_in_the_finest_band():
    real = clouds(40, 0)
    kin = patch_distances(real, clouds(40, 1))
    blurred = patch_distances(real, F.avg_pool2d(clouds(40, 1), 3, stride=1, padding=1))
    assert blurred[64] > 5 * kin[64]
    assert blurred[16] < 3 * kin[16]


def test_a_wrong_contrast_is_seen():
    real = clouds(40, 0)
    assert patch_distances(real, 1.5 * clouds(40, 1))[16] > 3 * patch_distances(real, clouds(40, 1))[16]


def test_bands_add_up_to_the_image():
    image = clouds(2, 0)
    fine, middle, coarse = bands(image)
    whole = fine + F.interpolate(middle + F.interpolate(coarse, scale_factor=2), scale_factor=2)
    torch.testing.assert_close(whole, image)


def test_it_replays_and_refuses_sets_that_do_not_pair():
    assert patch_distances(clouds(8, 0), clouds(8, 1)) == patch_distances(clouds(8, 0), clouds(8, 1))
    with pytest.raises(CounterscanError, match="give equal sets"):
        patch_distances(clouds(8, 0), clouds(6, 1))
