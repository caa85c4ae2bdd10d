"""The chest phantoms: lesions are where the mask says, nowhere else, and everything replays."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from counterscan.data.phantoms import chest

FINDINGS = st.sets(st.sampled_from(chest.CLASSES), max_size=3).map(lambda names: tuple(sorted(names)))


def draw(seed: int, *findings: str, size: int = 96):
    return chest.draw(np.random.default_rng(seed), size, findings)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), findings=FINDINGS, size=st.integers(64, 160))
def test_every_phantom_keeps_the_contract(seed, findings, size):
    phantom = draw(seed, *findings, size=size)
    for image in (phantom.image, phantom.twin):
        assert image.shape == (size, size)
        assert image.dtype == np.float32
        assert image.min() >= 0
        assert image.max() <= 1
        assert image.std() > 0.1
    assert set(phantom.masks) == set(findings)
    assert phantom.labels == {name: int(name in findings) for name in chest.CLASSES}
    assert phantom.disease == chest.CLASSES
    for mask in phantom.masks.values():
        assert mask.shape == (size, size)
        assert mask.dtype == bool
        assert mask.any()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), findings=FINDINGS)
def test_a_phantom_replays_and_its_twin_does_not_depend_on_the_findings(seed, findings):
    first, second, clear = draw(seed, *findings), draw(seed, *findings), draw(seed)
    assert np.array_equal(first.image, second.image)
    assert first.facts == second.facts
    assert np.array_equal(first.twin, clear.image)
    assert np.array_equal(clear.image, clear.twin)


def test_seeds_differ():
    a, b = draw(1), draw(2)
    assert np.abs(a.image - b.image).mean() > 0.02


@pytest.mark.parametrize("finding", chest.CLASSES)
def test_the_change_lies_in_the_mask(finding):
    inside, outside, untouched = [], [], []
    for seed in range(12):
        phantom = draw(seed, finding)
        change, mask = np.abs(phantom.image - phantom.twin), phantom.masks[finding]
        inside.append(change[mask].mean())
        outside.append(change[~ndimage.binary_dilation(mask, iterations=3)].mean())
        untouched.append((change[~mask] == 0).mean())
    assert np.mean(inside) > 0.05
    assert np.mean(inside) > 15 * np.mean(outside)
    assert np.mean(untouched) > 0.7


@pytest.mark.parametrize("finding", ["consolidation", "effusion", "nodule"])
def test_fluid_and_masses_make_the_film_brighter(finding):
    phantom = draw(3, finding)
    mask = phantom.masks[finding]
    assert phantom.image[mask].mean() > phantom.twin[mask].mean() + 0.04


def test_a_pneumothorax_makes_the_film_darker():
    phantom = draw(3, "pneumothorax")
    assert phantom.image[phantom.mask].mean() < phantom.twin[phantom.mask].mean() - 0.03


@pytest.mark.parametrize(("finding", "seed"), list(itertools.product(chest.CLASSES, range(8))))
def test_sides_are_the_patients_and_zones_run_downwards(finding, seed):
    phantom = draw(seed, finding)
    row, column = (at.mean() / 96 for at in np.nonzero(phantom.masks[finding]))
    side, zone = phantom.facts[f"{finding}_side"], phantom.facts[f"{finding}_zone"]
    if side != "both":
        assert (column > 0.5) == (side == "left")
    assert {"upper": row < 0.55, "middle": 0.25 < row < 0.75, "lower": row > 0.45}[zone]
    assert phantom.facts[f"{finding}_area"] == pytest.approx(phantom.masks[finding].mean(), abs=1e-4)


@pytest.mark.parametrize("finding", chest.CLASSES)
def test_severe_disease_is_larger(finding):
    areas = {"small": [], "moderate": [], "large": []}
    for seed in range(24):
        facts = draw(seed, finding, size=64).facts
        areas[facts[f"{finding}_severity"]].append(facts[f"{finding}_area"])
    assert np.mean(areas["large"]) > 1.2 * np.mean(areas["small"])


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), findings=FINDINGS)
def test_the_report_names_what_is_there_and_nothing_else(seed, findings):
    report = draw(seed, *findings, size=64).report.lower()
    assert [name for name in chest.CLASSES if name in report] == [name for name in chest.CLASSES if name in findings]
    assert ("no acute finding" in report) == (not findings)


def test_an_enlarged_heart_measures_more_than_half_the_chest():
    ratios = [draw(seed, "cardiomegaly", size=64).facts["cardiomegaly_ratio"] for seed in range(10)]
    assert min(ratios) > 0.55


def test_a_larger_film_shows_the_same_patient():
    small, large = draw(6, "effusion", size=64), draw(6, "effusion", size=256)
    shrunk = large.twin.reshape(64, 4, 64, 4).mean(axis=(1, 3))
    assert np.corrcoef(shrunk.ravel(), small.twin.ravel())[0, 1] > 0.93


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_fluid_and_free_air_never_hide_a_lesion_of_the_lung(seed):
    phantom = draw(seed, "nodule", "effusion", "pneumothorax", size=64)
    assert not (phantom.masks["nodule"] & (phantom.masks["effusion"] | phantom.masks["pneumothorax"])).any()
    assert phantom.facts["effusion_side"] == phantom.facts["pneumothorax_side"] != phantom.facts["nodule_side"]
