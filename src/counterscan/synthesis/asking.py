"""From what a person types to an Archive: networks by their names, what is asked for, and the real images beside it."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from counterscan.classifiers.companion import companion
from counterscan.classifiers.features import Extractor
from counterscan.classifiers.load import load_classifier
from counterscan.classifiers.wrappers import Fitted
from counterscan.core import Card, Classifier
from counterscan.data.batches import open_images
from counterscan.data.manifest import find_cases
from counterscan.data.window import Window
from counterscan.errors import CounterscanError, NeedsGradients, WeightsError
from counterscan.explainers.latents.sphere import GeneratorPrior
from counterscan.priors.generator import load_generator
from counterscan.progress import progress
from counterscan.synthesis.gate import CHUNK, Gate, Limits, extractor_of, limits_of, own_limits
from counterscan.synthesis.making import Making
from counterscan.synthesis.specs import Request, counted, evenly, prevalent
from counterscan.synthesis.storage import Storage
from counterscan.synthesis.writing import Archive


def prepare(
    *,
    generator: str,
    classifier: str,
    judge: str,
    out: Path,
    labels: Sequence[str] = (),
    counts: Path | None = None,
    prevalence: Path | None = None,
    n: int | None = None,
    kind: str = "png",
    references: Path | None = None,
    seed: int = 0,
    draws: int = 16,
    tries: int = 3,
    command: str = "",
    limits: Limits | None = None,
) -> Archive:
    """The archive that these words ask for; CounterscanError names the first word that is wrong, and the cure.

    Real images are compared with where `references`, a manifest or a folder, holds some; `limits` stand for what was
    measured of them before.
    """
    words = locals()
    prior = load_generator(generator)
    sees, judges = _fitted(load_classifier(classifier), load_classifier(judge), prior.card)
    requests = _asked(labels, counts, prevalence, n, sees.card)
    storage = Storage(prior.card, kind)
    extractor = extractor_of(judges, sees)
    if limits is None:
        limits = own_limits(prior, extractor) if references is None else real_limits(references, prior, extractor)
    gate = Gate(prior, sees, judges, extractor, limits)
    facts = {
        "command": command,
        "generator": [generator, prior.card.sha256],
        "classifier": [classifier, sees.card.sha256],
        "judge": [judge, judges.card.sha256],
        "requests": [[one.labels, one.count] for one in requests],
        "references": [str(references or ""), len(limits.references)],
        "format": kind,
        "seed": seed,
        "draws": draws,
        "tries": tries,
    }
    making = Making(prior, sees, gate, storage.stored, draws, tries)
    again = partial(prepare, **words | {"limits": limits})
    return Archive(out, requests, making, storage, sees.card, seed, facts, again)


def _fitted(classifier: Classifier, judge: Classifier, card: Card) -> tuple[Classifier, Classifier]:
    """Both for images of the generator's shape; refused where they see another window, or answer something else."""
    if not classifier.differentiable:
        raise NeedsGradients(
            f"{classifier.card.name} gives no gradients to move latents by; name a torch classifier as --classifier "
            "(the --judge may be a black box)"
        )
    if classifier.card.window and card.window and classifier.card.window != card.window:
        raise WeightsError(
            f"{card.name} makes images in the window {card.window}, but {classifier.card.name} sees "
            f"{classifier.card.window}; name a classifier that was trained in the same window"
        )
    fitted = classifier if tuple(classifier.card.shape) == tuple(card.shape) else Fitted(classifier, card.shape)
    return fitted, companion(judge, fitted.card)


def _asked(
    labels: Sequence[str], counts: Path | None, prevalence: Path | None, n: int | None, card: Card
) -> tuple[Request, ...]:
    if sum(map(bool, (labels, counts, prevalence))) != 1:
        raise CounterscanError("say what to make by one of --labels (repeatable), --counts and --prevalence")
    if counts is not None:
        if n is not None:
            raise CounterscanError(f"{counts} says how many of each; leave -n out")
        return counted(counts, card)
    if n is None:
        raise CounterscanError("say how many scans to make: -n 1000")
    return prevalent(prevalence, n, card) if prevalence is not None else evenly(labels, n, card)


def real_limits(references: Path, generator: GeneratorPrior, extractor: Extractor) -> Limits:
    """The features of real images, and how near they are to one another."""
    manifest = find_cases(references)
    window: Any = Window(*generator.card.window) if generator.card.window else None
    with progress("references", len(manifest), "images") as tell:
        images = open_images(manifest, tuple(generator.card.shape), window, progress=tell)
    rows = torch.arange(len(images)).split(CHUNK)
    return limits_of(torch.cat([extractor(images.batch(part)) for part in rows]), images.patients)
