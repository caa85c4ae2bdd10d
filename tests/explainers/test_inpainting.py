"""The explainer removes what is asked for, by the classifier's own order of classes."""

import pytest
import torch

from counterscan.core import Card, Target
from counterscan.errors import TargetError
from counterscan.explainers.inpainting import Inpainting, confine

KNOWN = Card(name="eraser", kind="editor", shape=(1, 16, 16), classes=("nodule", "effusion"))


class Eraser:
    """Blackens the left half for nodule, the right half for effusion."""

    card = KNOWN

    def __call__(self, images, target):
        edited = images.clone()
        for index, _ in target.wanted:
            edited[..., slice(0, 8) if index == 0 else slice(8, 16)] = -1
        return edited


class Brightness:
    """Effusion is a bright right half, nodule a bright left half; its classes are in another order."""

    card = Card(name="brightness", shape=(1, 16, 16), classes=("effusion", "nodule"))
    differentiable = False

    def __call__(self, images):
        return 10 * torch.stack([images[..., 8:].mean((1, 2, 3)), images[..., :8].mean((1, 2, 3))], 1)


def test_classes_meet_by_name():
    images = torch.full((2, 1, 16, 16), 0.5)
    answer = Inpainting(Eraser())(Brightness(), images, Target.parse("effusion=0", Brightness.card))
    assert answer.found.all()
    assert (answer.difference[..., 8:] < 0).all()
    assert (answer.difference[..., :8] == 0).all()
    assert answer.heatmap[..., 8:].mean() == pytest.approx(0.75)
    assert answer.before[0].tolist() == pytest.approx([5.0, 5.0])
    assert answer.after[0].tolist() == pytest.approx([-10.0, 5.0])


def test_two_classes_at_once():
    images = torch.full((1, 1, 16, 16), 0.5)
    answer = Inpainting(Eraser())(Brightness(), images, Target.parse("normal", Brightness.card))
    assert answer.found.all()
    assert (answer.counterfactual == -1).all()


def test_the_paper_s_single_pass_asks_nothing_beyond_the_two_measurements():
    images = torch.full((3, 1, 16, 16), 0.5)
    explainer = Inpainting(Eraser(), passes=1, confined=False)
    answer = explainer(Brightness(), images, Target.parse("nodule=0", Brightness.card))
    assert answer.meta["queries"] == 6


class Timid(Eraser):
    """Darkens by a little each time, and repaints the other half faintly."""

    def __call__(self, images, target):
        edited = images.clone()
        edited[..., :8] -= 0.3
        edited[..., 8:] += 0.01
        return edited


def test_a_second_pass_where_the_first_does_not_convince():
    images = torch.stack([torch.full((1, 16, 16), 0.2), torch.full((1, 16, 16), 0.5)])
    target = Target.parse("nodule=0", Brightness.card)
    once = Inpainting(Timid(), passes=1, confined=False)(Brightness(), images, target)
    twice = Inpainting(Timid(), passes=2, confined=False)(Brightness(), images, target)
    assert once.found.tolist() == [True, False]
    assert twice.found.tolist() == [True, True]
    assert torch.equal(once.counterfactual[0], twice.counterfactual[0])


def test_faint_changes_are_taken_back_if_the_answer_stays():
    images = torch.full((1, 1, 16, 16), 0.2)
    answer = Inpainting(Timid())(Brightness(), images, Target.parse("nodule=0", Brightness.card))
    assert answer.found.all()
    assert (answer.difference[..., 11:] == 0).all()
    assert answer.difference[..., :6].mean() == pytest.approx(-0.3)


class Wary(Brightness):
    """Its nodule is gone only if the right half is brighter than it was."""

    def __call__(self, images):
        return 10 * torch.stack([images[..., 8:].mean((1, 2, 3)), 0.205 - images[..., 8:].mean((1, 2, 3))], 1)


def test_what_convinces_is_kept_if_it_is_faint():
    images = torch.full((1, 1, 16, 16), 0.2)
    answer = Inpainting(Timid())(Wary(), images, Target.parse("nodule=0", Brightness.card))
    assert answer.found.all()
    assert answer.difference[..., 8:].mean() == pytest.approx(0.01, abs=1e-6)


def test_a_confined_image_stays_within_both():
    torch.manual_seed(0)
    images, edited = torch.rand(4, 1, 32, 32) * 2 - 1, torch.rand(4, 1, 32, 32) * 2 - 1
    between = confine(images, edited)
    assert (between <= torch.maximum(images, edited) + 1e-6).all()
    assert (between >= torch.minimum(images, edited) - 1e-6).all()
    assert torch.equal(confine(images, images), images)


def test_a_class_that_the_prior_lacks():
    classifier = Brightness()
    classifier.card = Card(name="other", shape=(1, 16, 16), classes=("fracture",))
    with pytest.raises(TargetError, match="no class 'fracture'"):
        Inpainting(Eraser())(classifier, torch.zeros(1, 1, 16, 16), Target(((0, 0.0),)))
