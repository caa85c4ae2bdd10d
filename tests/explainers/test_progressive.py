"""The film runs from 0 to 1, and of it comes the frame that reaches the target with the smallest change."""

import pytest
import torch

from counterscan.core import Card, Explanation, Target
from counterscan.errors import CounterscanError
from counterscan.explainers.progressive import Progressive, along

CARD = Card(name="brightness", shape=(1, 8, 8), classes=("left", "right"))


class Brightness:
    """A half is present if it is bright: the log-odds are ten times its mean, which in [-1, 1] is steep."""

    card = CARD
    differentiable = False

    def __call__(self, images):
        return 10 * torch.stack([images[..., :4].mean((1, 2, 3)), images[..., 4:].mean((1, 2, 3))], 1)


class Dial:
    """Sets the half asked for to as bright as the probability asked for, whatever it was; in steps, if told."""

    card = Card(name="dial", kind="editor", shape=(1, 8, 8), classes=("right", "left"))

    def __init__(self, steps=100, reach=1.0):
        self.steps, self.reach = steps, reach

    def __call__(self, images, target):
        edited = images.clone()
        for index, p in target.wanted:
            level = round(p * self.steps) / self.steps * 2 - 1
            edited[..., slice(4, 8) if index == 0 else slice(0, 4)] = level * self.reach
        return edited


def explain(text, images, **settings):
    editor = settings.pop("editor", Dial())
    return Progressive(editor, **settings)(Brightness(), images, Target.parse(text, CARD))


def test_the_frame_with_the_smallest_change_is_taken():
    images = torch.full((1, 1, 8, 8), 0.5)
    answer = explain("left=0", images)
    assert answer.found.all()
    assert answer.counterfactual[..., :4].mean() == pytest.approx(-0.2)  # frames are 0.2 apart, and 0 is no answer
    assert torch.equal(answer.counterfactual[..., 4:], images[..., 4:])


def test_a_finding_can_be_made():
    images = torch.stack([torch.full((1, 8, 8), -0.7), torch.full((1, 8, 8), -0.1)])
    answer = explain("left=1", images)
    assert answer.found.all()
    assert answer.counterfactual[..., :4].mean((1, 2, 3)).tolist() == pytest.approx([0.2, 0.2])


@pytest.mark.parametrize("p", [0.3, 0.5, 0.8])
def test_between_two_frames_a_middling_answer_is_found(p):
    images = torch.stack([torch.full((1, 8, 8), level) for level in (-0.6, 0.7)])
    answer = explain(f"left={p}", images, editor=Dial(steps=1), frames=2)
    assert answer.found.all()
    assert answer.after[:, 0].sigmoid().tolist() == pytest.approx([p, p], abs=0.1)


def test_what_is_not_reached_is_not_found_and_the_nearest_frame_is_shown():
    images = torch.full((2, 1, 8, 8), 0.5)
    images[1] = -0.5
    answer = explain("left=0", images, editor=Dial(reach=-1.0), frames=6)
    assert answer.found.tolist() == [True, True]
    stuck = explain("left=0.9", images, editor=Dial(reach=0.1), frames=6)
    assert stuck.found.tolist() == [False, False]
    assert stuck.counterfactual[..., :4].mean((1, 2, 3)).tolist() == pytest.approx([0.1, 0.1])


def test_several_classes_go_along_together():
    images = torch.full((1, 1, 8, 8), 0.5)
    images[..., 4:] = -0.5
    answer = explain("left=0,right=1", images)
    assert answer.found.all()
    assert answer.counterfactual[..., :4].mean() == pytest.approx(-0.2)
    assert answer.counterfactual[..., 4:].mean() == pytest.approx(0.2)
    assert along(Target(((0, 0.0), (1, 1.0), (2, 0.4))), 0.25).wanted == ((0, 0.25), (1, 0.75), (2, 0.25))


def test_the_film_is_kept_where_it_is_asked_for(tmp_path):
    images = torch.full((2, 1, 8, 8), 0.5)
    assert explain("left=0", images).path is None
    answer = explain("left=0", images, frames=5, path=True)
    assert answer.path.shape == (2, 5, 1, 8, 8)
    assert answer.path[0, :, 0, 0, 0].tolist() == pytest.approx([-1, -0.5, 0, 0.5, 1])
    assert torch.equal(Explanation.load(answer.save(tmp_path)).path, answer.path)
    assert answer.select(slice(0, 1)).path.shape == (1, 5, 1, 8, 8)


def test_each_frame_costs_one_query_an_image():
    assert explain("left=0", torch.zeros(3, 1, 8, 8), frames=7).meta["queries"] == 3 * (7 + 2)


def test_one_frame_is_no_film():
    with pytest.raises(CounterscanError, match="two frames or more"):
        Progressive(Dial(), frames=1)
