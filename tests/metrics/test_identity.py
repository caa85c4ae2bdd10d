"""Whether a counterfactual is still of the same eye, and how a verifier's figures are taken."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from counterscan.core import Card, Explanation, Target
from counterscan.errors import WeightsError
from counterscan.metrics.discrimination import auc
from counterscan.metrics.identity import Pairs, Verifier, identity, load_verifier
from counterscan.metrics.truth import Truth
from counterscan.nets import build
from counterscan.score import printable, score
from counterscan.weights.store import save_weights

SIDE = 16
REACHED = {"value": 0.97, "low": 0.95, "high": 0.99, "n": 90}


class Quarters(nn.Module):
    """Knows an image by the brightness of its quarters."""

    def forward(self, images):
        return F.normalize(F.adaptive_avg_pool2d(images, 2).flatten(1), dim=1)


def verifier(**metrics):
    card = Card(
        name="test/verifier",
        kind="verifier",
        shape=(1, SIDE, SIDE),
        classes=(),
        settings={"threshold": 0.9},
        metrics=metrics,
    )
    return Verifier(Quarters(), card)


def explanation(counterfactual, before=(3.0, 3.0, -3.0), side=SIDE):
    """Three images that are bright on the left; the last one already answers as asked."""
    images = torch.full((3, 1, side, side), -0.5)
    images[..., : side // 2] = 0.5
    before = torch.tensor(before)[:, None]
    target = Target(((0, 0.0),))
    changed = None if counterfactual is None else counterfactual(images)
    return Explanation(
        images=images,
        target=target,
        heatmap=torch.zeros(3, 1, side, side),
        before=before,
        found=target.reached(-before.abs()),
        counterfactual=changed,
        after=None if changed is None else -before.abs(),
        meta={"classes": ["sick"]},
    )


def spot(images):
    changed = images.clone()
    changed[:, :, :3, :3] = -0.5
    return changed


def mirrored_first(images):
    changed = images.clone()
    changed[0] = changed[0].flip(2)
    return changed


def test_a_small_change_keeps_the_identity_and_another_anatomy_does_not():
    kept = identity(explanation(spot), verifier())
    assert kept["identity_kept"][:2].tolist() == [1, 1]
    assert 0.9 < kept["identity_similarity"][0] < 1
    lost = identity(explanation(mirrored_first), verifier())
    assert lost["identity_kept"][:2].tolist() == [0, 1]
    assert lost["identity_similarity"][0] == pytest.approx(-1)


def test_images_already_there_and_maps_without_counterfactual_count_nowhere():
    for values in identity(explanation(mirrored_first), verifier()).values():
        assert values[2].isnan()
    for values in identity(explanation(None), verifier()).values():
        assert values.shape == (3,)
        assert values.isnan().all()


def test_whether_the_true_twin_would_pass_is_told_image_by_image():
    told = explanation(spot)
    found = identity(told, verifier(), Truth(twin=mirrored_first(spot(told.images))))
    assert found["twin_identity_kept"].tolist()[:2] == [0, 1]
    equal = identity(told, verifier(), Truth(twin=told.images))["twin_identity_kept"]
    assert equal.isnan().all(), "a twin that equals its image would always pass"
    assert identity(told, verifier())["twin_identity_kept"].isnan().all(), "nothing is known without a twin"


def test_images_of_another_size_and_in_colour_are_fitted():
    small = verifier()
    large = torch.rand(2, 3, 40, 40)
    assert small(large).shape == (2, 4)
    assert small.similarity(large, large).tolist() == pytest.approx([1, 1])


def test_false_pairs_are_those_of_different_patients():
    rows = F.normalize(torch.randn(4, 6, generator=torch.Generator().manual_seed(0)), dim=1)
    pairs = Pairs.of(rows, rows, ["a", "a", "b", ""])
    assert pairs.true.tolist() == pytest.approx([1, 1, 1, 1])
    assert len(pairs.false) == 4 * 4 - 4 - 2, "neither a pair with itself nor those of the patient with two images"
    some = Pairs.of(rows, rows, ["a", "a", "b", ""], torch.tensor([True, False, True, False]))
    assert len(some.true) == 2
    assert list(some.patients) == ["a", "b"]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 3), st.sampled_from([1, 2, 6]))
def test_figures_agree_with_their_definitions(seed, distance, decimals):
    generator = np.random.default_rng(seed)
    true, false = generator.normal(distance, 1, 40).round(decimals), generator.normal(0, 1, 300).round(decimals)
    figures = Pairs(true, false).figures()
    labels = np.repeat([1.0, 0.0], [40, 300])
    assert figures["auc"].value == pytest.approx(auc(labels, np.concatenate([true, false]), draws=1).value)
    cuts = np.unique(np.concatenate([true, false, [99]]))
    gaps = [(abs((true < cut).mean() - (false >= cut).mean()), cut) for cut in cuts]
    cut = min(gaps)[1]
    tied = [np.unique(scores, return_counts=True)[1].max() / len(scores) for scores in (true, false)]
    off = 0.03 + max(tied)  # pairs that tie at the crossing count half, or all
    assert figures["eer"].value == pytest.approx(((true < cut).mean() + (false >= cut).mean()) / 2, abs=off)
    for figure in figures.values():
        assert figure.low <= figure.value + 1e-9
        assert figure.value <= figure.high + 1e-9
    threshold = Pairs(true, false).threshold(0.1)
    assert (false > threshold).mean() <= 0.1


def test_pairs_that_are_apart_have_no_error_and_equal_ones_are_a_coin():
    apart = Pairs(np.full(20, 0.9), np.linspace(-0.5, 0.5, 500)).figures()
    assert (apart["eer"].value, apart["auc"].value, apart["accepted_at_0.001"].value) == (0, 1, 1)
    same = np.linspace(-1, 1, 400)
    alike = Pairs(same, same).figures()
    assert alike["auc"].value == pytest.approx(0.5)
    assert alike["eer"].value == pytest.approx(0.5, abs=0.01)
    assert alike["accepted_at_0.01"].value == pytest.approx(0.01, abs=0.004)


def test_a_score_says_what_true_pairs_reach_beside_it(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"explainer": "Method()"}))
    explanation(mirrored_first).save(tmp_path / "cases" / "one")
    result = score(tmp_path, verifier=verifier(pairs="true twins", accepted=REACHED))
    assert result["metrics"]["identity_kept"]["value"] == 0.5
    assert result["metrics"]["identity_kept"]["n"] == 2
    assert result["verifier"] == {
        "name": "test/verifier",
        "sha256": "",
        "threshold": 0.9,
        "pairs": "true twins",
        "accepted": REACHED,
    }
    assert "50.0% keep their identity; on the test part of test/verifier true twins reach 97.0%" in printable(result)
    assert "identity_kept" in (tmp_path / "scores.csv").read_text()
    assert "identity" not in printable(score(tmp_path))


def test_what_is_no_verifier_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="is of kind classifier; verifier is needed"):
        load_verifier("fundus/classifier")
    facts = {"channels": 1, "outputs": 4, "widths": [8, 8]}
    card = Card(name="x", kind="verifier", shape=(1, 16, 16), classes=(), network="embedder", settings=facts)
    save_weights(tmp_path, build("embedder", facts), card)
    with pytest.raises(WeightsError, match="no threshold"):
        load_verifier(tmp_path)
