"""Diffusion visual counterfactuals of the retina, DVC (Ilanchezian et al., 2025, PLOS Digital Health 4(5) e0000853).

The image is noised half way and denoised again, and on the way pushed to where the classifier answers as asked, and
back towards the image. An ordinary classifier's gradients draw noise; so those of a robust one steer, pulled into a
cone around the explained one's. The method is DVCE (Augustin et al., 2022, arXiv 2210.11841) on retinal images.

Changes from the paper, all of which `exact=True` takes back:
- it starts at a lower level of noise, where more of the eye survives, and takes few steps from there;
- gradients are taken at the clean estimate (`gradients="estimate"`), with no pass back through the denoiser;
- the change is confined to where it counts for the answer (`confined`), in OCT to A-scans: the rest stays as it was;
- an image that does not reach the target is tried again with more guidance (`ladder`).
Changes that stay:
- what climbs is the log-odds of the target, not its log-probability: for two classes the same direction, and one that
  does not vanish where the answer is certain;
- nothing is pushed in the last step, whose push would not reach the image;
- the posterior's variance is the smaller one (beta tilde), and not learned;
- each image draws noise of its own, whatever the batch, and one that answers as asked already is left as it is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from counterscan.classifiers.companion import companion, steering
from counterscan.core import Classifier, Finding, Target
from counterscan.errors import CounterscanError, WeightsError, check_one_of
from counterscan.explainers.base import CounterfactualExplainer
from counterscan.priors.denoiser import DenoiserPrior
from counterscan.priors.sampling import Noise, ancestral
from counterscan.priors.schedules import karras, linear
from counterscan.priors.steering import Guided, Objective, Term, at_estimate, distance, through_network
from counterscan.registry import EXPLAINERS

STEPS, SKIPPED = 200, 100  # of the paper: respaced steps of a linear schedule, and how many the late start leaves out
LOWEST = 0.02  # level of the last step, image units
# Of the image that a confined change may take, the smallest first.
SHARES = (0.02, 0.04, 0.06, 0.09, 0.12, 0.16, 0.2, 0.25, 0.32, 0.4, 0.5)
POINTS = 4  # of the way from the image to the change at which the answer's slope is taken
GRADIENTS = {"network": through_network, "estimate": at_estimate}


@dataclass(frozen=True)
class Preset:
    """Settings of published work: the distance's `p`, its weight `closeness`, and what the `norm` of a step is.

    `start` is ours, the level of noise at which the default starts: what a lesion displaces must be free to move. So is
    what a change is confined to: pixels, or whole `columns` (A-scans), where a lesion lifts all that lies above it.
    """

    p: float
    closeness: float
    norm: Literal["mean", "noise"]
    start: float = 1.0
    columns: bool = False


PRESETS = {
    "fundus": Preset(2, 0.5, "mean"),
    "oct": Preset(1, 0.15, "mean", start=3.4, columns=True),
    "natural": Preset(1, 0.15, "noise"),  # DVCE on photographs
}
GUIDANCE = 0.1  # of all published settings


@EXPLAINERS.register("diffusion-guidance")
@dataclass(frozen=True)
class DiffusionGuidance(CounterfactualExplainer):
    """Counterfactuals from a diffusion prior, steered by classifiers.

    `robust` (a name or folder as for `--classifier`, or a Classifier; of the same classes) was trained against small
    changes: its gradient, in a cone of `degrees` around the explained one's, is what pushes; empty: the explained one's
    own. `preset` (`fundus`, `oct` or `natural`; by default what the denoiser's card says) sets distance and norm.

    It starts at the level `start` in image units (by default the preset's) and takes `steps`; gradients go through the
    `network` or are those at the clean `estimate`. An image whose target is not passed by `margin` (log-odds) is tried
    with each `guidance`, and keeps the first that does, else the surest. `confined` leaves the image as it was where
    the change hardly counts. `exact` is the published method: preset, guidance 0.1, 100 steps through the network, the
    whole image, one try.
    """

    needs_gradients: ClassVar[bool] = True

    denoiser: DenoiserPrior
    robust: str | Path | Classifier = ""
    preset: str = ""
    exact: bool = False
    start: float | None = None
    steps: int = 8
    gradients: str = "estimate"
    guidance: Sequence[float] = (0.3, 1.0, 3.0)
    closeness: float = 0.1
    degrees: float = 30.0
    margin: float = 2.0
    confined: bool = True

    def __post_init__(self) -> None:
        check_one_of("preset", self.preset, ("", *PRESETS))
        check_one_of("gradients", self.gradients, tuple(GRADIENTS))
        guidance = self.guidance if isinstance(self.guidance, Sequence) else (self.guidance,)
        object.__setattr__(self, "guidance", tuple(map(float, guidance)))
        if self.steps < 1 or not (self.start is None or self.start > LOWEST) or not self.guidance:
            raise CounterscanError(
                f"diffusion-guidance needs steps >= 1, start > {LOWEST} and some guidance, "
                f"got steps={self.steps}, start={self.start}, guidance={list(self.guidance)}"
            )
        if not 0 <= self.degrees < 90:
            raise CounterscanError(f"a cone of degrees={self.degrees} does not climb; choose 0 <= degrees < 90, as 30")
        _ = self._loaded  # a name that is mistyped is refused here

    def run(self, classifier: Classifier, images: Tensor, target: Target) -> Finding:
        """Try each guidance on the images that are left, and keep for each image the surest answer."""
        self._check(images)
        steers = [companion(one, classifier.card) for one in self._loaded]
        found = images.clone()
        with torch.no_grad():
            surest = target.score(classifier(images))
        left = torch.arange(len(images), device=images.device)[surest <= 0]
        used = torch.zeros(len(images))
        for guidance in (GUIDANCE,) if self.exact else self.guidance:
            if not len(left):
                break
            tried, score = self._attempt((classifier, *steers), images[left], target, guidance)
            better = left[score > surest[left]]
            found[better], used[better] = tried[score > surest[left]], guidance
            surest[left] = torch.maximum(surest[left], score)
            left = left[score <= (0 if self.exact else self.margin)]
        return Finding(found, cases=tuple({"guidance": round(float(one), 4)} for one in used))

    @torch.no_grad()
    def _attempt(
        self, classifiers: Sequence[Classifier], images: Tensor, target: Target, guidance: float
    ) -> tuple[Tensor, Tensor]:
        """Counterfactuals, and the target's log-odds `(b,)` of them."""
        scores = [_score(one, target) for one in classifiers]
        edited = self._sampled(images, scores, guidance)
        if self.confined and not self.exact:
            if self._preset.columns:  # few columns pass before all that is diseased is among them: ask for more
                return _confined(images, edited, scores, 2 * self.margin, _strongest_columns)
            return _confined(images, edited, scores, self.margin, _strongest)
        return edited, scores[0](edited)

    def _sampled(self, images: Tensor, scores: Sequence[Objective], guidance: float) -> Tensor:
        """`images` noised and denoised again, pushed by the scores of the explained classifier and the robust one."""
        preset, levels = self._preset, self._levels.to(images)
        explained, *robust = scores
        push = Term(guidance, robust[0], explained, self.degrees) if robust else Term(guidance, explained)
        closeness = preset.closeness if self.exact else self.closeness
        terms = (push, Term(-closeness, distance(images, preset.p)))
        gradients = GRADIENTS["network" if self.exact else self.gradients]
        guided = Guided(self.denoiser, terms, levels, preset.norm, gradients)
        noise = Noise.of(images, torch.initial_seed())
        return ancestral(guided, images + levels[0] * noise(images), levels, noise).clamp(-1, 1)

    @property
    def _levels(self) -> Tensor:
        if self.exact:
            return linear().levels(STEPS)[SKIPPED:]
        return karras(self.steps, LOWEST, self._preset.start if self.start is None else self.start)

    @property
    def _preset(self) -> Preset:
        words = self.denoiser.card.modality.lower().split()
        return PRESETS[self.preset or next((name for name in PRESETS if name in words), "natural")]

    @cached_property
    def _loaded(self) -> tuple[Classifier, ...]:
        return steering(self.robust)

    def _check(self, images: Tensor) -> None:
        if (seen := tuple(images.shape[1:])) != (known := tuple(self.denoiser.card.shape)):
            raise WeightsError(
                f"{self.denoiser.card.name} was trained on images of shape {known}, these are {seen}; "
                "bring them to that shape (counterscan explain does), or give a prior of theirs"
            )

    def __repr__(self) -> str:
        shown = {item.name: getattr(self, item.name) for item in fields(self)}
        shown |= {"denoiser": self.denoiser.card.name, "robust": self._loaded[0].card.name if self._loaded else ""}
        return f"DiffusionGuidance({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


def _score(classifier: Classifier, target: Target) -> Objective:
    return lambda images: target.score(classifier(images))


def _confined(
    images: Tensor,
    edited: Tensor,
    scores: Sequence[Objective],
    margin: float,
    strongest: Callable[[Tensor, float], Tensor],
) -> tuple[Tensor, Tensor]:
    """`edited` where it counts most, over the smallest of `SHARES` that passes the margin, and its log-odds `(b,)`.

    What no share brings there stays as it was edited.
    """
    weight = _weight(images, edited, scores)
    found, score = edited.clone(), scores[0](edited)
    left = torch.arange(len(images), device=images.device)
    for share in SHARES:
        if not len(left):
            break
        tried = images[left] + strongest(weight[left], share) * (edited - images)[left]
        reached = scores[0](tried)
        passed = reached > margin
        found[left[passed]], score[left[passed]] = tried[passed], reached[passed]
        left = left[~passed]
    return found, score


def _weight(images: Tensor, edited: Tensor, scores: Sequence[Objective]) -> Tensor:
    """How much the change counts at each pixel `(b, 1, h, w)`: its size times what the answers gain by it nearby.

    The gain is the change times the mean slope on the way to it, as integrated gradients have it, of all `scores`.
    """
    change, slope = edited - images, torch.zeros_like(images)
    for point in range(POINTS):
        with torch.enable_grad():
            between = (images + (point + 0.5) / POINTS * change).requires_grad_()
            total = torch.stack([score(between) for score in scores]).sum()
            slope += torch.autograd.grad(total, between)[0] / POINTS
    gain = (change * slope).sum(1, keepdim=True)
    near = F.avg_pool2d(F.avg_pool2d(gain, 3, 1, 1).clamp_min(0), 5, 1, 2)
    return near * F.avg_pool2d(change.abs().mean(1, keepdim=True), 3, 1, 1)


def _strongest(weight: Tensor, share: float) -> Tensor:
    """One where `weight` is among the largest `share` of its image, and near there, with a soft border."""
    least = weight.flatten(1).quantile(1 - share, 1).view(-1, 1, 1, 1)
    return F.avg_pool2d(F.max_pool2d((weight > least).float(), 3, 1, 1), 3, 1, 1)


def _strongest_columns(weight: Tensor, share: float) -> Tensor:
    """One in the columns whose summed `weight` is among the largest `share` of its image, with a soft border.

    The border is a sixteenth of the image wide: a seam through all layers is seen sooner than one around a spot.
    """
    total = weight.sum(2, keepdim=True)
    least = total.flatten(1).quantile(1 - share, 1).view(-1, 1, 1, 1)
    half = max(1, weight.shape[-1] // 32)
    taken = F.max_pool2d((total > least).float(), (1, 4 * half + 1), 1, (0, 2 * half))
    for _ in range(2):
        taken = F.avg_pool2d(taken, (1, 2 * half + 1), 1, (0, half), count_include_pad=False)
    return taken.expand_as(weight)
