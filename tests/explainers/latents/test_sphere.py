"""Descent on the sphere: it finds a direction that is known, and each latent goes its own way."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from counterscan.errors import CounterscanError
from counterscan.explainers.latents.sphere import Descent, Score
from counterscan.priors.generator import on_sphere


def start_of(tiles, n=6, seed=0):
    return tiles.draw(n, torch.Generator().manual_seed(seed))


def towards(direction):
    """An objective that goes for one direction, and is done within about 8 degrees."""

    def objective(images, latents, rows):
        loss = 1 - torch.nn.functional.cosine_similarity(latents, direction[None])
        return Score(loss, loss < 0.01)

    return objective


def test_it_finds_the_known_direction_from_any_start(tiles):
    first = torch.zeros(tiles.latents)
    first[0] = 1
    found = Descent(steps=100, rate=0.15)(tiles, start_of(tiles, 40), towards(first))
    assert found.done.all()
    assert (found.loss < 0.01).all()


def test_the_image_pulls_where_only_the_image_is_asked(tiles):
    def dark(images, latents, rows):
        return Score(images[:, 0, :4, :4].flatten(1).mean(1), torch.zeros(len(rows), dtype=torch.bool))

    start = start_of(tiles)
    found = Descent(steps=60)(tiles, start, dark)
    assert (found.latents[:, 0] < start[:, 0] - 1).all()
    assert torch.allclose(found.latents[:, 0], torch.full((6,), -4.0), atol=0.2), "all of the length lies there"


@given(rate=st.floats(0.01, 1.0), seed=st.integers(0, 100))
@settings(max_examples=10, deadline=None)
def test_it_never_leaves_the_sphere(rate, seed):
    start = on_sphere(torch.randn(3, 8, generator=torch.Generator().manual_seed(seed)))

    def objective(images, latents, rows):
        assert torch.allclose(latents.norm(dim=1), torch.full((len(rows),), 8**0.5), atol=1e-4)
        return Score(latents[:, 0] ** 3 - latents[:, 1], torch.zeros(len(rows), dtype=torch.bool))

    Descent(steps=5, rate=rate)(lambda latents: latents, start, objective)


def test_a_first_step_turns_by_about_the_rate_whatever_the_loss_is_scaled_by(tiles):
    for scale in (1e-4, 1.0, 1e4):

        def objective(images, latents, rows, scale=scale):
            return Score(-scale * latents[:, 0], torch.zeros(len(rows), dtype=torch.bool))

        start = start_of(tiles)
        found = Descent(steps=1, rate=0.1)(tiles, start, objective)
        angle = torch.nn.functional.cosine_similarity(start, found.latents).acos()
        assert torch.allclose(angle, torch.full((6,), 0.1), atol=2e-3)


def test_one_that_is_done_leaves_at_once_and_the_others_go_on_as_if_alone(tiles):
    direction = torch.ones(tiles.latents)
    start = torch.cat([on_sphere(direction[None]), start_of(tiles, 4)])
    seen = []

    def objective(images, latents, rows):
        seen.append(rows.tolist())
        return towards(direction)(images, latents, rows)

    together = Descent(steps=30)(tiles, start, objective)
    assert together.steps[0] == 0
    assert torch.equal(together.latents[0], start[0])
    assert all(0 not in rows for rows in seen[1:])
    for row in range(1, 5):
        alone = Descent(steps=30)(tiles, start[row : row + 1], towards(direction))
        assert torch.allclose(alone.latents[0], together.latents[row], atol=1e-4)
        assert alone.steps[0] == together.steps[row]


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_the_size_of_the_batch_changes_no_result(tiles, batch):
    direction = torch.arange(tiles.latents).float() - 5
    start = start_of(tiles, 7)
    usual = Descent(steps=25, batch=5)(tiles, start, towards(direction))
    other = Descent(steps=25, batch=batch)(tiles, start, towards(direction))
    assert torch.allclose(usual.latents, other.latents, atol=1e-4)
    assert torch.equal(usual.steps, other.steps)
    assert torch.equal(usual.done, other.done)


def test_no_more_than_the_batch_goes_through_the_generator_at_once(tiles):
    sizes = []

    def counted(latents):
        sizes.append(len(latents))
        return tiles(latents)

    Descent(steps=3, batch=4)(counted, start_of(tiles, 10), towards(torch.ones(tiles.latents)))
    assert max(sizes) == 4


def test_the_best_is_kept_where_later_steps_are_worse(tiles):
    def away(images, latents, rows):
        loss = -latents[:, 0] if counter.append(len(rows)) or len(counter) < 3 else latents[:, 0] + 100
        return Score(loss, torch.zeros(len(rows), dtype=torch.bool))

    counter = []
    found = Descent(steps=10)(tiles, start_of(tiles, 1), away)
    assert found.loss[0] < 50
    assert not found.done.any()
    assert found.steps[0] == 10


def test_it_leaves_its_start_as_it_was(tiles):
    start = start_of(tiles)
    before = start.clone()
    Descent(steps=3)(tiles, start, towards(torch.ones(tiles.latents)))
    assert torch.equal(start, before)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"rate": 0.0}, {"rate": 2.0}, {"batch": 0}])
def test_settings_that_do_not_descend_are_refused(wrong):
    with pytest.raises(CounterscanError, match="steps >= 1"):
        Descent(**wrong)
