"""A classifier by what a user types: a shipped name, a folder with a card, a model.onnx, or package.module:function."""

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import nn

from counterscan.classifiers.function import FunctionClassifier
from counterscan.classifiers.onnx import OnnxClassifier
from counterscan.classifiers.torch import TorchClassifier, one_line
from counterscan.core import Card, Classifier
from counterscan.errors import ClassifierError, UnknownName, WeightsError, did_you_mean
from counterscan.registry import shipped_weights

PICKLES = (".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin")


def load_classifier(spec: str | Path, card: Card | str | Path | None = None) -> Classifier:
    """The classifier that `spec` names.

    - `chest/classifier`: shipped weights, or a folder with `card.json` and safetensors;
    - `model.onnx`, with `card.json` beside it or `model.json`;
    - `package.module:name`: a function on arrays, a torch module, or a ready Classifier; the first two say what they
      answer by an attribute `card`.

    `card` (a Card, or the path of one) stands in for the card that is not there. Raises UnknownName for a name that is
    neither, with the nearest that is; WeightsError for a missing or wrong card and for pickles.
    """
    text, path = str(spec), Path(spec)
    given = card if isinstance(card, Card) or card is None else read_card(Path(card))
    if path.suffix.lower() == ".onnx":
        return OnnxClassifier(path, given or _card_beside(path))
    if path.suffix.lower() in PICKLES:
        raise WeightsError(f"{path} is a pickle, which runs code when opened; name a function: package.module:function")
    if ":" in text and not path.exists():
        return _from_python(text, given)
    if text in shipped_weights() or path.is_dir():
        return _from_weights(text)
    raise UnknownName(
        f"no classifier is called {text!r}{did_you_mean(text, _shipped())}; "
        "name shipped weights, a folder with card.json, an .onnx file or package.module:function"
    )


def read_card(path: Path) -> Card:
    """The card in a JSON file; WeightsError says what is wrong with it."""
    try:
        return Card.model_validate_json(path.read_bytes())
    except OSError:
        raise WeightsError(f"{path} cannot be read; name a card.json") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise WeightsError(f"{path} is no card: {where}: {first['msg']}") from None


def _shipped() -> list[str]:
    return [name for name in shipped_weights() if not name.endswith("/inpainting")]


def _card_beside(path: Path) -> Card:
    if not path.is_file():
        raise ClassifierError(f"{path} does not exist; name an .onnx file")
    for place in (path.with_suffix(".json"), path.with_name("card.json")):
        if place.is_file():
            return read_card(place)
    raise WeightsError(f"{path} has no card; write {path.with_suffix('.json').name} beside it, or give --card")


def _from_weights(text: str) -> Classifier:
    from counterscan.weights.store import load_weights

    return TorchClassifier(*load_weights(text, kind="classifier"))


def _from_python(text: str, given: Card | None) -> Classifier:
    module_name, _, name = text.partition(":")
    thing = _attribute(_imported(module_name), name, text)
    card = given or getattr(thing, "card", None)
    if not isinstance(card, Card):
        raise ClassifierError(f"{text} has no card; set {name}.card = Card(...) in {module_name}, or give --card")
    if isinstance(thing, nn.Module):
        return TorchClassifier(thing, card)
    if hasattr(thing, "differentiable"):
        return thing
    if not callable(thing):
        raise ClassifierError(f"{text} is a {type(thing).__name__}, not a function on arrays")
    return FunctionClassifier(thing, card)


def _imported(module_name: str) -> Any:
    try:
        with _here_on_path():
            return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ClassifierError(f"cannot import {module_name}: no module {error.name!r} here or installed") from None
    except Exception as error:
        raise ClassifierError(f"importing {module_name} failed: {one_line(error)}") from error


def _attribute(module: Any, name: str, text: str) -> Any:
    if not hasattr(module, name):
        known = [key for key in vars(module) if not key.startswith("_")]
        raise UnknownName(f"{text}: {module.__name__} has no {name!r}{did_you_mean(name, known)}")
    return getattr(module, name)


@contextmanager
def _here_on_path() -> Iterator[None]:
    """The folder the command runs in, importable as it is for `python -m`."""
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
