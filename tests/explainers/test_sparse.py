"""The linear problem is solved, the climb only goes up, and each image gets the smallest radius that will do."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from counterscan.classifiers.torch import TorchClassifier
from counterscan.core import Card, Target
from counterscan.errors import ClassifierError, CounterscanError, NeedsGradients, UnknownName
from counterscan.explainers import sparse
from counterscan.explainers.build import build_explainer
from counterscan.explainers.sparse import Sparse, checkpoints, frank_wolfe, furthest

SIDE = 8
NORMS = [1.01, 1.1, 1.5, 2.0, 4.0, 50.0]
TARGET = Target(((0, 1.0),))
problems = given(
    seed=st.integers(0, 10**6),
    p=st.sampled_from(NORMS),
    norm=st.floats(1e-3, 30),
    faint=st.sampled_from([1.0, 1e-30]),
)


def lp(change, p):
    return change.double().flatten(1).abs().pow(p).sum(1).pow(1 / p)


def gain(gradient, change):
    return (gradient.double() * change.double()).flatten(1).sum(1)


def drawn(seed):
    """Gradients of very different sizes, some of them nothing, and images that touch the box."""
    generator = torch.Generator().manual_seed(seed)
    gradient = torch.randn(3, 1, SIDE, SIDE, generator=generator).double() ** 5
    gradient[:, :, 0] = 0
    images = (torch.randn(3, 1, SIDE, SIDE, generator=generator) * 0.7).clamp(-1, 1)
    return gradient, images.double()


def by_bisection(gradient, images, p, norm):
    """The same problem by halving the range of log c; slow, and nothing to get wrong."""
    w, room = gradient.abs(), torch.where(gradient > 0, 1 - images, 1 + images) * (gradient != 0)
    low, high = (torch.full((len(w), 1, 1, 1), end, dtype=torch.float64) for end in (-800.0, 800.0))
    for _ in range(60):
        middle = (low + high) / 2
        change = ((w.log() - middle) / (p - 1)).exp().minimum(room)
        too_far = (lp(change, p) > norm).view(-1, 1, 1, 1)
        low, high = torch.where(too_far, middle, low), torch.where(too_far, high, middle)
    return gradient.sign() * ((w.log() - high) / (p - 1)).exp().minimum(room)


@problems
@settings(max_examples=25, deadline=None)
def test_the_furthest_change_is_allowed_and_none_goes_further(seed, p, norm, faint):
    gradient, images = drawn(seed)
    change = furthest(gradient * faint, images, p, norm)
    assert (lp(change, p) <= norm * (1 + 1e-9)).all()
    assert (images + change).abs().max() <= 1 + 1e-12
    assert (change * gradient >= 0).all()
    assert torch.allclose(gain(gradient, change), gain(gradient, by_bisection(gradient, images, p, norm)), rtol=1e-5)
    other = torch.where(change == 0, 0, (images + torch.randn_like(images)).clamp(-1, 1) - images)
    other = other * (norm / lp(other, p)).clamp(max=1).view(-1, 1, 1, 1)
    assert (gain(gradient, other) <= gain(gradient, change) * (1 + 1e-9)).all()


def test_without_a_box_it_is_the_direction_of_the_gradient():
    gradient, images = drawn(1)
    change = furthest(gradient, images * 0, 2.0, 0.01)
    assert torch.allclose(change, 0.01 * gradient / lp(gradient, 2).view(-1, 1, 1, 1), atol=1e-12)


@pytest.mark.parametrize("p", NORMS)
def test_a_huge_ball_ends_in_the_corner_of_the_box(p):
    gradient, images = drawn(2)
    change = furthest(gradient.sign(), images, p, 1e6)
    assert torch.allclose(images + change, torch.where(gradient == 0, images, gradient.sign()), atol=1e-12)


def test_no_gradient_no_change():
    _, images = drawn(3)
    assert (furthest(torch.zeros_like(images), images, 1.5, 1.0) == 0).all()


@pytest.mark.parametrize("highest", [0, 1, 20, 57, 60])
def test_the_best_point_of_the_way_is_the_answer(highest):
    taken = []

    def look(points):
        taken.append(points)
        return torch.full((2,), float(len(taken) - 1 == highest)), torch.randn_like(points)

    start = torch.zeros(2, 1, SIDE, SIDE)
    best = frank_wolfe(look, lambda slope: start + furthest(slope, start, 1.5, 3.0), start, 60)
    assert len(taken) == 61
    assert torch.equal(best, taken[highest])


def test_steps_that_do_not_help_are_shortened():
    taken = []

    def look(points):
        taken.append(points.abs().item())
        return -points.flatten(1).abs().sum(1), -points.sign()  # a peak at zero, which a long step passes

    frank_wolfe(look, lambda slope: slope, torch.full((1, 1, 1, 1), 0.3), 28)
    assert max(taken[-10:]) < 0.06, "with steps of 2 / (2 + sqrt(k)) it would be 0.19"


def test_checkpoints_come_ever_closer():
    assert list(checkpoints(75))[:6] == [(16, 16), (30, 14), (42, 12), (52, 10), (60, 8), (66, 6)]
    assert list(checkpoints(75))[-1] == (74, 4)
    assert list(checkpoints(1)) == [(1, 1)]


class Plane(nn.Module):
    """Log-odds that are linear in the pixels: the first grows with the upper left value most, the second opposite."""

    def __init__(self, scale=1.0, side=SIDE):
        super().__init__()
        self.weights = nn.Parameter(scale * torch.linspace(2, -1, side * side).view(1, 1, side, side))

    def forward(self, images):
        value = (images * self.weights).flatten(1).sum(1)
        return torch.stack([value - 1, 1 - value], 1)


def plane(classes=("a", "b"), side=SIDE, **settings):
    return TorchClassifier(Plane(side=side, **settings), Card(name="plane", shape=(1, side, side), classes=classes))


@pytest.mark.parametrize("p", [1.5, 2.0, 4.0])
def test_on_a_linear_classifier_it_is_the_solution_of_the_linear_problem(p):
    images = torch.zeros(2, 1, SIDE, SIDE)
    answer = Sparse(p=p, radius=0.1, ladder=[1], steps=5)(plane(), images, TARGET)
    norm = 0.1 * (SIDE * SIDE) ** (1 / p)
    expected = by_bisection(Plane().weights.detach().double().expand(2, 1, SIDE, SIDE), images.double(), p, norm)
    assert torch.allclose(answer.difference.double(), expected, atol=1e-5)
    assert answer.found.all()
    assert answer.meta["queries"] == 2 * (1 + 6 + 1 + 1)


def test_each_image_keeps_the_smallest_radius_that_reaches_the_target():
    images = torch.stack([torch.full((1, SIDE, SIDE), level) for level in (0.03, 0.0, -0.2)])
    answer = Sparse(p=2.0, radius=0.1, ladder=[2, 0.05, 0.5], steps=5)(plane(), images, TARGET)
    sizes = answer.difference.square().flatten(1).mean(1).sqrt().tolist()
    assert sizes == pytest.approx([0.005, 0.05, 0.2], rel=1e-3)
    assert answer.found.tolist() == [True, True, True]


def test_what_cannot_be_reached_is_not_found_and_gets_what_the_largest_radius_gave():
    images = torch.full((1, 1, SIDE, SIDE), -0.5)
    answer = Sparse(p=2.0, radius=0.01, ladder=[0.5, 1], steps=5)(plane(), images, TARGET)
    assert not answer.found.any()
    assert float(answer.difference.square().mean().sqrt()) == pytest.approx(0.01, rel=1e-3)


class Curved(nn.Module):
    """Curved enough for the start, and the way from it, to matter."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(SIDE * SIDE, 16)
        self.second = nn.Linear(16, 1)
        nn.init.normal_(self.first.weight, generator=torch.Generator().manual_seed(0))
        nn.init.normal_(self.second.weight, generator=torch.Generator().manual_seed(1))

    def forward(self, images):
        return self.second(self.first(images.flatten(1)).sin()) - 1


