"""VALD-MD (Siddiqui et al., 2025, Sci Rep 15:962, arXiv 2401.01414): attribution by latent diffusion with text.

An abnormal image is encoded, noised, denoised under a text that says it is normal, and decoded; the difference is the
attribution. No code of the paper is public, and none of its numbers is known to us, so all of them are chosen here.

Changes:
- the texts are made from what the classifier says and what is asked of it (`text_guided/wording.py`), unless given;
- guidance goes from the text of the finding to that of its absence, not from an empty one;
- only where the two texts disagree about the image anything is drawn anew (`text_guided/drawing.py`);
- the change is measured against the image's own reconstruction and added to the image itself, which keeps all detail
  that latents do not hold; it is the mean over several noises, without what they do not agree on;
- strength and guidance climb a short ladder, and stop where the classifier answers as asked; where it never does with
  a margin, the rung that came nearest counts, for more noise is not always nearer.
"""

from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from counterscan.core import Classifier, Finding, Target
from counterscan.data.batches import read_mask
from counterscan.data.fitting import fit_mask
from counterscan.errors import CounterscanError
from counterscan.explainers.base import CounterfactualExplainer
from counterscan.explainers.text_guided.drawing import LEAST, Edit, Rung, contrast, levels_of, region_of
from counterscan.explainers.text_guided.wording import asked, seen
from counterscan.priors.sampling import Noise
from counterscan.priors.text import TextPrior
from counterscan.registry import EXPLAINERS

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
    `keep` are mask files: nothing changes outside the one, nor inside the other.
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

    def __post_init__(self) -> None:
        for rung in self.ladder:
            levels_of(self.steps, rung.strength)
        if self.draws < 1:
            raise CounterscanError(f"{self.draws} draws cannot be; ask for at least 1")

    @property
    def ladder(self) -> tuple[Rung, ...]:
        """The rungs, with what is given in place of their own."""
        given = {name: value for name, value in (("strength", self.strength), ("guidance", self.guidance)) if value}
        return tuple(replace(rung, **given) for rung in LADDER)

    @torch.no_grad()
    def run(self, classifier: Classifier, images: Tensor, target: Target) -> Finding:
        """The smallest change on the ladder that passes `margin`; where none does, the one that comes nearest."""
        answers = classifier(images)
        texts = self._texts(classifier, answers, target)
        latents = self.prior.codec.encode(images)
        reconstruction = self.prior.codec.decode(latents)
        edit = Edit(self.prior, latents, reconstruction, *texts, self.steps, self.draws, self.inverted)
        differ = contrast(self.prior, latents, *texts, Noise.of(images)) * F.adaptive_max_pool2d(
            self._free, latents.shape[2:]
        )
        found, best = [images.clone(), torch.zeros_like(images)], images.new_full((len(images),), -torch.inf)
        cases = [{"prompt": here, "negative": there, "rung": 0} for here, there in zip(*texts, strict=True)]
        left = torch.nonzero(differ.flatten(1).amax(1) >= LEAST)[:, 0]
        for number, rung in enumerate(self.ladder, 1):
            if not len(left):
                break
            region = region_of(differ[left], rung.share)
            change, deviation = edit.select(left).drawn(region, rung, Noise.of(images[left], number))
            tried = (images[left] + self._free * agreed(change, deviation)).clamp(-1, 1)
            score = target.score(classifier(tried))
            nearer = score > best[left]
            rows = left[nearer]
            for kept, value in zip((*found, best), (tried, deviation, score), strict=True):
                kept[rows] = value[nearer]
            for row in rows.tolist():
                cases[row] |= {"rung": number, **asdict(rung)}
            left = left[score <= self.margin]
        return Finding(found[0], deviation=found[1].mean(1, keepdim=True) / 2, cases=cases)

    def _texts(self, classifier: Classifier, answers: Tensor, target: Target) -> tuple[list[str], list[str]]:
        """What is asked for and what is led away from, a text for each image."""
        here = [self.prompt] * len(answers) if self.prompt else asked(classifier.card, answers, target)
        there = [self.negative] * len(answers) if self.negative else seen(classifier.card, answers)
        return here, there

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


def agreed(change: Tensor, deviation: Tensor) -> Tensor:
    """The mean change of several draws, less where they do not agree: a change of one deviation is halved."""
    size = change.square()
    return change * size / (size + deviation.square()).clamp_min(1e-12)
