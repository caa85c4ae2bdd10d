"""Counterfactual explanations of image classifiers in medicine. The public names, loaded when they are first used."""

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from counterscan.classifiers.function import FunctionClassifier
    from counterscan.classifiers.load import load_classifier
    from counterscan.classifiers.torch import TorchClassifier
    from counterscan.classifiers.wrappers import BlackBox, Counting, Fitted
    from counterscan.core import Card, Explanation, Target
    from counterscan.data.manifest import read_manifest
    from counterscan.data.phantoms.base import draw
    from counterscan.data.scans import read_scan
    from counterscan.data.window import Window
    from counterscan.errors import CounterscanError
    from counterscan.explainers.build import build_explainer
    from counterscan.priors.editor import load_editor

__version__ = metadata.version("counterscan")

_HOMES = {
    "BlackBox": "classifiers.wrappers",
    "Card": "core",
    "Counting": "classifiers.wrappers",
    "CounterscanError": "errors",
    "Explanation": "core",
    "Fitted": "classifiers.wrappers",
    "FunctionClassifier": "classifiers.function",
    "Target": "core",
    "TorchClassifier": "classifiers.torch",
    "Window": "data.window",
    "build_explainer": "explainers.build",
    "draw": "data.phantoms.base",
    "load_classifier": "classifiers.load",
    "load_editor": "priors.editor",
    "read_manifest": "data.manifest",
    "read_scan": "data.scans",
}

__all__ = [
    "BlackBox",
    "Card",
    "CounterscanError",
    "Counting",
    "Explanation",
    "Fitted",
    "FunctionClassifier",
    "Target",
    "TorchClassifier",
    "Window",
    "build_explainer",
    "draw",
    "load_classifier",
    "load_editor",
    "read_manifest",
    "read_scan",
]


def __getattr__(name: str) -> Any:
    """Import the home of a public name on first use, so that `import counterscan` stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'counterscan' has no attribute {name!r}")
    return getattr(import_module(f"counterscan.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
