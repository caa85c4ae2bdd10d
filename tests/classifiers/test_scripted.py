import copy
import os
import pickle
import zipfile

import pytest
import torch
from torch import nn

from counterscan.classifiers.load import load_classifier
from counterscan.classifiers.scripted import ONLY_TENSORS, open_program
from counterscan.classifiers.torch import TorchClassifier, candidate_layers, forward_with_layers
from counterscan.core import Card
from counterscan.errors import ClassifierError, WeightsError

CARD = Card(name="toy", shape=(1, 16, 16), classes=("a", "b", "c"), output="softmax", mean=(0.1,), std=(0.6,))
IMAGES = torch.rand(5, 1, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(0)
    block = nn.Sequential(nn.Conv2d(4, 8, 3, stride=2), nn.ReLU())
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(8, 3))
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), block, *head).eval()


def exported(module, path, batch=None):
    """Write an exported program for a batch of 4, or for the range of batches that is given."""
    shapes = ({0: torch.export.Dim("batch", **batch)},) if batch is not None else None
    torch.export.save(torch.export.export(module, (torch.zeros(4, 1, 16, 16),), dynamic_shapes=shapes), path)


WRITERS = {
    "script": lambda module, path: torch.jit.save(torch.jit.script(module), path),
    "script in training mode": lambda m, path: torch.jit.save(torch.jit.script(copy.deepcopy(m).train()), path),
    "trace": lambda module, path: torch.jit.save(torch.jit.trace(module, IMAGES[:2]), path),
    "frozen script": lambda module, path: torch.jit.save(torch.jit.freeze(torch.jit.script(module)), path),
    "exported, batch of 4": exported,
    "exported, any batch": lambda module, path: exported(module, path, {}),
    "exported, batches of 2 to 4": lambda module, path: exported(module, path, {"min": 2, "max": 4}),
}
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_file_answers_as_the_module_it_was_made_from_and_has_its_gradients(module, write, tmp_path):
    write(module, tmp_path / "model.pt")
    classifier = load_classifier(tmp_path / "model.pt", CARD)
    plain = TorchClassifier(module, CARD)
    for count in (1, 4, 5):
        torch.testing.assert_close(classifier(IMAGES[:count]), plain(IMAGES[:count]), rtol=1e-4, atol=1e-5)
    images = IMAGES[:2].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(classifier(images).sum(), images)
    (expected,) = torch.autograd.grad(plain(images).sum(), images)
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-5)
    assert not torch.is_inference(gradient)


def test_layers_of_an_exported_program_can_be_read(module, tmp_path):
    exported(module, tmp_path / "model.pt2", {})
    classifier, plain = load_classifier(tmp_path / "model.pt2", CARD), TorchClassifier(module, CARD)
    layers = candidate_layers(classifier)
    assert [one[1:] for one in layers] == [one[1:] for one in candidate_layers(plain)]
    (ours,), _ = forward_with_layers(classifier, IMAGES, [layers[0].name])
    (theirs,), _ = forward_with_layers(plain, IMAGES, [candidate_layers(plain)[0].name])
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_layers_of_torchscript_are_out_of_reach_and_a_fixed_batch_is_refused(module, tmp_path):
    WRITERS["script"](module, tmp_path / "script.pt")
    script = load_classifier(tmp_path / "script.pt", CARD)
    assert candidate_layers(script) == ()
    with pytest.raises(ClassifierError, match="no layer with a spatial map; use one that needs none: rise"):
        forward_with_layers(script, IMAGES, [""])
    exported(module, tmp_path / "fixed.pt2")
    with pytest.raises(ClassifierError, match="does not run once for each image"):
        forward_with_layers(load_classifier(tmp_path / "fixed.pt2", CARD), IMAGES, [""])


def test_the_card_lies_beside_the_file_or_is_asked_for(module, tmp_path):
    WRITERS["script"](module, tmp_path / "model.pt")
    with pytest.raises(WeightsError, match=r"has no card; write model.json beside it, or give --card"):
        load_classifier(tmp_path / "model.pt")
    (tmp_path / "model.json").write_text(CARD.model_dump_json())
    assert load_classifier(tmp_path / "model.pt").card == CARD


def test_an_exported_size_that_is_not_the_card_s_is_refused(module, tmp_path):
    exported(module, tmp_path / "model.pt2")
    with pytest.raises(ClassifierError, match=r"takes images \(1, 16, 16\), its card says \(1, 32, 32\)"):
        load_classifier(tmp_path / "model.pt2", CARD.model_copy(update={"shape": (1, 32, 32)}))


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("old", [False, True])
def test_pickles_are_not_opened(tmp_path, old):
    torch.save(Bomb(tmp_path / "boom"), tmp_path / "m.pt", _use_new_zipfile_serialization=not old)
    with pytest.raises(WeightsError, match=r"is a pickle, .*torch.export.save or torch.jit.save") as caught:
        load_classifier(tmp_path / "m.pt", CARD)
    assert not (tmp_path / "boom").exists()
    assert "\n" not in str(caught.value)


def test_a_pickle_inside_an_exported_program_is_not_opened(module, tmp_path):
    exported(module, tmp_path / "good.pt2")
    torch.save((Bomb(tmp_path / "boom"),), tmp_path / "bomb")
    with zipfile.ZipFile(tmp_path / "good.pt2") as good, zipfile.ZipFile(tmp_path / "bad.pt2", "w") as bad:
        for name in good.namelist():
            swapped = name.endswith("sample_inputs/model.pt")
            bad.writestr(name, (tmp_path / "bomb").read_bytes() if swapped else good.read(name))
    before = dict(os.environ)
    with pytest.raises(ClassifierError, match="does not load"):
        load_classifier(tmp_path / "bad.pt2", CARD)
    assert not (tmp_path / "boom").exists()
    assert dict(os.environ) == before
    assert ONLY_TENSORS not in before


class Two(nn.Module):
    def forward(self, images, age):
        return images.mean((1, 2, 3)) + age


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "neither TorchScript nor"), (b"<html>", "neither TorchScript nor"), (pickle.dumps(1), "is a pickle")],
)
def test_other_files_are_one_line(tmp_path, content, words):
    (tmp_path / "m.pt").write_bytes(content)
    with pytest.raises((ClassifierError, WeightsError), match=words):
        open_program(tmp_path / "m.pt")


def test_a_damaged_file_and_one_of_two_inputs_are_one_line(module, tmp_path):
    WRITERS["script"](module, tmp_path / "whole.pt")
    with zipfile.ZipFile(tmp_path / "whole.pt") as whole, zipfile.ZipFile(tmp_path / "cut.pt", "w") as cut:
        for name in whole.namelist():
            cut.writestr(name, whole.read(name)[:40])
    with pytest.raises(ClassifierError, match=r"cut\.pt does not load with torch") as caught:
        open_program(tmp_path / "cut.pt")
    assert "\n" not in str(caught.value)
    torch.export.save(torch.export.export(Two(), (IMAGES, torch.zeros(5))), tmp_path / "two.pt2")
    with pytest.raises(ClassifierError, match=r"takes 2 inputs \(images, age\); a classifier takes one tensor"):
        open_program(tmp_path / "two.pt2")


def test_what_a_script_raises_is_its_last_line(tmp_path):
    picky = torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(9, 3)))
    torch.jit.save(picky, tmp_path / "m.pt")
    with pytest.raises(ClassifierError, match=r"failed on images \(5, 1, 16, 16\): RuntimeError: mat1 and mat2"):
        load_classifier(tmp_path / "m.pt", CARD)(IMAGES)
