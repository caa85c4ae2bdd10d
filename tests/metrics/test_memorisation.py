import numpy as np
import pytest
import torch

from counterscan.errors import CounterscanError
from counterscan.metrics import memorisation
from counterscan.metrics.memorisation import nearest, nearness, repeats


def drawn(n, seed, d=6):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("itself", [False, True])
def test_the_nearest_is_that_of_all_distances_however_they_are_cut(itself, monkeypatch):
    monkeypatch.setattr(memorisation, "ROWS", 7)
    features = drawn(30, 0) + 1e4
    reference = features if itself else drawn(23, 1) + 1e4
    far = np.linalg.norm(features.double().numpy()[:, None] - reference.double().numpy(), axis=2)
    if itself:
        np.fill_diagonal(far, np.inf)
    distances, places = nearest(features, reference, itself=itself)
    np.testing.assert_allclose(distances, far.min(1), rtol=1e-9)
    np.testing.assert_array_equal(places, far.argmin(1))


def test_copies_are_told_even_where_few_are_made():
    trained, other = drawn(400, 0), drawn(200, 1)
    copied = nearness(torch.cat([drawn(95, 2), trained[:5] + 1e-4]), other, trained)
    assert copied.shares[1].value >= 0.05
    assert copied.copied == 5
    assert not copied.alarming, "five among a hundred might be chance but for how near they are"
    assert sorted(np.argsort(copied.made)[:5]) == [95, 96, 97, 98, 99]
    assert list(copied.nearest[95:]) == [0, 1, 2, 3, 4]
    whole = nearness(trained[:100], other, trained)
    assert whole.shares[1].value == whole.shares[5].value == whole.closer.value == 1
    assert whole.alarming
    assert whole.to_dict()["copied"] == 100


def test_fresh_images_are_no_nearer_than_others_and_their_chance_is_even():
    chances, shares = [], []
    for seed in range(40):
        one = nearness(drawn(60, 3 * seed), drawn(100, 3 * seed + 1), drawn(80, 3 * seed + 2))
        chances.append(one.chances[5])
        shares.append(one.shares[5].value)
        assert not one.copied
    assert np.mean(np.array(chances) < 0.05) <= 0.15
    assert 0.4 < np.mean(chances) < 0.8  # a discrete law: above a half
    assert np.mean(shares) == pytest.approx(0.05, abs=0.025)


def test_one_image_over_and_over_repeats_itself():
    real, made = drawn(100, 0), drawn(1, 1) + drawn(100, 2) * 1e-3
    assert repeats(made, real).shares[1].value == 1
    assert repeats(made, real).alarming
    assert not repeats(drawn(100, 3), real).alarming


def test_sets_that_cannot_be_compared_are_refused():
    with pytest.raises(CounterscanError, match="0 made and 5 real"):
        nearness(drawn(0, 0), drawn(5, 1), drawn(5, 2))
    with pytest.raises(CounterscanError, match="at least 3"):
        repeats(drawn(2, 0), drawn(5, 1))
    with pytest.raises(CounterscanError, match="cannot compare"):
        nearest(drawn(3, 0), drawn(3, 0, d=5))
