"""An ONNX model as a classifier, run by onnxruntime."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from counterscan.classifiers.answers import check_card, prepare, to_log_odds
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
        pixels = prepare(images.detach(), self.card).cpu().numpy().astype(TYPES[self._input.type])
        pixels = np.moveaxis(pixels, 1, -1) if self._channels_last else pixels
        size = self._batch or len(pixels)
        answers = [self._ask(pixels[start : start + size], size) for start in range(0, len(pixels), size)]
        return to_log_odds(torch.from_numpy(np.concatenate(answers)), self.card, len(images)).to(images.device)

    def _ask(self, pixels: np.ndarray, size: int) -> np.ndarray:
        filling = np.repeat(pixels[-1:], size - len(pixels), axis=0)
        batch = np.ascontiguousarray(np.concatenate([pixels, filling]))
        try:
            (answers,) = self.session.run([self._output], {self._input.name: batch})
            return np.asarray(answers)[: len(pixels)]
        except Exception as error:
            raise ClassifierError(f"{self.path.name} failed on images {batch.shape}: {_first_line(error)}") from error

    def _only_input(self) -> Any:
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in TYPES:
            takes = ", ".join(f"{one.name} {one.type}" for one in inputs)
            raise ClassifierError(f"{self.path.name} takes {takes}; a classifier takes one array of floats: the images")
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
        channels_last = not _fits(shape, (channels, *spatial)) and _fits(shape, (*spatial, channels))
        if not channels_last and not _fits(shape, (channels, *spatial)):
            raise ClassifierError(f"{self.path.name} takes images {tuple(shape)}, its card says {self.card.shape}")
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
        raise ClassifierError(f"{path} cannot be opened as an ONNX model: {_first_line(error)}") from error


def _fits(shape: list[int | str | None], wanted: tuple[int, ...]) -> bool:
    """Whether a model's input shape, with names or None where it is free, takes `wanted`."""
    return len(shape) == len(wanted) and all(
        not isinstance(side, int) or side == asked for side, asked in zip(shape, wanted, strict=True)
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
