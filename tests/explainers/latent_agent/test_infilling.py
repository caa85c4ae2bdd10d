"""A region is drawn as its surroundings say, and no larger than it has to be."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from counterscan.explainers.latent_agent.infilling import ROUNDS, Surroundings

MAPS, PLACES = 2, 8
D = MAPS * PLACES**2


def smooth():
    """Codes whose places resemble their neighbours, and their covariance."""
    at = torch.cartesian_prod(torch.arange(PLACES), torch.arange(PLACES)).double()
    near = torch.exp(-torch.cdist(at, at) / 2)
    covariance = torch.kron(torch.eye(MAPS, dtype=torch.float64), near) + 1e-4 * torch.eye(D)
    codes = (
        torch.randn(50, D, generator=torch.Generator().manual_seed(0)).double() @ torch.linalg.cholesky(covariance).T
    )
    return (codes + 0.5).float(), covariance


CODES, COVARIANCE = smooth()
SURROUNDINGS = Surroundings(torch.full((D,), 0.5), torch.linalg.inv(COVARIANCE).float(), MAPS, PLACES)


def region(rows, columns):
    places = torch.zeros(PLACES, PLACES, dtype=torch.bool)
    places[rows, columns] = True
    return places


@given(st.integers(0, 49), st.integers(0, 5), st.integers(0, 5), st.integers(1, 3), st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_what_is_expected_is_the_conditional_mean_and_nothing_else_moves(image, top, left, height, width):
    code, places = CODES[image], region(slice(top, top + height), slice(left, left + width))
    inside = places.flatten().repeat(MAPS).numpy()
    cov, off = COVARIANCE.numpy(), (code.double() - 0.5).numpy()
    expected = 0.5 + cov[np.ix_(inside, ~inside)] @ np.linalg.solve(cov[np.ix_(~inside, ~inside)], off[~inside])
    moved = code + SURROUNDINGS.expected(code, places)
    assert moved[inside].numpy() == pytest.approx(expected, abs=2e-3)
    assert torch.equal(moved[~inside], code[~inside])


def spotted(image, row, column):
    code = CODES[image].clone()
    code.view(MAPS, PLACES, PLACES)[0, row, column] += 8
    return code


def lack_of_spots(codes):
    """What places stand out by, together."""
    return (codes.view(-1, MAPS, PLACES, PLACES)[:, 0] - 5).clamp_min(0).sum((1, 2))


@pytest.mark.parametrize("image", range(5))
def test_a_spot_is_gone_and_only_the_smallest_square_around_it_is_drawn(image):
    code = spotted(image, 3, 4)
    step = SURROUNDINGS.smallest(code, lack_of_spots).view(MAPS, PLACES, PLACES)
    assert lack_of_spots((code + step.flatten())[None]).item() == 0
    rows, columns = torch.nonzero(step.abs().amax(0) > 0, as_tuple=True)
    assert rows.max() - rows.min() == columns.max() - columns.min() == 2
    assert (rows == 3).any()
    assert (columns == 4).any()


def test_several_spots_take_several_squares():
    code = spotted(1, 0, 0)
    code.view(MAPS, PLACES, PLACES)[0, 7, 7] += 8
    step = SURROUNDINGS.smallest(code, lack_of_spots)
    assert lack_of_spots((code + step)[None]).item() == 0
    moved = step.view(MAPS, PLACES, PLACES).abs().amax(0) > 0
    assert moved[0, 0]
    assert moved[7, 7]
    assert moved.sum() <= 18


def test_what_is_there_already_or_cannot_be_had_moves_nothing():
    asked = []

    def never(codes):
        asked.append(len(codes))
        return torch.ones(len(codes))

    assert not SURROUNDINGS.smallest(CODES[0], never).any()
    assert len(asked) <= 3 * ROUNDS
    assert not SURROUNDINGS.smallest(CODES[0], lambda codes: torch.zeros(len(codes))).any()


def test_what_was_taken_out_of_one_code_is_put_into_another():
    code, other = spotted(2, 3, 4), CODES[7]
    finding = -SURROUNDINGS.smallest(code, lack_of_spots)
    moved = (other + SURROUNDINGS.planted(other, finding)).view(MAPS, PLACES, PLACES)
    still = torch.nonzero((finding.view(MAPS, PLACES, PLACES) == 0).all(0).flatten())[:, 0]
    assert torch.equal(moved.flatten(1)[:, still], other.view(MAPS, -1)[:, still])
    assert moved[0].flatten().argmax() == 3 * PLACES + 4
    assert moved[0, 3, 4] > other.view(MAPS, PLACES, PLACES)[0, 3, 4] + 5