def test_an_image_gets_the_same_answer_in_any_batch_and_order_and_from_the_same_seed():
    classifier = TorchClassifier(Curved(), Card(name="curved", shape=(1, SIDE, SIDE), classes=("a",)))
    images = torch.rand(3, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(2)) - 0.5
    explainer = Sparse(radius=0.3, ladder=[1], steps=6)
    together = explainer(classifier, images, TARGET, seed=4).counterfactual
    alone = explainer(classifier, images[2:], TARGET, seed=4).counterfactual
    turned = explainer(classifier, images.flip(0), TARGET, seed=4).counterfactual
    assert torch.allclose(together[2:], alone, atol=1e-4)
    assert torch.allclose(together, turned.flip(0), atol=1e-4)
    assert not torch.allclose(together, explainer(classifier, images, TARGET, seed=5).counterfactual, atol=1e-2)


def test_a_robust_classifier_pulls_the_change_to_the_edge_of_the_cone():
    images = torch.zeros(1, 1, SIDE, SIDE)
    robust = plane()
    robust.module.weights.data = robust.module.weights.data.flip(-1).roll(3, -2)
    answer = Sparse(robust=robust, p=2.0, radius=0.01, ladder=[1], steps=3, degrees=20)(plane(), images, TARGET)
    own = Plane().weights.detach()
    angle = torch.nn.functional.cosine_similarity(answer.difference.flatten(), own.flatten(), dim=0).acos()
    assert math.degrees(angle) == pytest.approx(20, abs=0.1)


