"""Explain an ONNX model as a black box: a card beside the file, its answers, and RISE, which needs nothing else.

Run: python examples/onnx_black_box.py    (needs onnxruntime, and onnx to write the toy model)
"""

import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from counterscan.classifiers.load import load_classifier
from counterscan.core import Card, Target
from counterscan.explainers.attribution.rise import RISE


def write_model(folder: Path) -> Path:
    """A toy in place of your export: the logit of `blob` grows with the brightest 8 x 8 average of the image."""
    nodes = [
        helper.make_node("AveragePool", ["image"], ["average"], kernel_shape=[8, 8]),
        helper.make_node("GlobalMaxPool", ["average"], ["brightest"]),
        helper.make_node("Flatten", ["brightest"], ["flat"]),
        helper.make_node("Gemm", ["flat", "slope", "offset"], ["logit"]),
    ]
    numbers = {"slope": [[12.0]], "offset": [0.0]}
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 64, 64])],
        [helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in numbers.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "toy.onnx")
    card = Card(name="toy", shape=(1, 64, 64), classes=("normal", "blob"), output="binary", normal="normal")
    (folder / "toy.json").write_text(card.model_dump_json())
    return folder / "toy.onnx"


if __name__ == "__main__":
    images = torch.full((2, 1, 64, 64), -0.5)
    images[0, :, 12:24, 36:48] = 0.5
    images[1, :, 40:50, 8:20] = 0.4

    with tempfile.TemporaryDirectory() as folder:
        classifier = load_classifier(write_model(Path(folder)))
    explanation = RISE(masks=500)(classifier, images, Target.parse("normal", classifier.card))
    for case in range(len(images)):
        row, column = divmod(int(explanation.heatmap[case].argmax()), 64)
        probability = float(explanation.before[case, 1].sigmoid())
        print(f"case {case}: blob with probability {probability:.2f}, seen around row {row}, column {column}")
    print(f"{explanation.meta['queries']} queries in {explanation.meta['seconds']:.1f} s")
