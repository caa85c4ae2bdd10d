"""Levels fall to nothing, timesteps are found by their levels, and the schedules are those of the libraries."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from counterscan.errors import CounterscanError
from counterscan.priors.schedules import cosine, karras, linear, scaled_linear

SCHEDULES = {"linear": linear, "scaled_linear": scaled_linear, "cosine": cosine}
every_schedule = pytest.mark.parametrize("name", SCHEDULES)


@settings(deadline=None)
@given(st.integers(2, 60), st.floats(1e-3, 1), st.floats(2, 100), st.floats(1, 9))
def test_karras_falls_from_the_highest_to_nothing(steps, lowest, highest, rho):
    levels = karras(steps, lowest, highest, rho)
    assert levels.shape == (steps + 1,)
    assert (levels.diff() < 0).all()
    torch.testing.assert_close(levels[[0, -2, -1]], torch.tensor([highest, lowest, 0.0]))


def test_one_step_starts_at_the_highest():
    assert karras(1).tolist() == [80, 0]


@every_schedule
def test_a_timestep_is_found_by_its_level(name):
    schedule = SCHEDULES[name]()
    for interpolated in (False, True):
        found = schedule.timestep(schedule.sigmas.float(), interpolated=interpolated)
        torch.testing.assert_close(found.double(), torch.arange(1000.0).double(), atol=1e-2, rtol=0)


def test_between_two_levels():
    schedule = linear()
    between = (schedule.sigmas[40].log() * 0.7 + schedule.sigmas[41].log() * 0.3).exp()[None]
    assert schedule.timestep(between).tolist() == [40]
    assert schedule.timestep(between, interpolated=True).item() == pytest.approx(40.3, abs=1e-3)
    ends = torch.tensor([1e-9, 1e9])
    assert schedule.timestep(ends).tolist() == schedule.timestep(ends, interpolated=True).tolist() == [0, 999]


@pytest.mark.parametrize("steps", [10, 20, 25, 50, 100, 200, 250])
def test_the_papers_respacing_comes_back(steps):
    timesteps = linear().respaced(steps)
    assert (timesteps * steps // 1000).tolist() == list(reversed(range(steps)))


def test_the_papers_late_start():
    """Of 200 timesteps the paper skips 100: it starts at timestep 497, where 8 % of the signal's power is left."""
    schedule = linear()
    assert schedule.respaced(200)[100] == 497
    assert schedule.alpha_bar[497] == pytest.approx(0.0802, abs=1e-4)
    levels = schedule.levels(200)[100:]
    assert len(levels) == 101
    assert levels[-1] == 0


@pytest.mark.parametrize("steps", [0, 1001])
def test_steps_that_cannot_be(steps):
    with pytest.raises(CounterscanError, match="at least 1 and at most 1000"):
        linear().levels(steps)


@pytest.mark.parametrize(("name", "theirs"), [("linear", "linear_beta"), ("cosine", "cosine")])
def test_as_monai_has_them(name, theirs):
    schedulers = pytest.importorskip("monai.networks.schedulers")
    expected = schedulers.DDPMScheduler(schedule=theirs).alphas_cumprod.double()
    torch.testing.assert_close(SCHEDULES[name]().alpha_bar, expected, atol=1e-6, rtol=2e-4)


def test_as_monai_has_the_one_of_latent_diffusion():
    schedulers = pytest.importorskip("monai.networks.schedulers")
    theirs = schedulers.DDPMScheduler(schedule="scaled_linear_beta", beta_start=0.00085, beta_end=0.012)
    torch.testing.assert_close(scaled_linear().alpha_bar, theirs.alphas_cumprod.double(), atol=1e-6, rtol=2e-4)
