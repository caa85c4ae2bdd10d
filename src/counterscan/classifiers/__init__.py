"""Adapters that turn what a user has into a Classifier."""

from counterscan.classifiers.averaged import Averaged
from counterscan.classifiers.check import check_classifier
from counterscan.classifiers.function import FunctionClassifier
from counterscan.classifiers.load import load_classifier
from counterscan.classifiers.onnx import OnnxClassifier
from counterscan.classifiers.process import Worker
from counterscan.classifiers.remembered import Remembered
from counterscan.classifiers.service import Service
from counterscan.classifiers.tempered import Tempered, fit_temperature
from counterscan.classifiers.torch import TorchClassifier
from counterscan.classifiers.wrappers import BlackBox, Counting, Fitted

__all__ = [
    "Averaged",
    "BlackBox",
    "Counting",
    "Fitted",
    "FunctionClassifier",
    "OnnxClassifier",
    "Remembered",
    "Service",
    "Tempered",
    "TorchClassifier",
    "Worker",
    "check_classifier",
    "fit_temperature",
    "load_classifier",
]
