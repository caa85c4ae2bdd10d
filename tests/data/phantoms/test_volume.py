import numpy as np
import pytest

from counterscan.data.phantoms.volume import draw_volume


@pytest.fixture(scope="module")
def sick():
    return draw_volume(3, slices=24, thickness=4.0, size=96, tumour=True)


def test_a_volume_has_one_tumour_through_several_slices(sick):
    assert sick.image.shape == sick.mask.shape == (24, 96, 96)
    held = np.flatnonzero(sick.mask.any((1, 2)))
    assert np.array_equal(held, np.arange(held[0], held[-1] + 1))
    assert len(held) * 4.0 == pytest.approx(sick.extent_mm, abs=9)
    assert sick.ml == pytest.approx(sick.mask.sum() * np.prod(sick.spacing) / 1000)
    areas = sick.mask.sum((1, 2))[held]
    assert areas.argmax() not in (0, len(held) - 1), "an ellipsoid is thin at its ends"


def test_slices_share_their_anatomy_and_not_their_noise(sick):
    plain = [image.clip(-160, 240) for image in sick.image]
    near, far = (np.abs(plain[0] - plain[index]).mean() for index in (1, 12))
    assert np.corrcoef(plain[0].ravel(), plain[1].ravel())[0, 1] > 0.95
    assert 1 < near < far


def test_a_volume_replays_and_can_be_without_disease():
    first, again = (draw_volume(5, slices=3, size=64, seed=9, tumour=False) for _ in range(2))
    assert np.array_equal(first.image, again.image)
    assert not first.mask.any()
    assert first.ml == first.size_mm == 0
    assert not np.array_equal(first.image, draw_volume(6, slices=3, size=64, seed=9, tumour=False).image)
