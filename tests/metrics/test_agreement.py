import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from counterscan.metrics.agreement import likeness, linear_correlation, map_similarity, mask_overlap, rank_correlation


def drawn(seed, decimals=2):
    return torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(seed)).round(decimals=decimals)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 3))
def test_rank_correlation_is_spearmans_ties_and_all(seed, decimals):
    first, second = drawn(seed, decimals), drawn(seed + 1, decimals) + drawn(seed, decimals)
    for index, value in enumerate(rank_correlation(first, second)):
        expected = spearmanr(first[index].flatten(), second[index].flatten()).statistic
        assert float(value) == pytest.approx(expected, abs=1e-5)


def test_a_map_that_is_gone_is_another_one_and_two_empty_maps_are_not_comparable():
    empty = torch.zeros(2, 1, 16, 16)
    assert rank_correlation(drawn(0), empty).tolist() == [0, 0]
    assert rank_correlation(empty, empty).isnan().all()
    assert map_similarity(empty, empty).isnan().all()
    assert mask_overlap(empty > 0, empty > 0).isnan().all()


def test_the_scale_of_a_map_plays_no_part():
    assert rank_correlation(drawn(0), 5 * drawn(0)).tolist() == pytest.approx([1, 1])
    assert map_similarity(drawn(0), 5 * drawn(0)).tolist() == pytest.approx([1, 1], abs=1e-5)
    assert map_similarity(drawn(0), drawn(1)).max() < 0.5


def test_a_spot_in_an_empty_image_is_the_same_spot_whatever_faint_remains_lie_around_it():
    spot = torch.zeros(1, 1, 16, 16)
    spot[..., 4:7, 4:7] = 1
    faint = spot + 0.02 * drawn(3)[:1]
    assert rank_correlation(spot, faint).max() < 0.5
    assert linear_correlation(spot, faint).min() > 0.95
    assert likeness(spot, faint).min() > 0.95
    assert likeness(drawn(0), drawn(1)).abs().max() < 0.3


def test_overlap_of_known_masks():
    first = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    second = first.clone()
    first[..., :2, :], second[..., 1:3, :] = True, True
    assert float(mask_overlap(first, second)) == pytest.approx(4 / 12)
