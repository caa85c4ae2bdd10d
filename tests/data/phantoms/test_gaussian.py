"""Gaussian anomalies: where they lie, how large they are, what they change, and that they replay."""

import numpy as np
import pytest

from counterscan.data.phantoms import abdomen, gaussian

LOW, HIGH, _ = gaussian.WINDOW


def drawn(seed, findings=("anomaly",), size=128):
    return gaussian.draw(np.random.default_rng(seed), size, findings)


def unit(pixels):
    return ((pixels - LOW) / (HIGH - LOW)).clip(0, 1)


@pytest.fixture(scope="module")
def series():
    return [drawn(seed) for seed in range(40)]


def test_it_is_a_slice_in_hounsfield_units_with_the_patient_that_it_would_show_without(series):
    for seed, phantom in enumerate(series[:8]):
        assert phantom.image.shape == phantom.twin.shape == (128, 128)
        assert phantom.image.dtype == np.float32
        healthy = drawn(seed, ())
        assert np.array_equal(healthy.image, phantom.twin)
        assert np.array_equal(healthy.twin, phantom.twin)
        assert healthy.labels == {"anomaly": 0}
        assert not healthy.mask.any()


def test_the_label_says_whether_the_mask_is_empty(series):
    assert all(phantom.mask.any() == bool(phantom.labels["anomaly"]) for phantom in series)
    assert sum(phantom.labels["anomaly"] for phantom in series) >= 36, "few slices have two small kidneys"


def test_the_mask_is_where_the_change_is(series):
    for phantom in series:
        change = unit(phantom.image) - unit(phantom.twin)
        room = 1 - unit(phantom.twin)
        # more than a quarter of the template, of nine tenths, or all that is left below the window's upper end
        assert (change >= np.minimum(0.9 * 0.25, room) - 1e-4)[phantom.mask].all()
        assert (change <= 0.9 * 0.25 + 1e-4)[~phantom.mask].all()
        assert (change >= -1e-6).all()


def test_what_no_anomaly_reaches_is_the_twins_to_the_bit(series):
    for phantom in series:
        y, x = np.indices(phantom.image.shape)
        far = np.hypot(y - phantom.facts.get("anomaly_row", 0), x - phantom.facts.get("anomaly_column", 0)) > 7.2
        if phantom.mask.any():
            assert np.array_equal(phantom.image[far], phantom.twin[far])


@pytest.mark.parametrize("size", [128, 256])
def test_the_area_is_as_published(size):
    # radius 0.4 * sqrt(2 ln 4) = 0.666 of ten pixels at 256, a quarter smaller at most, stretched by a fifth at most
    largest = np.pi * (0.4 * np.sqrt(2 * np.log(4)) * 10) ** 2
    areas = [p.mask.sum() * (256 / size) ** 2 for p in (drawn(seed, size=size) for seed in range(24)) if p.mask.any()]
    assert min(areas) > 0.75**2 / 1.2**2 * largest - 4 * (256 / size) ** 2
    assert max(areas) < 1.2**2 * largest + 4 * (256 / size) ** 2
    assert 0.6 * largest < np.mean(areas) < 0.95 * largest


def test_a_template_of_full_size_is_the_published_one():
    class Plain:
        """Draws the largest scale, and neither stretch nor turn."""

        def uniform(self, low, high, n=None):
            return high

        def random(self):
            return 1.0

    blob = gaussian.template(Plain(), 256, 100, 120)
    assert blob[100, 120] == 1
    assert blob[104, 120] == pytest.approx(np.exp(-0.5))
    assert blob[100, 110] == pytest.approx(np.exp(-1 / 0.32))
    assert blob[100, 109] == 0, "it ends at the edge of the template"
    assert np.ptp(np.nonzero((blob > gaussian.SEEN).any(1))) + 1 == 13


def test_every_anomaly_has_its_centre_in_a_kidney(series):
    for seed, phantom in enumerate(series):
        if not phantom.mask.any():
            continue
        for_patient, _ = np.random.default_rng(seed).spawn(2)
        benign = ("cyst",) if for_patient.random() < 0.5 else ()
        _, (right, left) = abdomen.draw_with_kidneys(for_patient, 128, benign)
        kidney = {"right": right, "left": left}[phantom.facts["anomaly_side"]]
        row, column = phantom.facts["anomaly_row"], phantom.facts["anomaly_column"]
        assert kidney[row, column]
        assert phantom.mask[row, column]
        assert (column > 64) == (phantom.facts["anomaly_side"] == "left")


def test_the_kidneys_are_where_kidneys_are():
    bright, dark = [], []
    for seed in range(12):
        phantom, kidneys = abdomen.draw_with_kidneys(np.random.default_rng(seed), 128, ())
        assert np.array_equal(phantom.image, abdomen.draw(np.random.default_rng(seed), 128, ()).image)
        right, left = kidneys
        assert not (right & left).any()
        assert np.nonzero(right)[1].mean() < 64 < np.nonzero(left)[1].mean()
        both = right | left
        bright.append(np.median(phantom.image[both]))
        dark.append(np.median(phantom.image[_ring(both)]))
    assert np.min(bright) > 80, "parenchyma takes up contrast medium"
    assert np.mean(dark) < np.mean(bright) - 80, "and fat lies around it"


def _ring(mask):
    from scipy import ndimage

    return ndimage.binary_dilation(mask, iterations=3) & ~ndimage.binary_dilation(mask, iterations=1)


def test_a_kidney_that_is_too_small_gets_no_anomaly():
    kidney = np.zeros((256, 256), bool)
    kidney[40:61, 50:71] = True
    assert not gaussian.room(kidney).any(), "20 by 20 are not more than 20 by 20"
    kidney[40:62, 50:71] = True
    inside = gaussian.room(kidney)
    assert inside.any()
    assert not inside[40].any()
    assert not inside[61].any(), "the bounding box is shrunk"
    assert not gaussian.room(np.zeros((256, 256), bool)).any()


def test_the_same_generator_draws_the_same_anomaly():
    assert np.array_equal(drawn(5).image, drawn(5).image)
    assert drawn(5).facts == drawn(5).facts
    assert not np.array_equal(drawn(5).image, drawn(6).image)


def test_what_lies_beyond_the_window_stays_as_it_is():
    healthy = np.array([[-1000.0, 100.0, 290.0, 900.0]], np.float32)
    image = gaussian.added(healthy, np.array([[0.0, 0.5, 0.5, 0.5]], np.float32))
    assert image[0, 0] == -1000
    assert image[0, 1] == pytest.approx(100 + 0.45 * (HIGH - LOW), abs=0.01)
    assert image[0, 2] == pytest.approx(HIGH)
    assert image[0, 3] == 900


def test_the_report_names_the_side(series):
    for phantom in series:
        side = phantom.facts.get("anomaly_side")
        assert (f"{side} kidney" in phantom.report) if side else "unremarkable" in phantom.report
