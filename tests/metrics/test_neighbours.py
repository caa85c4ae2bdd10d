import numpy as np
import pytest
import torch

from counterscan.errors import CounterscanError
from counterscan.metrics import neighbours
from counterscan.metrics.neighbours import density_coverage, expected_coverage, precision_recall


def drawn(n, d, seed, mean=0.0, scale=1.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) * scale + mean


def by_hand(real, fake, k):
    """The four definitions with loops: balls around images that reach their k-th neighbour."""
    real, fake = real.double().numpy(), fake.double().numpy()

    def radii(x):
        return [sorted(np.linalg.norm(x - one, axis=1))[k] for one in x]

    own, other = radii(real), radii(fake)
    far = np.array([[np.linalg.norm(x - y) for x in real] for y in fake])  # (m, n)
    inside = far <= np.array(own)
    within = np.array(other) >= far.T
    return {
        "precision": inside.any(1).mean(),
        "recall": within.any(1).mean(),
        "density": inside.sum() / (k * len(fake)),
        "coverage": inside.any(0).mean(),
    }


@pytest.mark.parametrize("offset", [0.0, 3000.0])
def test_they_are_what_their_papers_define(offset, monkeypatch):
    monkeypatch.setattr(neighbours, "ROWS", 7)
    real, fake = drawn(30, 3, 0) + offset, drawn(22, 3, 1, 0.4, 0.7) + offset
    for k in (3, 5):
        found = {**precision_recall(real, fake, k=k), **density_coverage(real, fake, k=k)}
        for name, value in by_hand(real, fake, k).items():
            assert found[name].value == pytest.approx(value), name
    assert found["precision"].n == 22
    assert found["coverage"].n == 30


def test_two_samples_of_one_distribution_have_the_density_and_coverage_expected():
    found = [density_coverage(drawn(60, 4, seed), drawn(45, 4, 700 + seed)) for seed in range(40)]
    coverage = [one["coverage"].value for one in found]
    assert np.mean(coverage) == pytest.approx(expected_coverage(60, 45), abs=4 * np.std(coverage) / 40**0.5)
    density = [one["density"].value for one in found]
    assert np.mean(density) == pytest.approx(1, abs=4 * np.std(density) / 40**0.5)


def test_a_set_that_repeats_one_real_image_is_precise_and_covers_nothing():
    real = drawn(50, 3, 0)
    fake = real[:1] + drawn(50, 3, 1) * 1e-3
    found = {**precision_recall(real, fake), **density_coverage(real, fake)}
    assert found["precision"].value == 1
    assert found["recall"].value <= 0.1
    assert found["coverage"].value <= 0.3


def test_a_set_far_away_has_nothing():
    real = drawn(50, 3, 0)
    found = {**precision_recall(real, real + 100), **density_coverage(real, real + 100)}
    assert {one.value for one in found.values()} == {0.0}


def test_too_few_images_for_their_neighbours():
    with pytest.raises(CounterscanError, match="more than 5 images a side, got 9 real and 5 made"):
        density_coverage(drawn(9, 2, 0), drawn(5, 2, 1))
    with pytest.raises(CounterscanError, match="want"):
        precision_recall(drawn(9, 2, 0), drawn(9, 3, 1))
