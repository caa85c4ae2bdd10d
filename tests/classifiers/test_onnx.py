import sys

import pytest
import torch
from torch import nn

from counterscan.classifiers.onnx import OnnxClassifier
from counterscan.classifiers.torch import TorchClassifier
from counterscan.core import Card
from counterscan.errors import ClassifierError, MissingExtra

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

CARD = Card(name="toy", shape=(1, 8, 8), classes=("a", "b", "c"), output="softmax", mean=(0.2,), std=(0.7,))
IMAGES = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()


@pytest.fixture
def write(module, tmp_path):
    """Write the module as an ONNX graph with the input shape asked for, channels last or not, extra outputs or not."""

    def write(shape=("b", 1, 8, 8), channels_last=False, extra=False, kind=onnx.TensorProto.FLOAT, name="m.onnx"):
        helper, (conv, linear) = onnx.helper, (module[0], module[4])
        weights = {"cw": conv.weight, "cb": conv.bias, "lw": linear.weight, "lb": linear.bias}
        nodes = [helper.make_node("Transpose", ["x"], ["first"], perm=[0, 3, 1, 2])] if channels_last else []
        nodes += [helper.make_node("Cast", ["first" if channels_last else "x"], ["y"], to=onnx.TensorProto.FLOAT)]
        nodes += [
            helper.make_node("Conv", ["y", "cw", "cb"], ["conv"]),
            helper.make_node("Relu", ["conv"], ["relu"]),
            helper.make_node("GlobalAveragePool", ["relu"], ["pool"]),
            helper.make_node("Flatten", ["pool"], ["flat"]),
            helper.make_node("Gemm", ["flat", "lw", "lb"], ["scores"], transB=1),
        ]
        outputs = ["flat", "scores"] if extra else ["scores"]
        graph = helper.make_graph(
            nodes,
            "toy",
            [helper.make_tensor_value_info("x", kind, list(shape))],
            [helper.make_tensor_value_info(one, onnx.TensorProto.FLOAT, [shape[0], None]) for one in outputs],
            [onnx.numpy_helper.from_array(value.detach().numpy(), key) for key, value in weights.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(model, tmp_path / name)
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    "shape", [("b", 1, 8, 8), (None, 1, None, None), (1, 1, 8, 8), (2, 1, 8, 8), (5, 1, 8, 8), (16, 1, 8, 8)]
)
def test_it_answers_as_torch_does_whatever_batch_was_exported(module, write, shape):
    answer = OnnxClassifier(write(shape), CARD)(IMAGES)
    torch.testing.assert_close(answer, TorchClassifier(module, CARD)(IMAGES), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE])
def test_other_float_types_are_fed_as_such(module, write, kind):
    answer = OnnxClassifier(write(kind=kind), CARD)(IMAGES)
    torch.testing.assert_close(answer, TorchClassifier(module, CARD)(IMAGES), rtol=1e-2, atol=1e-2)


def test_channels_last(module, write):
    answer = OnnxClassifier(write(("b", 8, 8, 1), channels_last=True), CARD)(IMAGES)
    torch.testing.assert_close(answer, TorchClassifier(module, CARD)(IMAGES), rtol=1e-4, atol=1e-5)


def test_one_of_several_outputs_is_named_in_the_card(module, write):
    path = write(extra=True)
    with pytest.raises(ClassifierError, match=r'several outputs; say in its card.*"output".*flat, scores'):
        OnnxClassifier(path, CARD)
    named = CARD.model_copy(update={"settings": {"output": "scores"}})
    torch.testing.assert_close(
        OnnxClassifier(path, named)(IMAGES), TorchClassifier(module, CARD)(IMAGES), rtol=1e-4, atol=1e-5
    )
    with pytest.raises(ClassifierError, match="no output 'score'"):
        OnnxClassifier(path, CARD.model_copy(update={"settings": {"output": "score"}}))


def test_images_that_need_gradients_pass_and_give_none(write):
    classifier = OnnxClassifier(write(), CARD)
    assert not classifier.differentiable
    assert not classifier(IMAGES.clone().requires_grad_()).requires_grad


def test_a_fixed_size_that_is_not_the_card_s_is_refused(write):
    with pytest.raises(ClassifierError, match=r"takes images \(1, 16, 16\), its card says \(1, 8, 8\); correct"):
        OnnxClassifier(write(("b", 1, 16, 16)), CARD)


def test_files_that_are_no_model(tmp_path):
    with pytest.raises(ClassifierError, match="does not exist"):
        OnnxClassifier(tmp_path / "none.onnx", CARD)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a graph")
    with pytest.raises(ClassifierError, match="cannot be opened as an ONNX model") as caught:
        OnnxClassifier(broken, CARD)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("node", "kinds", "opset", "words"),
    [
        (("Blur", "our.lab"), {"x": "FLOAT"}, 17, "has no operator our.lab:Blur; export it from standard operators"),
        (("Sparkle", ""), {"x": "FLOAT"}, 17, "has no operator Sparkle; export"),
        (("Relu", ""), {"x": "FLOAT"}, 99, r"is written in opset 99; export it in opset \d+ or lower"),
        (("Add", ""), {"x": "FLOAT", "age": "FLOAT"}, 17, "takes x .*, age .*; a classifier takes one array of floats"),
        (("Relu", ""), {"x": "INT32"}, 17, r"takes x tensor\(int32\)"),
    ],
)
def test_what_cannot_be_run_is_one_line_that_names_the_cure(tmp_path, node, kinds, opset, words):
    helper, types = onnx.helper, onnx.TensorProto
    inputs = [helper.make_tensor_value_info(name, getattr(types, kind), [1, 1, 8, 8]) for name, kind in kinds.items()]
    out = helper.make_tensor_value_info("y", next(iter(inputs)).type.tensor_type.elem_type, None)
    graph = helper.make_graph([helper.make_node(node[0], list(kinds), ["y"], domain=node[1])], "odd", inputs, [out])
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("our.lab", 1)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=9), tmp_path / "odd.onnx")
    with pytest.raises(ClassifierError, match=words) as caught:
        OnnxClassifier(tmp_path / "odd.onnx", CARD)
    assert "\n" not in str(caught.value)


def test_wrong_number_of_classes_is_refused(write):
    two = CARD.model_copy(update={"classes": ("a", "b")})
    with pytest.raises(ClassifierError, match=r"answered \(5, 3\)"):
        OnnxClassifier(write(), two)(IMAGES)


def test_without_onnxruntime_the_extra_is_named(monkeypatch, write):
    path = write()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=r"counterscan\[onnx\]"):
        OnnxClassifier(path, CARD)
