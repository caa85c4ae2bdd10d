"""Adapters that turn what a user has into a Classifier."""

from counterscan.classifiers.wrappers import BlackBox, Counting, Fitted

__all__ = ["BlackBox", "Counting", "Fitted"]
