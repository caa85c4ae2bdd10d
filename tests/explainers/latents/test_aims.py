"""What is asked of latents: a margin in log-odds, and to be of the usual kind."""

import pytest
import torch

from counterscan.core import Target
from counterscan.explainers.latents.aims import Aim, Usual, lack

PRESENT, ABSENT = Target(((0, 1.0),)), Target(((0, 0.0), (2, 1.0)))


def test_nothing_lacks_beyond_the_margin_and_classes_left_open_do_not_count():
    log_odds = torch.tensor([[3.0, -50.0, 0.0], [2.0, 50.0, 0.0]])
    assert lack(PRESENT, log_odds, margin=2.2).tolist() == pytest.approx([0, 0.2])


def test_what_lacks_adds_up_over_the_classes_asked_for():
    assert lack(ABSENT, torch.tensor([[1.0, 0.0, -1.0]]), margin=2.0).tolist() == pytest.approx([3 + 3])


def test_each_row_is_held_to_its_own_target_in_any_order():
    aim = Aim([PRESENT, ABSENT, PRESENT], margin=1.0)
    log_odds = torch.tensor([[-1.0, 0.0, 2.0], [-1.0, 0.0, 2.0]])
    assert aim.shortfall(log_odds, torch.tensor([1, 2])).tolist() == [0, 2]
    assert aim.shortfall(log_odds, torch.tensor([2, 1])).tolist() == [2, 0]
    assert aim.score(log_odds, torch.tensor([1, 2])).tolist() == [1, -1]


def test_a_probability_between_0_and_1_is_reached_inside_its_borders():
    target = Target(((0, 0.3),))
    inside = torch.tensor([[-0.85, 0, 0], [-2.0, 0, 0], [0.0, 0, 0]])
    lacking = lack(target, inside, margin=2.2)
    assert lacking[0] == 0
    assert (lacking[1:] > 0).all()
    assert target.reached(inside).tolist() == [True, False, False]


def test_what_lacks_has_a_slope_to_go_down():
    log_odds = torch.tensor([[-1.0, 0.0, 0.0]], requires_grad=True)
    lack(ABSENT, log_odds, 2.2).sum().backward()
    assert log_odds.grad.tolist() == [[1, 0, -1]]


def test_usual_is_counted_in_the_spread_of_the_generators_own_scores(tiles):
    usual = Usual.of(tiles)
    drawn = tiles(tiles.draw(2000, torch.Generator().manual_seed(7)))
    lacking = usual.lack(tiles.critic(drawn))
    assert (lacking > 0).float().mean() == pytest.approx(0.15, abs=0.03)
    assert (tiles.critic(drawn) < usual.least).float().mean() == pytest.approx(0.05, abs=0.02)
    assert usual.least < usual.wished
