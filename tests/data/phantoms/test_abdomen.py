"""What an abdominal phantom promises: a lesion that is where it says, a twin without it, and the same again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterscan.data.phantoms import abdomen

BOTH = ("tumour", "cyst")


def drawn(seed, findings=BOTH, size=128):
    return abdomen.draw(np.random.default_rng(seed), size, tuple(findings))


@pytest.fixture(scope="module")
def series():
    return [drawn(seed) for seed in range(40)]


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32), findings=st.sets(st.sampled_from(BOTH)), size=st.sampled_from([64, 96, 128, 160]))
def test_every_phantom_keeps_its_promises(seed, findings, size):
    phantom = drawn(seed, sorted(findings), size)
    for image in (phantom.image, phantom.twin):
        assert image.shape == (size, size)
        assert image.dtype == np.float32
        assert -1024 <= image.min() < -800
        assert 250 < image.max() <= 2000
    assert set(phantom.masks) == findings
    assert phantom.labels == {name: int(name in findings) for name in abdomen.CLASSES}
    assert all(mask.dtype == bool and mask.shape == (size, size) and mask.any() for mask in phantom.masks.values())
    assert phantom.disease == ("tumour",)


def test_the_same_generator_draws_the_same_phantom():
    first, second = drawn(3), drawn(3)
    assert np.array_equal(first.image, second.image)
    assert first.facts == second.facts
    assert not np.array_equal(first.image, drawn(4).image)


def test_the_largest_size_shows_the_same_patient():
    large, small = drawn(5, size=512), drawn(5, size=128)
    assert large.image.shape == (512, 512)
    assert large.facts["tumour_side"] == small.facts["tumour_side"]
    mean = large.twin.reshape(128, 4, 128, 4).mean((1, 3))
    assert np.corrcoef(mean.clip(-160, 240).ravel(), small.twin.clip(-160, 240).ravel())[0, 1] > 0.95


def test_without_a_tumour_image_and_twin_are_one():
    for findings in ((), ("cyst",)):
        phantom = drawn(1, findings)
        assert np.array_equal(phantom.image, phantom.twin)
        assert not phantom.mask.any()


def test_the_twin_is_the_scan_of_the_same_patient_without_the_tumour():
    for seed in range(5):
        assert np.array_equal(drawn(seed).twin, drawn(seed, ("cyst",)).image)


def test_the_change_is_confined_to_the_tumour_and_what_it_pushes(series):
    for phantom in series:
        change = np.abs(phantom.image - phantom.twin)
        rows, columns = np.nonzero(phantom.mask)
        y, x = np.indices(change.shape)
        reach = 2.2 * phantom.facts["tumour_size_mm"] / phantom.facts["pixel_mm"] + 12
        assert not change[np.hypot(y - rows.mean(), x - columns.mean()) > reach].any()
        assert (change == 0).mean() > 0.7


def test_the_change_is_strongest_within_the_mask(series):
    inside = np.array([np.abs(p.image - p.twin)[p.mask].mean() for p in series])
    share = np.array([np.abs(p.image - p.twin)[p.mask].sum() / np.abs(p.image - p.twin).sum() for p in series])
    assert inside.min() > 15
    assert np.median(inside) > 50
    assert np.median(share) > 0.6


def test_tumours_are_large_enough_to_be_seen(series):
    assert min(p.mask.sum() for p in series) >= 15
    assert {p.facts["tumour_severity"] for p in series} == {"small", "moderate", "large"}


def test_the_patients_left_is_the_viewers_right(series):
    for phantom in series:
        column = np.nonzero(phantom.mask)[1].mean()
        assert (column > 64) == (phantom.facts["tumour_side"] == "left")


def test_cysts_hold_water_and_stay_in_the_twin(series):
    for phantom in series:
        cyst = phantom.masks["cyst"] & ~phantom.masks["tumour"]
        assert cyst.any()
        assert -30 < np.median(phantom.twin[cyst]) < 60
        assert np.abs(phantom.image - phantom.twin)[phantom.masks["cyst"]].mean() < 25


def test_tumours_are_not_water(series):
    solid = [p for p in series if p.facts["tumour_kind"] in ("papillary", "chromophobe")]
    assert all(np.median(p.image[p.mask]) > 30 for p in solid)


def test_the_report_says_what_is_there(series):
    assert drawn(0, ()).report == "Both kidneys are unremarkable."
    for phantom in series:
        facts = phantom.facts
        assert f"{facts['tumour_size_mm']:.0f} mm mass of the {facts['tumour_side']} kidney" in phantom.report
        assert facts["tumour_growth"] in phantom.report
        assert "yst" in phantom.report
        assert "mass" not in drawn(0, ("cyst",)).report
