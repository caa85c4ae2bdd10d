"""Latent class optimisation as an explainer: a scan in a generator's words, with the finding and without.

Segal et al. (2021, SN Computer Science, arXiv 2010.03975) optimise the latents of an unconditional generator until a
classifier sees the class asked for. How is not public; so these are choices, and where it matters why:
- the scan is inverted first: of many draws the nearest, moved on the sphere until its image is the scan as far as the
  generator can make it, with the answer that the scan has;
- both images of a pair come from that one latent: its own image, and one where the answer is the one asked for; their
  difference is the explanation, because what the generator cannot make of the scan is no evidence;
- a hinge stops where the answer passes a margin, and pulls to the start keep the rest of the image as it was.
"""

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from counterscan.core import Classifier, Finding, Target
from counterscan.errors import CounterscanError, WeightsError
from counterscan.explainers.base import CounterfactualExplainer
from counterscan.explainers.latents.aims import Usual, lack
from counterscan.explainers.latents.sphere import Descended, Descent, GeneratorPrior, Objective, Score
from counterscan.registry import EXPLAINERS

CHUNK = 32  # images made at a time where no gradient is needed
COARSE = 4  # pixels a side that are averaged where images are compared from afar
SOFT = 0.05  # differences of pixels that are noise
ANSWER = 0.3  # what a log-odd between the answers of scan and reconstruction weighs beside a difference of pixels
SURE = 3.0  # log-odds, beyond which it is all one how sure the answers of scan and reconstruction are


@EXPLAINERS.register("latent-optimisation")
@dataclass(frozen=True)
class LatentOptimisation(CounterfactualExplainer):
    """Counterfactuals from the latents of a generator: one start, moved to the scan and then to the answer asked for.

    The start is the nearest of `draws`. It takes `inversion` steps to the scan, and at most `steps` from there to the
    answer, which should pass by a `margin` (log-odds). On the way `near` pulls towards the latent, and `alike` towards
    the image, that it came from; `realism` towards what the generator's critic finds usual. `rate` is the angle of the
    first step, in radian.
    """

    needs_gradients: ClassVar[bool] = True

    generator: GeneratorPrior
    draws: int = 512
    inversion: int = 150
    steps: int = 60
    margin: float = 2.2
    near: float = 0.5
    alike: float = 5.0
    realism: float = 0.05
    rate: float = 0.1

    def __post_init__(self) -> None:
        if self.draws < 1 or min(self.near, self.alike, self.realism, self.margin) < 0:
            raise CounterscanError(
                f"latent-optimisation needs draws >= 1 and no negative weights; got draws={self.draws}, "
                f"margin={self.margin}, near={self.near}, alike={self.alike}, realism={self.realism}"
            )
        _ = self._descent(self.inversion), self._descent(self.steps)  # settings that do not descend are refused here

    def run(self, classifier: Classifier, images: Tensor, target: Target) -> Finding:
        """Invert, then move to the answer; where the inversion alone changes the answer nothing counts as found."""
        self._check(images)
        usual = Usual.of(self.generator)
        with torch.no_grad():
            before = classifier(images).float()
        inverted = self._inverted(classifier, images, target, before, usual)
        own = made(self.generator, inverted.latents)
        found = self._moved(classifier, inverted.latents, own, target, usual)
        counterfactual = made(self.generator, found.latents)
        with torch.no_grad():
            lucky = target.reached(classifier(own).float()) & ~target.reached(before)
        kept = torch.where(lucky.view(-1, 1, 1, 1), images, counterfactual)
        return Finding(kept, reconstruction=own, cases=_cases(images, own, inverted, found, lucky))

    def _inverted(
        self, classifier: Classifier, images: Tensor, target: Target, before: Tensor, usual: Usual
    ) -> Descended:
        asked = [index for index, _ in target.wanted]
        own = before[:, asked].clamp(-SURE, SURE)

        def objective(tried: Tensor, _latents: Tensor, rows: Tensor) -> Score:
            answers = classifier(tried).float()[:, asked].clamp(-SURE, SURE)
            loss = self.alike * distance(tried, images[rows]) + ANSWER * _soft(answers - own[rows], 1.0).mean(1)
            loss = loss + self.realism * usual.lack(self.generator.critic(tried))
            return Score(loss, torch.zeros(len(rows), dtype=torch.bool))

        return self._descend(self.inversion, self._nearest(images), objective)

    def _nearest(self, images: Tensor) -> Tensor:
        """The draw `(b, d)` nearest to each image, of the same draws for all."""
        drawn = self.generator.draw(self.draws, torch.Generator().manual_seed(torch.initial_seed()))
        seen = torch.cat([coarse(made(self.generator, part)).flatten(1) for part in drawn.split(CHUNK)])
        return drawn[torch.cdist(coarse(images).flatten(1), seen, p=1).argmin(1)]

    def _moved(self, classifier: Classifier, start: Tensor, own: Tensor, target: Target, usual: Usual) -> Descended:
        def objective(tried: Tensor, latents: Tensor, rows: Tensor) -> Score:
            short = lack(target, classifier(tried).float(), self.margin)
            near = 1 - F.cosine_similarity(latents, start[rows])
            pulls = self.near * near + self.alike * distance(tried, own[rows])
            return Score(short + pulls + self.realism * usual.lack(self.generator.critic(tried)), short <= 0)

        return self._descend(self.steps, start, objective)

    def _descend(self, steps: int, start: Tensor, objective: Objective) -> Descended:
        return self._descent(steps)(self.generator, start, objective)

    def _descent(self, steps: int) -> Descent:
        return Descent(steps, self.rate, CHUNK)

    def _check(self, images: Tensor) -> None:
        if (seen := tuple(images.shape[1:])) != (known := tuple(self.generator.card.shape)):
            raise WeightsError(
                f"{self.generator.card.name} makes images of shape {known}, these are {seen}; "
                "bring them to that shape (counterscan explain does), or give a generator of theirs"
            )

    def __repr__(self) -> str:
        shown = {item.name: getattr(self, item.name) for item in fields(self)} | {"generator": self.generator.card.name}
        return f"LatentOptimisation({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


