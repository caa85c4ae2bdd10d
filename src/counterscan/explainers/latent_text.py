"""VALD-MD (Siddiqui et al., 2025, Sci Rep 15:962, arXiv 2401.01414): attribution by latent diffusion with text.

An abnormal image is encoded, noised, denoised under a text that says it is normal, and decoded; the difference is the
attribution. No code of the paper is public, and none of its numbers is known to us, so all of them are chosen here.

Changes:
- the texts are made from what the classifier says and what is asked of it (`text_guided/wording.py`), unless given;
- guidance goes from the text of the finding to that of its absence, not from an empty one;
- only where the two texts disagree about the image anything is drawn anew (`text_guided/drawing.py`), and only where
  a side and a zone that the prompt names are, and as much of it as a size that it names calls for;
- the change is measured against the image's own reconstruction and added to the image itself, which keeps all detail
  that latents do not hold; it is the mean over several noises, without what they do not agree on;
- strength and guidance climb a short ladder, and stop where the classifier answers as asked; where it never does with
  a margin, the rung that came nearest counts, for more noise is not always nearer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from counterscan.core import Card, Classifier, Finding, Target
from counterscan.data.batches import read_mask
from counterscan.data.fitting import fit_mask
from counterscan.errors import CounterscanError
from counterscan.explainers.base import CounterfactualExplainer
from counterscan.explainers.text_guided.drawing import LEAST, Edit, Rung, contrast, levels_of, region_of
from counterscan.explainers.text_guided.wording import asked, seen
from counterscan.priors.sampling import Noise
from counterscan.priors.text import TextPrior
from counterscan.prompts import Mention, read
from counterscan.prompts.places import FILM, area_of
from counterscan.registry import EXPLAINERS

SIZES = {"small": (0.06, 0.12), "moderate": (0.15, 0.3), "large": (0.35, 0.8)}  # of the places, first and last rung
LADDER = (Rung(0.06, 0.7, 3.0), Rung(0.12, 0.9, 4.0), Rung(0.25, 0.9, 5.0), Rung(0.5, 0.9, 6.0), Rung(0.8, 1.0, 6.0))


@EXPLAINERS.register("latent-text")
@dataclass(frozen=True)
class LatentText(CounterfactualExplainer):
    """Counterfactuals that a latent diffusion draws under a text, where that text and another disagree about the image.

    `prompt` is the text asked for, `negative` the one to be led away from; without them they say what the classifier
    would see, and what it sees. Each rung of the ladder changes more: the share of the latents' places, the `strength`
    of the noise as a share of the `steps` from nothing but noise, and the `guidance`; the last two stay at what is
    given where it is not 0. An image stays on the first rung where the target's score passes `margin`, or else on the
    one where it is highest. `draws` noises are averaged, or the latents are `inverted`, which needs none. `edit` and
    `keep` are mask files: nothing changes outside the one, nor inside the other. Where `placed` is set, what the prompt
    says of size bounds how many places are drawn anew, and on chest films what it says of side and zone which.
    """

    prior: TextPrior
    prompt: str = ""
    negative: str = ""
    strength: float = 0.0
    guidance: float = 0.0
    margin: float = 2.0
    draws: int = 4
    steps: int = 10
    inverted: bool = False
    edit: str = ""
    keep: str = ""
    placed: bool = True

    def __post_init__(self) -> None:
        for rung in self.ladder:
            levels_of(self.steps, rung.strength)
        if self.draws < 1:
            raise CounterscanError(f"{self.draws} draws cannot be; ask for at least 1")

    @property
    def ladder(self) -> tuple[Rung, ...]:
        """The rungs, with what is given in place of their own."""
        given = {name: value for name, value in (("strength", self.strength), ("guidance", self.guidance)) if value}
        return sized(tuple(replace(rung, **given) for rung in LADDER), self._said if self.placed else ())

    @torch.no_grad()
    def run(self, classifier: Classifier, images: Tensor, target: Target) -> Finding:
        """The smallest change on the ladder that passes `margin`; where none does, the one that comes nearest."""
        answers = classifier(images)
        texts = self._texts(classifier, answers, target)
        latents = self.prior.codec.encode(images)
        reconstruction = self.prior.codec.decode(latents)
        edit = Edit(self.prior, latents, reconstruction, *texts, self.steps, self.draws, self.inverted)
        free = F.adaptive_max_pool2d(self._free, latents.shape[2:])
        free = free * self._meant(classifier.card, answers, target, *latents.shape[2:])
        differ = contrast(self.prior, latents, *texts, Noise.of(images)) * free
        nearest = Nearest.of(images, *texts)
        left = torch.nonzero(differ.flatten(1).amax(1) >= LEAST)[:, 0]
        for number, rung in enumerate(self.ladder, 1):
            if not len(left):
                break
            region = region_of(differ[left], rung.share)
            change, deviation = edit.select(left).drawn(region, rung, Noise.of(images[left], number))
            tried = (images[left] + self._free * agreed(change, deviation)).clamp(-1, 1)
            scores = target.score(classifier(tried))
            nearest.note(left, tried, deviation, scores, {"rung": number, **asdict(rung)})
            left = left[scores <= self.margin]
        return Finding(nearest.images, deviation=nearest.deviation.mean(1, keepdim=True) / 2, cases=nearest.cases)

    def _texts(self, classifier: Classifier, answers: Tensor, target: Target) -> tuple[list[str], list[str]]:
        """What is asked for and what is led away from, a text for each image."""
        here = [self.prompt] * len(answers) if self.prompt else asked(classifier.card, answers, target)
        there = [self.negative] * len(answers) if self.negative else seen(classifier.card, answers)
        return here, there

    def _meant(self, card: Card, answers: Tensor, target: Target, h: int, w: int) -> Tensor:
        """Where on the latents the prompt speaks of, `(b, 1, h, w)` in {0, 1}; what is to go may be anywhere."""
        if not (self.placed and self.prompt and self.prior.card.modality == FILM):
            return answers.new_ones(1, 1, h, w)
        said, areas = self._said, []
        for row in answers:
            meant = [one for one in said if one.present]
            for name in (card.classes[index] for index, p in target.wanted if p < 0.5 and row[index] > 0):
                meant += [one for one in said if one.finding == name and not one.present] or [Mention(name, False)]
            areas.append(area_of(meant, h, w))
        return torch.stack(areas)[:, None]

    @cached_property
    def _said(self) -> tuple[Mention, ...]:
        """What the prompt says."""
        return read(self.prompt, self.prior.card.classes).mentions

    @cached_property
    def _free(self) -> Tensor:
        """Where anything may change, `(1, 1, H, W)` in {0, 1}."""
        size = self.prior.card.shape[1:]
        free = torch.ones(1, 1, *size)
        for path, inside in ((self.edit, True), (self.keep, False)):
            if path:
                mask = fit_mask(torch.from_numpy(read_mask(path)[:1, None]), (size[0], size[1]))
                free = free * (mask == inside)
        return free

    def __repr__(self) -> str:
        shown = {item.name: getattr(self, item.name) for item in fields(self)} | {"prior": self.prior.card.name}
        return f"LatentText({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


@dataclass
class Nearest:
    """Of each image what was tried and came nearest to the target, and how: the image itself before anything was."""

    images: Tensor
    deviation: Tensor
    scores: Tensor
    cases: list[dict[str, Any]]

    @classmethod
    def of(cls, images: Tensor, prompts: Sequence[str], negatives: Sequence[str]) -> Self:
        """Nothing is tried yet of `images` `(b, c, h, w)`, which each have a prompt and a negative one."""
        cases = [{"prompt": one, "negative": two, "rung": 0} for one, two in zip(prompts, negatives, strict=True)]
        scores = images.new_full((len(images),), -torch.inf)
        return cls(images.clone(), torch.zeros_like(images), scores, cases)

    def note(self, rows: Tensor, tried: Tensor, deviation: Tensor, scores: Tensor, facts: Mapping[str, Any]) -> None:
        """Keep what was `tried` of the images `rows` `(n,)`, where its `scores` `(n,)` are the best so far."""
        nearer = scores > self.scores[rows]
        kept = rows[nearer]
        self.images[kept], self.deviation[kept], self.scores[kept] = tried[nearer], deviation[nearer], scores[nearer]
        for row in kept.tolist():
            self.cases[row] |= facts


def sized(ladder: tuple[Rung, ...], said: Sequence[Mention]) -> tuple[Rung, ...]:
    """The rungs, their shares of the places as what is `said` to be there is small, moderate or large.

    A small one that takes more noise or guidance to be seen stays smaller than a large one that is seen at once. Where
    sizes differ, or none is said, the rungs stay as they are.
    """
    words = {mention.severity for mention in said if mention.present}
    if len(words) != 1 or not (words & SIZES.keys()):
        return ladder
    (low, high), (first, last) = SIZES[words.pop()], (LADDER[0].share, LADDER[-1].share)
    return tuple(replace(rung, share=low + (high - low) * (rung.share - first) / (last - first)) for rung in ladder)


def agreed(change: Tensor, deviation: Tensor) -> Tensor:
    """The mean change of several draws, less where they do not agree: a change of one deviation is halved."""
    size = change.square()
    return change * size / (size + deviation.square()).clamp_min(1e-12)
