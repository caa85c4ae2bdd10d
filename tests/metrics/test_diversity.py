from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from counterscan.metrics.closeness import multiscale
from counterscan.metrics.diversity import drawn_pairs, pair_likeness


@given(st.lists(st.sampled_from(["", "a", "b", "c"]), max_size=40), st.integers(1, 20), st.integers(0, 5))
def test_each_image_is_in_one_pair_at_most_and_no_pair_is_of_one_patient(patients, most, seed):
    pairs = drawn_pairs(patients, most, seed)
    assert pairs == drawn_pairs(patients, most, seed)
    assert len(pairs) <= most
    assert all(count == 1 for count in Counter(index for pair in pairs for index in pair).values())
    assert all(not patients[a] or patients[a] != patients[b] for a, b in pairs)


def test_without_names_nearly_all_images_are_paired():
    assert len(drawn_pairs([""] * 41, 99)) == 20
    assert len(drawn_pairs([""] * 41, 5)) == 5


def test_the_likeness_of_pairs_is_their_mean_and_a_collapsed_set_has_one():
    images = torch.rand(20, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    pairs, seen = drawn_pairs([""] * 20), []
    found = pair_likeness(lambda some: images[list(some)], pairs, seen.append)
    wanted = [float(multiscale(images[a : a + 1], images[b : b + 1])[0]) for a, b in pairs]
    assert found.value == pytest.approx(np.mean(wanted))
    assert (found.n, seen[-1]) == (10, 10)
    same = pair_likeness(lambda some: images[:1].expand(len(some), -1, -1, -1), pairs)
    assert same.value == pytest.approx(1)
    assert np.isnan(pair_likeness(lambda some: images[list(some)], []).value)
