"""What an OCT phantom promises: one disease at most, where it says, and the same retina and speckle without it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterscan.data.phantoms import oct, oct_anatomy, oct_lesions

DISEASES = ("cnv", "drusen", "dme")
KINDS = {
    "cnv": {"ped", "membrane", "subretinal_fluid", "intraretinal_fluid"},
    "drusen": {"deposits"},
    "dme": {"intraretinal_fluid", "subretinal_fluid", "foci"},
}


def drawn(seed, disease=None, size=128):
    return oct.draw(np.random.default_rng(seed), size, (disease,) if disease else ())


@pytest.fixture(scope="module", params=DISEASES)
def series(request):
    return request.param, [drawn(seed, request.param) for seed in range(40)]


@settings(max_examples=24, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    disease=st.sampled_from((None, "normal", *DISEASES)),
    size=st.sampled_from([64, 96, 128, 256]),
)
def test_every_phantom_keeps_its_promises(seed, disease, size):
    phantom = drawn(seed, disease, size)
    for image in (phantom.image, phantom.twin):
        assert image.shape == (size, size)
        assert image.dtype == np.float32
        assert 0 <= image.min() < 60
        assert 120 < image.max() <= 255
    assert phantom.labels == {name: int(name == (disease or "normal")) for name in oct.CLASSES}
    assert all(mask.dtype == bool and mask.shape == (size, size) and mask.any() for mask in phantom.masks.values())
    assert phantom.disease == DISEASES
    assert phantom.facts["laterality"] in ("left", "right")


def test_the_same_generator_draws_the_same_phantom():
    first, second = drawn(3, "cnv"), drawn(3, "cnv")
    assert np.array_equal(first.image, second.image)
    assert first.facts == second.facts
    assert not np.array_equal(first.image, drawn(4, "cnv").image)


def test_a_phantom_has_one_disease_at_most():
    with pytest.raises(AssertionError, match="one disease"):
        oct.draw(np.random.default_rng(0), 64, ("cnv", "dme"))


def test_without_disease_image_and_twin_are_one():
    phantom = drawn(1)
    assert np.array_equal(phantom.image, phantom.twin)
    assert phantom.masks == {}
    assert not phantom.mask.any()
    assert oct.draw(np.random.default_rng(1), 128, ("normal",)).report == phantom.report


def test_the_patient_is_the_same_with_and_without_findings():
    for seed in range(5):
        healthy = drawn(seed)
        for disease in DISEASES:
            ill = drawn(seed, disease)
            assert np.array_equal(ill.twin, healthy.image)
            for fact in ("laterality", "scan_position", "device", "pixel_um_across", "pixel_um_deep"):
                assert ill.facts[fact] == healthy.facts[fact]


def test_the_largest_size_shows_the_same_patient_and_lesion():
    for disease in DISEASES:
        large, small = drawn(5, disease, 512), drawn(5, disease, 128)
        assert large.facts["device"] == small.facts["device"]
        mean = large.twin.reshape(128, 4, 128, 4).mean((1, 3))
        assert np.corrcoef(mean.ravel(), small.twin.ravel())[0, 1] > 0.9
        assert large.mask.mean() == pytest.approx(small.mask.mean(), rel=0.35)


def test_columns_without_any_lesion_are_equal_to_the_bit(series):
    disease, phantoms = series
    for phantom in phantoms:
        change = phantom.image != phantom.twin
        columns = np.nonzero(phantom.mask.any(0))[0]
        away = np.ones(128, bool)
        reach = int({"cnv": 1200, "drusen": 600, "dme": 1800}[disease] / phantom.facts["pixel_um_across"])
        away[max(columns[0] - reach, 0) : columns[-1] + reach] = False
        assert not change[:, away].any()
    untouched = [(p.image == p.twin).all(0).mean() for p in phantoms]
    assert np.median(untouched) > {"cnv": 0.25, "drusen": 0.25, "dme": 0.15}[disease]


def test_vitreous_and_margins_stay_as_they_are(series):
    for phantom in series[1]:
        assert np.array_equal(phantom.image[0], phantom.twin[0])
        assert (phantom.image == phantom.twin).mean() > 0.4


def test_masks_are_where_image_and_twin_differ(series):
    disease, phantoms = series
    inside = [(p.image != p.twin)[p.mask].mean() for p in phantoms]
    assert min(inside) > 0.9
    nearer = [np.abs(p.image - p.twin)[p.mask].mean() / np.abs(p.image - p.twin)[~p.mask].mean() for p in phantoms]
    assert np.median(nearer) > 2.5
    assert disease in phantoms[0].masks


def test_the_disease_is_the_union_of_its_kinds_of_lesion(series):
    disease, phantoms = series
    for phantom in phantoms:
        kinds = [mask for name, mask in phantom.masks.items() if name != disease]
        assert np.array_equal(phantom.masks[disease], np.logical_or.reduce(kinds))
        assert np.array_equal(phantom.mask, phantom.masks[disease])
    seen = {name for phantom in phantoms for name in phantom.masks} - {disease}
    assert seen == KINDS[disease]


def test_lesions_are_large_enough_to_be_seen(series):
    _, phantoms = series
    assert min(p.mask.sum() for p in phantoms) >= 10
    assert len({p.facts["severity"] for p in phantoms}) == 3


def test_fluid_is_dark_and_membranes_are_bright():
    wet = [drawn(seed, "cnv") for seed in range(20)]
    for phantom in wet:
        if "subretinal_fluid" in phantom.masks and phantom.masks["subretinal_fluid"].sum() > 40:
            fluid, membrane = (phantom.image[phantom.masks[name]] for name in ("subretinal_fluid", "membrane"))
            assert np.median(fluid) < np.median(membrane)


def test_disease_thickens_the_retina():
    for seed in range(10):
        healthy, ill = drawn(seed), drawn(seed, "dme")
        assert ill.facts["central_thickness_um"] >= healthy.facts["central_thickness_um"]
        assert ill.facts["dme_thickening_um"] > 30


def test_the_fovea_is_a_pit_and_lies_where_the_scan_says():
    for seed in range(30):
        eye = oct_anatomy.draw(np.random.default_rng(seed), 128)
        thickness = eye.tissue.thick.sum(0)
        at = eye.column(eye.fovea)
        rim = thickness[np.abs(np.abs(eye.x - eye.fovea) - 1000) < 150].mean()
        if eye.position == "foveal":
            assert 150 < thickness[at] < 320
            assert rim - thickness[at] > 40
        elif eye.position == "perifoveal":
            assert abs(rim - thickness[at]) < 60
        assert abs(int(eye.away.argmin()) - at) <= 1


def test_the_nerve_fibres_are_thicker_towards_the_disc():
    for seed in range(20):
        eye = oct_anatomy.draw(np.random.default_rng(seed), 128)
        fibres = eye.tissue.thick[oct_anatomy.AT["nfl"]]
        right = fibres[-20:].mean() > fibres[:20].mean()
        assert right == (eye.laterality == "right")


@pytest.mark.parametrize("disease", DISEASES)
def test_no_layer_of_a_deformed_retina_crosses_another(disease):
    for seed in range(10):
        eye = oct_anatomy.draw(np.random.default_rng(seed), 128)
        lesion = oct_lesions.DRAW[disease](np.random.default_rng(seed), eye)
        tops = lesion.tissue.tops(eye.bruch)
        assert (np.diff(tops, axis=0) >= 0).all()
        assert tops[0].min() > 0
        assert np.array_equal(tops[-1], eye.bruch)
        assert eye.bruch.max() < 128 * eye.px[0]


def test_the_report_says_what_is_there(series):
    disease, phantoms = series
    said = {"cnv": "Choroidal neovascularisation", "drusen": "Drusen", "dme": "Diabetic macular oedema"}[disease]
    for phantom in phantoms:
        assert phantom.report.startswith(f"{said} of the {phantom.facts['laterality']} eye")
        assert ("subretinal" in phantom.report) == ("subretinal_fluid" in phantom.masks)
    assert drawn(0).report.startswith("Regular retinal layers")
