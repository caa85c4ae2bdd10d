"""From a name and plain settings to a configured explainer."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from counterscan.core import Editor
from counterscan.errors import CounterscanError, UnknownName, did_you_mean
from counterscan.explainers.base import CounterfactualExplainer, Explainer
from counterscan.priors.editor import load_editor
from counterscan.registry import EXPLAINERS


def needs_prior(name: str) -> bool:
    """Does the explainer called `name` need a prior?"""
    return issubclass(EXPLAINERS[name], CounterfactualExplainer)


def build_explainer(name: str, prior: str | Path | Editor | None = None, **settings: Any) -> Explainer:
    """The explainer called `name` with its `prior` (an object, a shipped name or a folder) and its settings.

    Raises UnknownName for a name or a setting that does not exist, CounterscanError for a prior that is missing or
    not wanted.
    """
    kind = EXPLAINERS[name]
    first, *others = (field.name for field in fields(kind)) if needs_prior(name) else ("", *_settings(kind))
    if needs_prior(name) and prior is None:
        raise CounterscanError(f"{name} needs a prior; add --prior with a shipped name or a folder")
    if prior is not None and not needs_prior(name):
        raise CounterscanError(f"{name} works without a prior; leave --prior out")
    for setting in settings:
        if setting not in others:
            raise UnknownName(f"{name} has no setting {setting!r}{did_you_mean(setting, others)}")
    if prior is None:
        return kind(**settings)
    return kind(**{first: load_editor(prior) if isinstance(prior, str | Path) else prior}, **settings)


def _settings(kind: type) -> list[str]:
    return [field.name for field in fields(kind)]
