"""The outcome follows its formula, replays, and changes nothing that is seen."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterscan.data.archive import write_phantoms
from counterscan.data.check import check_manifest
from counterscan.data.manifest import read_manifest
from counterscan.data.phantoms import abdomen
from counterscan.data.phantoms.abdomen_outcome import BASE, risk
from counterscan.data.phantoms.base import draw


@pytest.fixture(scope="module")
def series():
    return [draw("abdomen", index, seed=3, size=64) for index in range(60)]


def test_the_risk_is_that_of_the_formula_and_without_a_tumour_the_base_rate(series):
    for phantom in series:
        facts = phantom.facts
        if phantom.labels["tumour"]:
            log_odds = 1.8 * (facts["tumour_size_mm"] - 41) / 10 + 5 * (facts["tumour_centrality"] - 0.25)
            assert facts["risk"] == pytest.approx(1 / (1 + np.exp(-log_odds)), abs=1e-5)
        else:
            assert facts["risk"] == BASE
            assert "tumour_centrality" not in facts


@given(size=st.floats(5, 80), place=st.floats(-1, 1), more=st.floats(0.1, 10))
def test_larger_and_more_central_tumours_do_worse(size, place, more):
    assert 0 < risk(size, place) < risk(size + more, place) < 1
    assert risk(size, place) < risk(size, place + more / 10)


def test_the_place_is_that_of_the_mask_in_its_kidney(series):
    by_growth = {}
    for phantom in series:
        if phantom.labels["tumour"]:
            assert -1 <= phantom.facts["tumour_centrality"] <= 1
            by_growth.setdefault(phantom.facts["tumour_growth"], []).append(phantom.facts["tumour_centrality"])
    medians = {growth: np.median(values) for growth, values in by_growth.items()}
    assert medians["central"] > medians["endophytic"] > medians["exophytic"]
    assert min(by_growth["central"]) > 0.5


def test_the_outcome_is_drawn_with_the_risk(series, monkeypatch):
    drawn = [(phantom.facts["risk"], phantom.facts["poor_outcome"]) for phantom in series]
    assert {outcome for _, outcome in drawn} == {0, 1}
    assert sum(p for p, _ in drawn) == pytest.approx(sum(outcome for _, outcome in drawn), abs=3 * 60**0.5 / 2)
    for certain in (0.0, 1.0):
        monkeypatch.setattr("counterscan.data.phantoms.abdomen_outcome.BASE", certain)
        healthy = abdomen.draw(np.random.default_rng(1), 64, ())
        assert healthy.facts["poor_outcome"] == certain


def test_it_replays_and_is_the_same_whatever_else_is_there():
    first, again = (draw("abdomen", 7, seed=3, size=64) for _ in range(2))
    assert first.facts == again.facts
    with_cyst, without = (abdomen.draw(np.random.default_rng(5), 64, found) for found in (("cyst",), ()))
    assert with_cyst.facts["poor_outcome"] == without.facts["poor_outcome"]


@pytest.mark.parametrize("findings", [("tumour", "cyst"), ("tumour",), ()])
def test_pixels_and_labels_are_the_same_to_the_bit_with_and_without_it(findings, monkeypatch):
    with_it = abdomen.draw(np.random.default_rng(11), 64, findings)
    monkeypatch.setattr(abdomen, "outcome", lambda *_: {})
    without = abdomen.draw(np.random.default_rng(11), 64, findings)
    bare, _ = abdomen.draw_with_kidneys(np.random.default_rng(11), 64, findings)
    for other in (without, bare):
        assert np.array_equal(with_it.image, other.image)
        assert np.array_equal(with_it.twin, other.twin)
        assert with_it.labels == other.labels == {name: int(name in findings) for name in ("tumour", "cyst")}
        assert "poor_outcome" not in other.facts


def test_an_archive_offers_it_to_training_beside_the_labels_that_it_had(tmp_path):
    out = write_phantoms("abdomen", 20, tmp_path / "a", size=64, seed=3)
    plain, prognosis = read_manifest(out), read_manifest(out, out / "prognosis.toml")
    assert plain.classes == ("tumour", "cyst")
    assert prognosis.classes == ("poor_outcome", "tumour", "cyst")
    assert [prognosis.diseased(case) for case in prognosis.cases] == [plain.diseased(case) for case in plain.cases]
    assert prognosis.window == plain.window
    assert check_manifest(prognosis).ok
    for seen, told in zip(plain.cases, prognosis.cases, strict=True):
        assert seen.facts["poor_outcome"] == str(told.labels["poor_outcome"])
        assert float(told.facts["risk"]) == pytest.approx(float(seen.facts["risk"]))


def test_gaussian_anomalies_have_none():
    assert "poor_outcome" not in draw("gaussian", 0, size=64).facts
