"""Editors start as the identity, know what may be asked of them, and do not mix the images of a batch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from counterscan.core import Card, Target
from counterscan.errors import TargetError, WeightsError
from counterscan.nets import build
from counterscan.priors.editor import ConditionedEditor, condition_of, conditions, load_editor
from counterscan.weights.store import save_weights

CHEST = Card(name="chest", kind="editor", shape=(1, 64, 64), classes=("effusion", "nodule"))
OCT = Card(name="oct", kind="editor", shape=(1, 64, 64), classes=("normal", "dme"), output="softmax", normal="normal")
SETTINGS = {"conditions": 2, "widths": [16, 16]}


def shaken_editor(card=CHEST):
    torch.manual_seed(0)
    module = build("unet", SETTINGS)
    torch.nn.init.normal_(module.head.weight, std=0.2)
    return ConditionedEditor(module, card)


def test_an_untrained_editor_changes_nothing():
    images = torch.rand(3, 1, 64, 64) * 2 - 1
    edited = ConditionedEditor(build("unet", SETTINGS), CHEST)(images, Target(((0, 0.0),)))
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
    assert condition_of(Target.parse(text, card), card, bins=0).tolist() == [condition]


@pytest.mark.parametrize(("text", "card"), [("effusion=1", CHEST), ("nodule=0.9", CHEST), ("normal=0", OCT)])
def test_it_does_not_pretend_to_add_a_finding(text, card):
    with pytest.raises(TargetError, match="removes findings"):
        condition_of(Target.parse(text, card), card, bins=0)


@pytest.mark.parametrize(
    ("text", "card", "condition"),
    [
        ("effusion=0", CHEST, [1, 0, 0, 0, 0] + [0] * 5),
        ("effusion=1", CHEST, [1, 1, 1, 1, 1] + [0] * 5),
        ("nodule=0.5", CHEST, [0] * 5 + [1, 1, 1, 0, 0]),
        ("effusion=0,nodule=0.625", CHEST, [1, 0, 0, 0, 0, 1, 1, 1, 0.5, 0]),
        ("dme=1", OCT, [0] * 5 + [1, 1, 1, 1, 1]),
        ("normal", OCT, [0] * 5 + [1, 0, 0, 0, 0]),
    ],
)
def test_with_bins_a_condition_tells_the_probability_step_by_step(text, card, condition):
    assert condition_of(Target.parse(text, card), card, bins=4).tolist() == [condition]


def test_the_opposite_of_normal_is_no_finding():
    with pytest.raises(TargetError, match="which finding is to come"):
        condition_of(Target.parse("normal=0", OCT), OCT, bins=4)


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 12))
def test_a_higher_probability_lights_more_of_the_scale(low, high, bins):
    low, high = sorted((low, high))
    asked, p = torch.ones(2, 1), torch.tensor([[low], [high]])
    told = conditions(asked, p, bins)
    assert (told[1] >= told[0]).all()
    torch.testing.assert_close(told[:, 1:].sum(1), p[:, 0] * bins)


def test_how_many_bins_an_editor_has_is_told_by_its_card():
    card = CHEST.model_copy(update={"settings": {"conditions": 10}})
    editor = ConditionedEditor(build("unet", {**SETTINGS, "conditions": 10}), card)
    torch.nn.init.normal_(editor.module.head.weight, std=0.2)
    for block in (part for part in editor.module.modules() if hasattr(part, "conv2")):
        torch.nn.init.normal_(block.conv2.weight, std=0.2)  # as it starts, no condition changes anything
    images = torch.rand(1, 1, 64, 64)
    weak, strong = (editor(images, Target(((0, p),))) for p in (0.3, 0.9))
    assert not torch.equal(weak, strong)


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
