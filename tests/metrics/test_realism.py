import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg

from counterscan.errors import CounterscanError
from counterscan.metrics.realism import FeatureStatistics, SplitStatistics, frechet_distance


def gaussian(n, mean, deviations, seed=0):
    """Features of exactly these means and standard deviations, uncorrelated."""
    raw = torch.randn(n, len(mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    raw = raw - raw.mean(0)
    raw = raw @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(raw.T))).T
    return raw * torch.tensor(deviations) + torch.tensor(mean)


def test_two_gaussians_have_the_distance_of_the_closed_form():
    real = gaussian(400, [0.0, 1.0, 5.0], [1.0, 2.0, 0.5])
    fake = gaussian(300, [1.0, 1.0, 3.0], [1.0, 0.5, 0.5], seed=1)
    # means differ by 1, 0 and 2, deviations by 0, 1.5 and 0
    assert frechet_distance(real, fake) == pytest.approx(1 + 4 + 1.5**2, rel=1e-9)
    assert frechet_distance(fake, real) == pytest.approx(frechet_distance(real, fake), rel=1e-9)
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-9)


def test_correlated_features_agree_with_the_square_root_of_a_general_matrix():
    generator = torch.Generator().manual_seed(3)
    mixing = torch.randn(2, 6, 6, generator=generator, dtype=torch.float64)
    real, fake = (torch.randn(200, 6, generator=generator, dtype=torch.float64) @ one for one in mixing)
    first, second = torch.cov(real.T).numpy(), torch.cov(fake.T).numpy()
    shared = linalg.sqrtm(first @ second).real.trace()
    expected = float((real.mean(0) - fake.mean(0)).square().sum()) + first.trace() + second.trace() - 2 * shared
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.floats(-1e6, 1e6))
def test_batches_add_up_to_the_whole_wherever_the_mean_lies(sizes, offset):
    whole = torch.randn(sum(sizes) + 2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + offset
    found = FeatureStatistics()
    for part in whole.split([*sizes, 2]):
        found.add(part)
    assert found.n == len(whole)
    torch.testing.assert_close(found.mean, whole.mean(0), rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(found.covariance, torch.cov(whole.T), rtol=1e-6, atol=1e-6)


def test_few_images_for_many_features_are_warned_about():
    real, fake = torch.randn(50, 20), torch.randn(15, 20)
    with pytest.warns(UserWarning, match="15 images for 20 features"):
        assert math.isfinite(frechet_distance(real, fake))


def test_features_that_do_not_fit_are_refused():
    found = FeatureStatistics()
    found.add(torch.randn(3, 4))
    with pytest.raises(CounterscanError, match=r"\(b, 4\)"):
        found.add(torch.randn(3, 5))
    with pytest.raises(CounterscanError, match="finite"):
        found.add(torch.full((3, 4), math.nan))
    with pytest.raises(CounterscanError, match="two images"):
        frechet_distance(torch.randn(1, 4), torch.randn(9, 4))
    with pytest.raises(CounterscanError, match="4 features with 5"):
        frechet_distance(torch.randn(9, 4), torch.randn(9, 5))


def test_the_split_distance_crosses_the_halves():
    real = torch.randn(80, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    fake = real * 1.5 + 0.2
    patients = [f"{index // 2}" for index in range(80)]  # two images each, so that pairs of rows alternate
    halves = torch.arange(80) // 2 % 2 == 0
    expected = (frechet_distance(real[halves], fake[~halves]) + frechet_distance(real[~halves], fake[halves])) / 2
    found = SplitStatistics()
    for start in range(0, 80, 11):
        part = slice(start, start + 11)
        found.add(real[part], fake[part], patients[part])
    assert found.distance == pytest.approx(expected, rel=1e-9)
    assert found.floor == pytest.approx(frechet_distance(real[halves], real[~halves]), rel=1e-9)


def test_counterfactuals_that_are_their_own_images_gain_nothing_by_it():
    real = torch.randn(60, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = SplitStatistics()
    found.add(real, real)
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-9)
    assert found.distance == pytest.approx(found.floor)
    assert found.distance > 0.01
    with pytest.raises(CounterscanError, match="do not pair"):
        found.add(real, real[:5])
