"""An ONNX model as a classifier, run by onnxruntime."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from counterscan.classifiers.answers import check_card, prepare, to_log_odds
from counterscan.classifiers.sizes import fits, in_portions, wrong_size
from counterscan.core import Card
from counterscan.errors import ClassifierError, MissingExtra

TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


class OnnxClassifier:
    """Answers log-odds with the model at `path`, as `card` says that it answers. A black box: no gradients.

    A model exported for a fixed batch gets batches of just that size, the last one filled up; one that wants channels
    last gets them last. Of several outputs `card.settings["output"]` names the one to read. Raises MissingExtra
    without onnxruntime, ClassifierError for a file that is no model or does not fit its card.
    """

    differentiable = False

    def __init__(self, path: str | Path, card: Card):
        check_card(card)
        self.path = Path(path)
        self.card = card
        self.session = _open(self.path)
        self._input = self._only_input()
        self._output = self._named_output()
        self._batch, self._channels_last = self._layout()

    def __call__(self, images: Tensor) -> Tensor:
        pixels = prepare(images.detach(), self.card).cpu()
        answers = in_portions(self._ask, pixels, least=self._batch or 1, most=self._batch)
        return to_log_odds(answers, self.card, len(images)).to(images.device)

    def _ask(self, pixels: Tensor) -> Tensor:
        batch = pixels.movedim(1, -1) if self._channels_last else pixels
        array = np.ascontiguousarray(batch.numpy(), TYPES[self._input.type])
        try:
            (answers,) = self.session.run([self._output], {self._input.name: array})
            return torch.from_numpy(np.asarray(answers))
        except Exception as error:
            raise ClassifierError(f"{self.path.name} failed on images {array.shape}: {_first_line(error)}") from error

    def _only_input(self) -> Any:
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in TYPES:
            takes = ", ".join(f"{one.name} {one.type}" for one in inputs)
            raise ClassifierError(
                f"{self.path.name} takes {takes}; a classifier takes one array of floats: the images "
                "(export it with the other inputs filled in)"
            )
        return inputs[0]

    def _named_output(self) -> str:
        names = [one.name for one in self.session.get_outputs()]
        wanted: Any = self.card.settings.get("output", names[0] if len(names) == 1 else None)
        if wanted not in names:
            asked = f"has no output {wanted!r}" if wanted else "has several outputs"
            raise ClassifierError(
                f"{self.path.name} {asked}; say in its card which to read: "
                f'"settings": {{"output": "NAME"}}, NAME one of {", ".join(names)}'
            )
        return wanted

    def _layout(self) -> tuple[int, bool]:
        """The fixed batch size (0: any), and whether channels come last."""
        batch, *shape = self._input.shape
        channels, *spatial = self.card.shape
        channels_last = not fits(shape, (channels, *spatial)) and fits(shape, (*spatial, channels))
        if not channels_last and not fits(shape, (channels, *spatial)):
            raise wrong_size(self.path.name, shape, self.card)
        return (batch if isinstance(batch, int) and batch > 0 else 0), channels_last


def _open(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtra("onnxruntime", "onnx") from None
    if not path.is_file():
        raise ClassifierError(f"{path} does not exist; name an .onnx file")
    try:
        return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ClassifierError(f"{path} cannot be opened as an ONNX model: {_why(error)}") from error


def _why(error: Exception) -> str:
    """What onnxruntime said of a file, and the cure for what exporters most often do."""
    said = _first_line(error)
    if operator := re.search(r"([\w.]*:?\w+)\(-?\d+\) is not a registered|No Op registered for (\w+)", said):
        name = operator[1] or operator[2]
        return f"onnxruntime has no operator {name}; export it from standard operators, or name a function instead"
    if opset := re.search(r"Opset (\d+) is under development.* is till opset (\d+)", said):
        return f"it is written in opset {opset[1]}; export it in opset {opset[2]} or lower, or update onnxruntime"
    return said.rpartition(" failed:")[2][:300]


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
