"""The explainer removes what is asked for, by the classifier's own order of classes."""

import pytest
import torch

from counterscan.core import Card, Target
from counterscan.errors import TargetError
from counterscan.explainers.inpainting import Inpainting

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


def test_no_query_beyond_the_two_measurements():
    images = torch.full((3, 1, 16, 16), 0.5)
    answer = Inpainting(Eraser())(Brightness(), images, Target.parse("nodule=0", Brightness.card))
    assert answer.meta["queries"] == 6


def test_a_class_that_the_prior_lacks():
    classifier = Brightness()
    classifier.card = Card(name="other", shape=(1, 16, 16), classes=("fracture",))
    with pytest.raises(TargetError, match="no class 'fracture'"):
        Inpainting(Eraser())(classifier, torch.zeros(1, 1, 16, 16), Target(((0, 0.0),)))
