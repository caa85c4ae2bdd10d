"""What a fundus phantom promises: lesions that are where it says, a twin without them, and the same eye again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from counterscan.data.archive import write_phantoms
from counterscan.data.layouts.base import GRADES
from counterscan.data.manifest import read_manifest
from counterscan.data.phantoms import fundus
from counterscan.data.phantoms.fundus_lesions import LEVELS

BOTH = ("dr", "drusen")


def drawn(seed, findings=BOTH, size=128):
    return fundus.draw(np.random.default_rng(seed), size, tuple(findings))


def change(phantom):
    return np.abs(phantom.image - phantom.twin).max(0)


@pytest.fixture(scope="module")
def series():
    return [drawn(seed, ("dr",)) for seed in range(60)]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32), findings=st.sets(st.sampled_from(BOTH)), size=st.sampled_from([64, 96, 128, 256]))
def test_every_phantom_keeps_its_promises(seed, findings, size):
    phantom = drawn(seed, sorted(findings), size)
    for image in (phantom.image, phantom.twin):
        assert image.shape == (3, size, size)
        assert image.dtype == np.float32
        assert image.min() >= 0
        assert image.max() <= 255
        assert not image[:, 0, 0].any()  # beyond the camera's circle
    assert phantom.labels == {name: int(name in findings) for name in fundus.CLASSES}
    assert {name for name in phantom.masks if name in fundus.CLASSES} == findings
    assert all(mask.dtype == bool and mask.shape == (size, size) and mask.any() for mask in phantom.masks.values())
    assert phantom.disease == ("dr",)


def test_the_same_generator_draws_the_same_phantom():
    first, second = drawn(3), drawn(3)
    assert np.array_equal(first.image, second.image)
    assert first.facts == second.facts
    assert not np.array_equal(first.image, drawn(4).image)


def test_the_largest_size_shows_the_same_eye():
    large, small = drawn(5, (), 512), drawn(5, (), 128)
    mean = large.image.reshape(3, 128, 4, 128, 4).mean((2, 4))
    assert np.corrcoef(mean.ravel(), small.image.ravel())[0, 1] > 0.98
    assert large.facts["laterality"] == small.facts["laterality"]


def test_without_retinopathy_image_and_twin_are_one():
    for findings in ((), ("drusen",)):
        phantom = drawn(1, findings)
        assert np.array_equal(phantom.image, phantom.twin)
        assert phantom.facts["grade"] == "no_dr"
        assert "no diabetic retinopathy" in phantom.report


def test_the_patient_is_the_same_whatever_is_found():
    for seed in range(4):
        both = drawn(seed)
        assert np.array_equal(both.twin, drawn(seed, ("drusen",)).image)
        assert np.array_equal(drawn(seed, ("dr",)).twin, drawn(seed, ()).image)
        assert both.facts["laterality"] == drawn(seed, ()).facts["laterality"]


def test_drusen_stay_in_the_twin_and_change_nothing_elsewhere():
    for seed in range(4):
        with_them, without = drawn(seed, ("drusen",)), drawn(seed, ())
        mask = with_them.masks["drusen"]
        brighter = (with_them.twin - without.twin).mean(0)
        assert brighter[mask].mean() > 4
        assert not brighter[~ndimage.binary_dilation(mask, iterations=6)].any()


@pytest.mark.parametrize("size", [64, 128, 256])
def test_image_and_twin_differ_where_the_mask_is_and_nowhere_else(size):
    for seed in range(8):
        phantom = drawn(seed, ("dr",), size)
        differs, mask = change(phantom), phantom.masks["dr"]
        reach = 4 + size // 64  # the optics' blur and what is too faint to be marked
        assert not differs[~ndimage.binary_dilation(mask, np.ones((3, 3)), iterations=reach)].any()
        assert (differs[mask] > 0).mean() > 0.99
        assert differs[mask].mean() > 8 * differs[~mask].mean()


def test_the_mask_is_the_union_of_the_kinds(series):
    for phantom in series:
        kinds = [phantom.masks[kind] for kind in LEVELS if kind in phantom.masks]
        assert np.array_equal(np.logical_or.reduce(kinds), phantom.masks["dr"])
        for kind in LEVELS:
            pieces = ndimage.label(phantom.masks[kind])[1] if kind in phantom.masks else 0
            assert (phantom.facts[f"{kind}_count"] > 0) == (pieces > 0)


def test_grades_and_lesions_agree(series):
    assert {phantom.facts["grade"] for phantom in series} == {"mild", "moderate", "severe", "proliferative"}
    for phantom in series:
        facts = phantom.facts
        present = {kind for kind in LEVELS if facts[f"{kind}_count"]}
        proliferative = {"neovascularisation", "preretinal_haemorrhage"} & present
        assert (facts["grade"] == "mild") == (present == {"microaneurysms"})
        assert (facts["grade"] == "proliferative") == bool(proliferative)
        assert facts["grade"] != "severe" or facts["haemorrhages_count"] >= 15


def test_blood_is_darker_and_exudates_are_brighter_than_the_healthy_eye(series):
    for phantom in series:
        green = phantom.image[1] - phantom.twin[1]
        bright = np.zeros_like(phantom.masks["dr"])
        for kind in {"exudates", "cotton_wool_spots"} & set(phantom.masks):
            assert green[phantom.masks[kind]].mean() > 5
            bright |= phantom.masks[kind]
        assert green[phantom.masks["microaneurysms"] & ~bright].mean() < -3


def test_the_disc_lies_towards_the_nose(series):
    """A right eye has its disc, the brightest place of a healthy fundus, on the viewer's right of the fovea."""
    agree = []
    for phantom in series:
        if phantom.facts["centred"] == "between":
            green = ndimage.gaussian_filter(phantom.twin[1], 4)
            column = np.unravel_index(green.argmax(), green.shape)[1]
            agree.append((column > 64) == (phantom.facts["laterality"] == "right"))
    assert len(agree) > 20
    assert np.mean(agree) > 0.85


def test_the_report_says_what_is_there(series):
    for phantom in series:
        assert phantom.report.startswith(f"{phantom.facts['laterality'].capitalize()} eye: ")
        assert fundus.SEVERITIES[GRADES.index(phantom.facts["grade"])] in phantom.report
        assert ("hard exudates" in phantom.report) == (phantom.facts["exudates_count"] > 0)
    assert drawn(0).report.endswith("Drusen at the macula.")


def test_an_archive_offers_its_grades_to_training_instead_of_its_labels(tmp_path):
    out = write_phantoms("fundus", 40, tmp_path / "a", size=64, seed=3)
    plain, graded = read_manifest(out), read_manifest(out, out / "grades.toml")
    assert graded.classes == GRADES
    assert graded.exclusive
    assert graded.normal == "no_dr"
    assert [graded.diseased(case) for case in graded.cases] == [plain.diseased(case) for case in plain.cases]
    for seen, told in zip(plain.cases, graded.cases, strict=True):
        assert told.labels[seen.facts["grade"]] == 1
        assert sum(told.labels.values()) == 1
        assert told.facts["drusen"] == str(seen.labels["drusen"])
