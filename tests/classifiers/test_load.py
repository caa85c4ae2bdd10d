import json
import pickle

import pytest
import torch
from torch import nn

from counterscan.classifiers.function import FunctionClassifier
from counterscan.classifiers.load import load_classifier, read_card
from counterscan.classifiers.torch import TorchClassifier
from counterscan.core import Card
from counterscan.errors import ClassifierError, UnknownName, WeightsError
from counterscan.nets import build
from counterscan.weights.store import save_weights

CARD = Card(name="rule", shape=(1, 4, 4), classes=("normal", "bright"), output="binary")
SOURCE = f"""
from torch import nn
from counterscan.core import Card

def rule(pixels):
    return pixels.mean((1, 2, 3))

rule.card = Card.model_validate_json('{CARD.model_dump_json()}')

def bare(pixels):
    return pixels.mean((1, 2, 3))

network = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
network.card = rule.card
ready = __import__("counterscan.classifiers.torch").classifiers.torch.TorchClassifier(network, rule.card)
number = 3
number_with_card = type("Odd", (), {{"card": rule.card}})()
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "rules_for_test.py").write_text(SOURCE)
    (tmp_path / "broken_for_test.py").write_text("1 / 0")
    (tmp_path / "old.pkl").write_bytes(pickle.dumps({"weights": 1}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_functions_modules_and_ready_classifiers_by_name(here):
    images = torch.rand(2, 1, 4, 4)
    function = load_classifier("rules_for_test:rule")
    assert isinstance(function, FunctionClassifier)
    torch.testing.assert_close(function(images)[:, 1], images.mean((1, 2, 3)))
    network = load_classifier("rules_for_test:network")
    assert isinstance(network, TorchClassifier)
    assert isinstance(network.module, nn.Sequential)
    assert load_classifier("rules_for_test:ready").module is network.module


def test_a_card_can_be_given_as_a_file(here):
    with pytest.raises(ClassifierError, match=r"has no card; set bare.card = .* or give --card"):
        load_classifier("rules_for_test:bare")
    (here / "my.json").write_text(CARD.model_dump_json())
    assert load_classifier("rules_for_test:bare", card=here / "my.json").card == CARD
    assert load_classifier("rules_for_test:bare", card=CARD).card == CARD


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ("rules_for_test:rul", UnknownName, "has no 'rul'; did you mean 'rule'"),
        ("no_such_package.at_all:rule", ClassifierError, "cannot import no_such_package"),
        ("broken_for_test:rule", ClassifierError, "importing broken_for_test failed: ZeroDivisionError"),
        ("rules_for_test:number_with_card", ClassifierError, "not a function on arrays"),
        ("old.pkl", WeightsError, "is a pickle, which runs code when opened; save the module with torch.export.save"),
        ("model.pt", ClassifierError, "model.pt does not exist"),
        ("process:rules_for_test", ClassifierError, "write process:package.module:function"),
        ("http://:80", ClassifierError, "is no address; write http://host:port/path"),
        ("model.onnx", ClassifierError, "does not exist"),
        ("no/such/thing", UnknownName, "no classifier is called 'no/such/thing'"),
    ],
)
def test_what_cannot_be_loaded_says_why_in_one_line(here, spec, error, words):
    with pytest.raises(error, match=words) as caught:
        load_classifier(spec)
    assert "\n" not in str(caught.value)


def test_mistyped_shipped_names_are_answered_with_the_nearest(monkeypatch):
    names = ("chest/classifier", "chest/judge", "chest/inpainting")
    monkeypatch.setattr("counterscan.classifiers.load.shipped_weights", lambda: names)
    with pytest.raises(UnknownName, match="did you mean 'chest/classifier'"):
        load_classifier("chest/clasifier")


@pytest.mark.parametrize("beside", ["model.json", "card.json"])
def test_onnx_with_its_card_beside_it(tmp_path, beside):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node("GlobalAveragePool", ["x"], ["p"]), helper.make_node("Flatten", ["p"], ["y"])],
        "mean",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["b", 1, 4, 4])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["b", 1])],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    with pytest.raises(WeightsError, match=r"has no card; write model.json beside it"):
        load_classifier(path)
    (tmp_path / beside).write_text(CARD.model_dump_json())
    images = torch.rand(2, 1, 4, 4)
    torch.testing.assert_close(load_classifier(path)(images)[:, 1], images.mean((1, 2, 3)))


def test_cards_with_faults_are_named(tmp_path):
    path = tmp_path / "card.json"
    with pytest.raises(WeightsError, match="cannot be read"):
        read_card(path)
    for text, words in [("{", "the file"), (json.dumps({"name": "x"}), "shape: Field required")]:
        path.write_text(text)
        with pytest.raises(WeightsError, match=words) as caught:
            read_card(path)
        assert "\n" not in str(caught.value)


def test_a_folder_with_a_card(tmp_path):
    module = build("resnet", {"channels": 1, "outputs": 2, "widths": (8, 8), "depth": 1}).eval()
    card = Card(
        name="small",
        shape=(1, 16, 16),
        classes=("a", "b"),
        network="resnet",
        settings={"channels": 1, "outputs": 2, "widths": [8, 8], "depth": 1},
    )
    save_weights(tmp_path / "mine", module, card)
    classifier = load_classifier(tmp_path / "mine")
    images = torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(classifier(images), module(images).detach(), rtol=1e-2, atol=1e-2)
    save_weights(tmp_path / "prior", module, card.model_copy(update={"kind": "editor"}))
    with pytest.raises(WeightsError, match="is of kind editor; classifier is needed"):
        load_classifier(tmp_path / "prior")
