"""Editors start as the identity, know what may be asked of them, and do not mix the images of a batch."""

import pytest
import torch

from counterscan.core import Card, Target
from counterscan.errors import TargetError, WeightsError
from counterscan.nets import build
from counterscan.priors.editor import InpaintingEditor, load_editor, removal_condition
from counterscan.weights.store import save_weights

CHEST = Card(name="chest", kind="editor", shape=(1, 64, 64), classes=("effusion", "nodule"))
OCT = Card(name="oct", kind="editor", shape=(1, 64, 64), classes=("normal", "dme"), output="softmax", normal="normal")
SETTINGS = {"conditions": 2, "widths": [16, 16]}


def shaken_editor(card=CHEST):
    torch.manual_seed(0)
    module = build("unet", SETTINGS)
    torch.nn.init.normal_(module.head.weight, std=0.2)
    return InpaintingEditor(module, card)


def test_an_untrained_editor_changes_nothing():
    images = torch.rand(3, 1, 64, 64) * 2 - 1
    edited = InpaintingEditor(build("unet", SETTINGS), CHEST)(images, Target(((0, 0.0),)))
    assert torch.equal(edited, images)


def test_the_batch_does_not_matter():
    images = torch.rand(20, 1, 64, 64) * 2 - 1
    editor, target = shaken_editor(), Target(((0, 0.0),))
    torch.testing.assert_close(editor(images, target)[18:19], editor(images[18:19], target), atol=2e-2, rtol=0)
    assert editor(images, target).abs().max() <= 1


@pytest.mark.parametrize(
    ("text", "card", "condition"),
    [
        ("effusion=0", CHEST, [1, 0]),
        ("normal", CHEST, [1, 1]),
        ("nodule=0,effusion=0.2", CHEST, [1, 1]),
        ("dme=0", OCT, [0, 1]),
        ("normal", OCT, [0, 1]),
    ],
)
def test_the_condition_names_what_is_to_be_removed(text, card, condition):
    assert removal_condition(Target.parse(text, card), card).tolist() == [condition]


@pytest.mark.parametrize(("text", "card"), [("effusion=1", CHEST), ("nodule=0.9", CHEST), ("normal=0", OCT)])
def test_it_does_not_pretend_to_add_a_finding(text, card):
    with pytest.raises(TargetError, match="removes findings"):
        removal_condition(Target.parse(text, card), card)


def test_an_editor_loads_from_its_folder(tmp_path):
    editor = shaken_editor()
    save_weights(tmp_path, editor.module, CHEST.model_copy(update={"network": "unet", "settings": SETTINGS}))
    images, target = torch.rand(2, 1, 64, 64), Target(((0, 0.0),))
    torch.testing.assert_close(load_editor(tmp_path)(images, target), editor(images, target), atol=2e-2, rtol=0)


def test_a_classifier_is_no_editor(tmp_path):
    card = CHEST.model_copy(update={"kind": "classifier", "network": "resnet", "settings": {"outputs": 2}})
    save_weights(tmp_path, build("resnet", {"outputs": 2}), card)
    with pytest.raises(WeightsError, match="editor is needed"):
        load_editor(tmp_path)
