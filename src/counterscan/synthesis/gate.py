"""The gate to an archive: what was moved until one classifier believes it is taken only if others do not object.

An image is refused unless the classifier and a judge that took no part both answer as asked, unless the critic finds it
as usual as all but the most unusual 5 % of the generator's own draws, if it is nearer to a real image than real images
are to one another, and if it nearly repeats one that is in the archive already.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from counterscan.classifiers.features import Extractor
from counterscan.core import Classifier, Target
from counterscan.errors import CounterscanError, NeedsGradients
from counterscan.explainers.latents.aims import Aim, Usual
from counterscan.explainers.latents.sphere import GeneratorPrior
from counterscan.metrics.memorisation import nearest

REFUSALS = ("classifier", "judge", "critic", "copy", "duplicate")
CLOSEST = 0.01  # share of real images whose nearest neighbour is nearer than what counts as a copy
REPEATED = 0.25  # of the median distance between neighbours: what is nearer repeats the other
MOST, LEAST = 4000, 20  # images among which neighbours are looked for to find those distances
DRAWN = 256  # of the generator's own images, where no real ones are given
CHUNK = 32


@dataclass(frozen=True)
class Limits:
    """How near is too near: to a real image (`copy`), and to one in the archive (`repeat`); features of `references`.

    Without real images `references` is empty, and `copy` 0.
    """

    references: Tensor
    copy: float
    repeat: float


def limits_of(references: Tensor, patients: Sequence[str]) -> Limits:
    """From the features `(n, d)` of real images: distances between one image each of different patients.

    Raises CounterscanError where there are too few to tell.
    """
    first = {patient: place for place, patient in reversed(list(enumerate(patients)))}
    alone = references[sorted(first.values())[:MOST]]
    if len(alone) < LEAST:
        raise CounterscanError(
            f"{len(alone)} patients' images are too few to tell how near is too near; give --references with at least "
            f"{LEAST}, best all that the generator was trained on"
        )
    between, _ = nearest(alone, alone, itself=True)
    return Limits(references, float(np.quantile(between, CLOSEST)), REPEATED * float(np.median(between)))


@dataclass(frozen=True)
class Verdict:
    """What the gate says of one image: why it is `refused` (one of `REFUSALS`), or an empty text, and what it saw.

    `answers` and `judged` are log-odds `(k,)` of classifier and judge, `score` that of the answer asked for, `features`
    `(d,)`, `nearest` the distance to the nearest real image (nan where none are known).
    """

    refused: str
    answers: Tensor
    judged: Tensor
    score: float
    critic: float
    nearest: float
    features: Tensor


@dataclass(frozen=True)
class Gate:
    """Asks `classifier` and `judge` (both for images of the generator's shape) and the generator's critic."""

    generator: GeneratorPrior
    classifier: Classifier
    judge: Classifier
    extractor: Extractor
    limits: Limits

    def __call__(self, images: Tensor, targets: Sequence[Target], taken: Tensor) -> list[Verdict]:
        """A verdict for each of `images` `(n, c, h, w)`, in their order; `taken` are features `(m, d)` in the archive.

        Of two among `images` that repeat each other the first is taken.
        """
        rows, aim, usual = torch.arange(len(images)), Aim(targets), Usual.of(self.generator)
        answers, judged = in_chunks(self.classifier, images), in_chunks(self.judge, images)
        critic, features = in_chunks(self.generator.critic, images), in_chunks(self.extractor, images)
        score, agreed = aim.score(answers, rows), aim.score(judged, rows)
        real = self._to_real(features)
        refused = np.select(
            [(score <= 0).numpy(), (agreed <= 0).numpy(), (critic < usual.least).numpy(), real < self.limits.copy],
            REFUSALS[:4],
            "",
        )
        verdicts = []
        for row in range(len(images)):
            why = str(refused[row]) or ("duplicate" if self.repeats(features[row], taken) else "")
            if not why:
                taken = joined(taken, features[row : row + 1])
            facts = (answers[row], judged[row], float(score[row]), float(critic[row]), float(real[row]), features[row])
            verdicts.append(Verdict(why, *facts))
        return verdicts

    def _to_real(self, features: Tensor) -> np.ndarray:
        if not len(self.limits.references):
            return np.full(len(features), np.nan)
        return nearest(features, self.limits.references)[0]

    def repeats(self, features: Tensor, taken: Tensor) -> bool:
        """Is the image of `features` `(d,)` too near to one of those `taken` `(m, d)`? It is the last thing asked."""
        return bool(len(taken)) and float((taken - features).norm(dim=1).min()) < self.limits.repeat


def extractor_of(judge: Classifier, classifier: Classifier) -> Extractor:
    """What tells images apart: the judge's features, or where it cannot be looked into those of the classifier."""
    try:
        return Extractor.of(judge)
    except NeedsGradients:
        return Extractor.of(classifier)


def own_limits(generator: GeneratorPrior, extractor: Extractor) -> Limits:
    """Without real images: how near the generator's own draws are to one another."""
    drawn = generator.draw(DRAWN, torch.Generator().manual_seed(0))
    seen = in_chunks(lambda part: extractor(generator(part)), drawn)
    found = limits_of(seen, list(map(str, range(DRAWN))))
    return Limits(seen[:0], 0.0, found.repeat)


@torch.no_grad()
def in_chunks(ask, images: Tensor) -> Tensor:
    """What `ask` answers for `images`, `CHUNK` at a time, as float32."""
    return torch.cat([ask(part).float() for part in images.split(CHUNK)])


def joined(features: Tensor, more: Tensor) -> Tensor:
    """Features `(n + m, d)` of two sets, each of which may be empty, of any width."""
    return torch.cat([features, more]) if len(features) and len(more) else features if len(features) else more
