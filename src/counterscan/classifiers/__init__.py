"""Adapters that turn what a user has into a Classifier."""

from counterscan.classifiers.function import FunctionClassifier
from counterscan.classifiers.load import load_classifier
from counterscan.classifiers.onnx import OnnxClassifier
from counterscan.classifiers.torch import TorchClassifier
from counterscan.classifiers.wrappers import BlackBox, Counting, Fitted

__all__ = [
    "BlackBox",
    "Counting",
    "Fitted",
    "FunctionClassifier",
    "OnnxClassifier",
    "TorchClassifier",
    "load_classifier",
]
