"""Scans are made of the best draws, moved, judged, and tried again a bounded number of times."""

from dataclasses import replace

import pytest
import torch

from counterscan.classifiers.features import Extractor
from counterscan.core import Target
from counterscan.explainers.latents.sphere import Descent
from counterscan.synthesis.gate import Gate, own_limits
from counterscan.synthesis.making import Making, Slot

NONE = torch.zeros(0, 0)
RARE = Target(((0, 1.0), (1, 1.0), (2, 0.0)))
SLOTS = [Slot(index, target) for index, target in enumerate([RARE, Target(((0, 0.0),)), RARE, Target(((2, 1.0),))])]


@pytest.fixture
def making(tiles, bright):
    judge = bright(bias=-0.3)
    extractor = Extractor.of(judge)
    gate = Gate(tiles, bright(), judge, extractor, own_limits(tiles, extractor))
    return Making(tiles, bright(), gate, draws=2, descent=Descent(steps=40, rate=0.15))


def test_each_slot_gets_what_it_asks_for(making, bright):
    for one in making(SLOTS, NONE, seed=1):
        assert one.taken
        assert one.slot.target.reached(bright()(one.image[None])).all()
        assert torch.equal(making.generator(one.latent[None])[0], one.image), "the latent makes the image again"


def test_the_same_seed_makes_the_same_and_another_another(making):
    first, again, other = (making(SLOTS, NONE, seed=seed) for seed in (1, 1, 2))
    for a, b, c in zip(first, again, other, strict=True):
        assert torch.equal(a.latent, b.latent)
        assert not torch.allclose(a.latent, c.latent, atol=0.1)


def test_the_size_of_the_batch_changes_no_result(making):
    small = replace(making, descent=replace(making.descent, batch=2))
    for one, other in zip(making(SLOTS, NONE, seed=1), small(SLOTS, NONE, seed=1), strict=True):
        assert torch.allclose(one.image, other.image, atol=1e-3)
        assert (one.number, one.steps) == (other.number, other.steps)


def test_a_draw_that_shows_what_is_asked_is_taken_as_it_is(making):
    easy = [Slot(index, Target(((0, 1.0),))) for index in range(4)]
    generous = replace(making, draws=40)
    assert all(one.steps == 0 for one in generous(easy, NONE, seed=3))
    latents = torch.stack([one.latent for one in generous(easy, NONE, seed=3)])
    assert len(latents.unique(dim=0)) == 4, "no draw for two"


def test_no_more_draws_are_looked_at_once_each_slot_has_one(making, tiles):
    seen = []

    class Counted(type(tiles)):
        def __call__(self, latents):
            seen.append(len(latents))
            return super().__call__(latents)

    easy = [Slot(index, Target(((0, 1.0),))) for index in range(2)]
    counted = Counted()
    counted.critic_quantile(0.5)  # which it takes from draws of its own
    seen.clear()
    small = replace(making, generator=counted, draws=400, descent=Descent(batch=50))
    assert all(one.taken for one in small(easy, NONE, seed=3))
    assert sum(seen) < 200


def test_more_draws_save_steps(making):
    few, many = (replace(making, draws=draws)(SLOTS, NONE, seed=5) for draws in (1, 64))
    assert sum(one.steps for one in many) < sum(one.steps for one in few)


def test_what_is_refused_is_tried_again_and_no_more_often_than_said(making, bright):
    deaf = replace(making, gate=replace(making.gate, judge=bright(bias=-40)))
    for one in deaf(SLOTS[:1], NONE, seed=1):
        assert not one.taken
        assert one.number == 3
        assert one.refusals == ("judge",) * 3


def test_a_slot_that_passed_is_not_tried_again_with_those_that_did_not(making):
    seen = []

    def refuses_the_first(images, targets, taken):
        seen.append(len(images))
        verdicts = making.gate(images, targets, taken)
        refuse = len(seen) == 1
        return [replace(one, refused="critic" if refuse and row == 0 else "") for row, one in enumerate(verdicts)]

    tries = replace(making, gate=refuses_the_first)(SLOTS, NONE, seed=1)
    assert seen == [4, 1]
    assert [one.number for one in tries] == [2, 1, 1, 1]
    assert tries[0].refusals == ("critic",)


def test_of_tries_that_all_fail_the_nearest_is_told(making, bright, tiles):
    impossible = Target(((0, 1.0), (1, 1.0), (2, 1.0)))
    blind = bright(bias=-15)  # no image makes all three bright enough
    hopeless = replace(making, classifier=blind, gate=replace(making.gate, classifier=blind))
    (one,) = hopeless([Slot(0, impossible)], NONE, seed=1)
    single = replace(hopeless, tries=1)([Slot(0, impossible)], NONE, seed=1)
    assert not one.taken
    assert one.verdict.score >= single[0].verdict.score
    assert len(one.refusals) == 3