def made(generator: GeneratorPrior, latents: Tensor) -> Tensor:
    """The images `(n, c, h, w)` of latents `(n, d)`, in chunks and without gradients."""
    with torch.no_grad():
        return torch.cat([generator(part) for part in latents.split(CHUNK)])


def distance(images: Tensor, others: Tensor) -> Tensor:
    """How unlike images are `(b,)`: mean absolute differences of pixels, and of squares of `COARSE` pixels a side.

    What differs by less than `SOFT` counts less, as its square: a kink at 0 would keep steps from coming to rest.
    """
    differences = (images - others, coarse(images) - coarse(others))
    return torch.stack([_soft(one, SOFT).flatten(1).mean(1) for one in differences]).sum(0)


def _soft(differences: Tensor, width: float) -> Tensor:
    return (differences.square() + width**2).sqrt() - width


def coarse(images: Tensor) -> Tensor:
    """Images `(b, c, h, w)` as seen from afar, `COARSE` times smaller."""
    return F.avg_pool2d(images, COARSE)


def _cases(images: Tensor, own: Tensor, inverted: Descended, found: Descended, lucky: Tensor) -> list[dict[str, Any]]:
    """Facts of each image: what the inversion leaves as a share of the window, whether it alone changes the answer, and
    how far the latent then moved."""
    error = (own - images).abs().flatten(1).mean(1) / 2
    angle = torch.rad2deg(F.cosine_similarity(inverted.latents, found.latents).clamp(-1, 1).acos())
    columns = {"inversion_error": error, "angle": angle, "steps": found.steps.float()}
    return [
        {name: round(float(values[row]), 4) for name, values in columns.items()} | {"reconstruction_flips": one}
        for row, one in enumerate(lucky.tolist())
    ]