def test_a_robust_classifier_of_another_size_is_fitted():
    images = torch.zeros(1, 1, SIDE, SIDE)
    answer = Sparse(robust=plane(side=SIDE // 2), ladder=[1], steps=2)(plane(), images, TARGET)
    assert answer.heatmap.max() > 0
    assert "robust='plane'" in answer.meta["explainer"]


def test_a_robust_classifier_of_other_classes_or_another_window_is_refused_before_a_step_is_taken(monkeypatch):
    monkeypatch.setattr(sparse, "frank_wolfe", lambda *_: pytest.fail("it climbed"))
    images = torch.zeros(1, 1, SIDE, SIDE)
    with pytest.raises(ClassifierError, match="over b, a, but plane multilabel over a, b; name one"):
        Sparse(robust=plane(("b", "a")))(plane(), images, TARGET)
    robust, explained = plane(), plane()
    robust.card = robust.card.model_copy(update={"window": (-1000.0, 400.0, "HU")})
    explained.card = explained.card.model_copy(update={"window": (-160.0, 240.0, "HU")})
    with pytest.raises(ClassifierError, match="window"):
        Sparse(robust=robust)(explained, images, TARGET)


def test_a_robust_classifier_that_does_not_exist_or_gives_no_gradients_is_refused_at_once():
    with pytest.raises(UnknownName, match="no classifier is called 'fundus/robusd'"):
        Sparse(robust="fundus/robusd")
    closed = plane()
    closed.differentiable = False
    with pytest.raises(NeedsGradients, match="plane gives no gradients"):
        Sparse(robust=closed)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"p": 1}, "p from 1.01 to 50, not p=1"),
        ({"p": 0.5}, "p from 1.01 to 50, not p=0.5"),
        ({"p": math.inf}, "not p=inf"),
        ({"radius": 0}, "radius > 0"),
        ({"steps": 0}, "steps >= 1"),
        ({"ladder": []}, r"ladder=\[0.5,1,2\]"),
        ({"ladder": [1, -1]}, "factors of the radius > 0"),
        ({"degrees": 90}, "does not climb"),
    ],
)
def test_settings_that_mean_nothing_are_refused_before_any_work(wrong, line):
    with pytest.raises(CounterscanError, match=line):
        build_explainer("sparse", **wrong)


def test_a_ladder_from_the_command_line_is_that_from_python():
    assert build_explainer("sparse", ladder=[2, 1]) == Sparse(ladder=(1, 2))
    assert build_explainer("sparse", ladder=1) == Sparse(ladder=(1.0,))
