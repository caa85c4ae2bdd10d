"""Explainers, one published idea a file."""

from counterscan.explainers.base import AttributionExplainer, CounterfactualExplainer, Explainer

__all__ = ["AttributionExplainer", "CounterfactualExplainer", "Explainer"]
