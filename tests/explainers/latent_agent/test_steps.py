"""The smallest step that meets linear demands is the smallest, whatever is measured and however many there are."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from counterscan.core import Target
from counterscan.explainers.latent_agent.steps import PAST, Demand, newton, smallest_step, sparse_step

ONE = torch.tensor([True])


def drawn(seed, m=1, d=6, b=3):
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(d, d, generator=generator) + 2 * torch.eye(d)
    return torch.randn(b, m, d, generator=generator), torch.randn(b, m, generator=generator), root @ root.T


seeds = st.integers(0, 10_000)


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_one_exact_demand_has_the_closed_form_and_no_step_of_the_same_length_does_better(seed):
    slopes, lack, _ = drawn(seed)
    step = smallest_step(slopes, slopes, lack, ONE)
    w = slopes[:, 0]
    assert torch.allclose(step, lack * w / w.square().sum(1, keepdim=True), atol=1e-5)
    assert torch.allclose((step * w).sum(1), lack[:, 0], atol=1e-4)
    other = torch.randn(3, 50, 6)
    other *= (step.norm(dim=1)[:, None] / other.norm(dim=2))[..., None]
    assert (torch.einsum("bnd,bd->bn", other, w).abs() <= lack.abs() + 1e-5).all()


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_the_mahalanobis_step_uses_the_covariance(seed):
    slopes, lack, spread = drawn(seed)
    step = smallest_step(slopes, slopes @ spread, lack, ONE)
    w = slopes[:, 0]
    expected = lack * (w @ spread) / (w @ spread * w).sum(1, keepdim=True)
    assert torch.allclose(step, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_several_demands_are_met_by_the_step_that_a_solver_finds(m, seed):
    slopes, lack, spread = drawn(seed, m)
    exact = torch.tensor([True] + [False] * (m - 1))
    step = smallest_step(slopes, slopes @ spread, lack, exact).double().numpy()
    inverse = np.linalg.inv(spread.double().numpy())
    for a, c, found in zip(slopes.double().numpy(), lack.double().numpy(), step, strict=True):
        rules = [
            {"type": "eq" if row == 0 else "ineq", "fun": lambda x, row=row, a=a, c=c: a[row] @ x - c[row]}
            for row in range(m)
        ]
        best = minimize(lambda x: x @ inverse @ x, np.zeros(6), constraints=rules, options={"ftol": 1e-12})
        assert found @ inverse @ found == pytest.approx(best.fun, rel=1e-3, abs=1e-6)
        assert (a @ found - c >= -1e-4).all()


def test_several_exact_demands_are_the_pseudo_inverse():
    slopes, lack, _ = drawn(1, 3)
    step = smallest_step(slopes, slopes, lack, torch.ones(3, dtype=torch.bool))
    assert torch.allclose(step, (torch.linalg.pinv(slopes) @ lack[..., None])[..., 0], atol=1e-4)


def test_two_answers_that_are_one_and_the_same_demand_contradict_nothing():
    slopes, lack, _ = drawn(2)
    both = smallest_step(slopes.repeat(1, 2, 1), slopes.repeat(1, 2, 1), lack.abs().repeat(1, 2), ONE.repeat(2))
    assert torch.allclose(both, smallest_step(slopes, slopes, lack.abs(), ONE), atol=1e-4)


@given(seeds, st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_a_sparse_step_has_so_many_entries_and_is_the_shortest_of_these(seed, entries):
    slopes, lack, _ = drawn(seed)
    step = sparse_step(slopes, lack, ONE, entries)
    assert ((step != 0).sum(1) == entries).all()
    assert torch.allclose((step * slopes[:, 0]).sum(1), lack[:, 0], atol=1e-4)
    for w, c, length in zip(slopes[:, 0], lack[:, 0], step.norm(dim=1), strict=True):
        every = [float(c.abs() / w[list(kept)].norm()) for kept in itertools.combinations(range(6), entries)]
        assert length <= min(every) * 1.001


def test_what_is_barred_stays():
    slopes, lack, _ = drawn(3)
    barred = torch.zeros(3, 6, dtype=torch.bool)
    barred[:, :4] = True
    step = sparse_step(slopes, lack, ONE, 2, barred)
    assert (step[:, :4] == 0).all()
    assert torch.allclose((step * slopes[:, 0]).sum(1), lack[:, 0], atol=1e-4)


def test_a_target_says_what_has_to_rise_and_what_is_met_already():
    answers = torch.tensor([[2.0, -1.0], [-3.0, 4.0]])
    demand = Demand.of(Target(((0, 0.0), (1, 0.5))), answers)
    assert demand.sign.tolist() == [[-1, 1], [-1, -1]]
    assert demand.exact.tolist() == [False, True]
    assert demand.met(answers).tolist() == [-2, -4]
    lack = demand.lack(answers)
    assert torch.allclose(lack, torch.tensor([[2 + PAST, 1.0], [-3 + PAST, 4.0]]))


def test_newton_comes_to_the_nearest_point_of_a_curved_border():
    latents = torch.tensor([[0.5, 0.2], [1.0, -2.0], [-0.3, 0.1]])
    demand = Demand(torch.ones(3, 1), torch.zeros(1), ONE)

    def look(step):  # the border is a circle of radius 3
        moved = latents + step
        return (moved.square().sum(1, keepdim=True) - 9) / 3, (2 * moved / 3)[:, None]

    step = newton(look, demand, lambda slopes, lack: smallest_step(slopes, slopes, lack, ONE), latents, linear=False)
    assert torch.allclose((latents + step).norm(dim=1), torch.full((3,), 3.0), atol=1e-3)
    assert torch.allclose(step.norm(dim=1), 3 - latents.norm(dim=1), rtol=0.02)
