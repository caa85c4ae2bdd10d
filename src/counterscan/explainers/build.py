"""From a name and plain settings to a configured explainer."""

from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from counterscan.core import Editor, Segmenter
from counterscan.errors import CounterscanError, UnknownName, did_you_mean
from counterscan.explainers.base import Explainer
from counterscan.explainers.latent_agent.fitting import ImageCodec
from counterscan.explainers.latents.sphere import GeneratorPrior
from counterscan.priors.codec import load_codec
from counterscan.priors.denoiser import DenoiserPrior, load_denoiser
from counterscan.priors.editor import load_editor
from counterscan.priors.generator import load_generator
from counterscan.priors.segmenter import load_segmenter
from counterscan.priors.text import TextPrior, load_text_prior
from counterscan.registry import EXPLAINERS

LOADERS: dict[Any, Callable[[str | Path], Any]] = {
    DenoiserPrior: load_denoiser,
    Editor: load_editor,
    GeneratorPrior: load_generator,
    ImageCodec: load_codec,
    Segmenter: load_segmenter,
    TextPrior: load_text_prior,
}
NAMED = {
    DenoiserPrior: "denoiser",
    GeneratorPrior: "growing-gan",
    TextPrior: "text-diffusion",
}  # where not as explainers


def needs_prior(name: str) -> bool:
    """Does the explainer called `name` need a prior? It is the first field then, and has no default."""
    return any(field.default is MISSING for field in fields(EXPLAINERS[name])[:1])


def prior_name(name: str) -> str:
    """What the prior of the explainer called `name` is called beside a classifier: by its kind, or as the explainer."""
    kind: Any = fields(EXPLAINERS[name])[0].type
    return NAMED.get(kind, name)


def recipe_name(prior: str) -> str:
    """The recipe that trains a prior called so."""
    return "diffusion" if prior == NAMED[DenoiserPrior] else prior


def build_explainer(
    name: str,
    prior: str | Path | DenoiserPrior | Editor | GeneratorPrior | ImageCodec | Segmenter | TextPrior | None = None,
    **settings: Any,
) -> Explainer:
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
    if isinstance(prior, str | Path):
        prior = LOADERS[fields(kind)[0].type](prior)
    return kind(**{first: prior}, **settings)


def _settings(kind: type) -> list[str]:
    return [field.name for field in fields(kind)]
