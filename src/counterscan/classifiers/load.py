"""A classifier by what a user types: a shipped name, a folder, a file, a service, or package.module:function."""

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from counterscan.classifiers.answers import number_of
from counterscan.classifiers.function import FunctionClassifier
from counterscan.classifiers.onnx import OnnxClassifier
from counterscan.classifiers.process import Worker
from counterscan.classifiers.remembered import Remembered
from counterscan.classifiers.scripted import open_program
from counterscan.classifiers.service import SCHEMES, Service
from counterscan.classifiers.torch import TorchClassifier, one_line
from counterscan.core import Card, Classifier
from counterscan.errors import ClassifierError, UnknownName, WeightsError, did_you_mean
from counterscan.registry import shipped_weights
from counterscan.weights.store import load_weights, parse_card

PROGRAMS = (".pt", ".pth", ".pt2", ".ts", ".ckpt", ".pkl", ".pickle", ".bin")  # what is inside decides
PROCESS = "process:"
MOST_AT_ONCE = 32  # questions to a service, whatever a card says


def load_classifier(spec: str | Path, card: Card | str | Path | None = None) -> Classifier:
    """The classifier that `spec` names.

    - `chest/classifier`: shipped weights, or a folder with `card.json` and safetensors;
    - `model.onnx`, `model.pt` (TorchScript) or `model.pt2` (an exported program), with `card.json` beside it or
      `model.json`;
    - `http://host:port/path` or `https://...`: a service, which answers GET with its card if it has one, and is asked
      each image once (Remembered) unless the card's settings say `"remember": false`;
    - `package.module:name`: a function on arrays, a torch module, or a ready Classifier; the first two say what they
      answer by an attribute `card`;
    - `process:package.module:function`: such a function, in a process of its own.

    `card` (a Card, or the path of one) stands in for the card that is not there. Raises UnknownName for a name that is
    neither, with the nearest that is; WeightsError for a missing or wrong card and for pickles.
    """
    text, path = str(spec), Path(spec)
    given = card if isinstance(card, Card) or card is None else read_card(Path(card))
    if text.startswith(SCHEMES):
        return _from_service(text, given)
    if text.startswith(PROCESS):
        return _from_process(text.removeprefix(PROCESS), given)
    if path.suffix.lower() == ".onnx":
        return OnnxClassifier(path, given or _card_beside(path))
    if path.suffix.lower() in PROGRAMS:
        return _from_program(path, given)
    if ":" in text and not path.exists():
        return _from_python(text, given)
    if text in shipped_weights() or path.is_dir():
        return _from_weights(text)
    raise UnknownName(
        f"no classifier is called {text!r}{did_you_mean(text, _shipped())}; name shipped weights, a folder with "
        "card.json, a file (.onnx, .pt, .pt2), http://host:port/path or package.module:function"
    )


def read_card(path: Path) -> Card:
    """The card in a JSON file; WeightsError says what is wrong with it."""
    try:
        return parse_card(path.read_bytes(), str(path))
    except OSError:
        raise WeightsError(f"{path} cannot be read; name a card.json") from None


def _shipped() -> list[str]:
    return [name for name in shipped_weights() if name.endswith(("/classifier", "/judge", "/robust"))]


def _card_beside(path: Path) -> Card:
    if not path.is_file():
        raise ClassifierError(f"{path} does not exist; name an .onnx, .pt or .pt2 file")
    for place in (path.with_suffix(".json"), path.with_name("card.json")):
        if place.is_file():
            return read_card(place)
    raise WeightsError(f"{path} has no card; write {path.with_suffix('.json').name} beside it, or give --card")


def _from_weights(text: str) -> Classifier:
    return TorchClassifier(*load_weights(text, kind="classifier"))


def _from_program(path: Path, given: Card | None) -> Classifier:
    program = open_program(path)
    card = given or _card_beside(path)
    program.check_card(path.name, card)
    return TorchClassifier(program, card)


def _from_service(url: str, given: Card | None) -> Classifier:
    service = Service(url)
    card = given or _card_of(service)
    timeout, patience = (number_of(card, key, getattr(service, key)) for key in ("timeout", "patience"))
    batch, parallel = (max(int(number_of(card, key, getattr(service, key))), 1) for key in ("batch", "parallel"))
    service = replace(service, timeout=timeout, patience=patience, batch=batch, parallel=min(parallel, MOST_AT_ONCE))
    classifier, remember = FunctionClassifier(service, card), card.settings.get("remember", True)
    if not isinstance(remember, bool):
        raise ClassifierError(f"{card.name}: the setting remember must be true or false, got {remember!r}")
    repeat = number_of(card, "repeat", 0.0) if card.settings.get("repeat") else 0.0
    known = Remembered(classifier, identity=url, batch=batch, parallel=service.parallel, repeat=repeat)
    return known if remember else classifier


def _card_of(service: Service) -> Card:
    try:
        return parse_card(service.card(), f"the answer of {service.name} to GET")
    except (ClassifierError, WeightsError) as error:
        raise WeightsError(f"{error}; give --card, or let the service answer GET with its card") from None


def _from_process(name: str, given: Card | None) -> Classifier:
    if not all(name.partition(":")):
        raise ClassifierError(f"{PROCESS}{name} names no function; write {PROCESS}package.module:function")
    worker = Worker(name)
    told = b"" if given else worker.card()
    if not (given or told):
        raise ClassifierError(f"{worker} has no card; set {name.partition(':')[2]}.card = Card(...), or give --card")
    card = given or parse_card(told, f"the card of {worker}")
    worker.timeout = number_of(card, "timeout", worker.timeout)
    return FunctionClassifier(worker, card)


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
