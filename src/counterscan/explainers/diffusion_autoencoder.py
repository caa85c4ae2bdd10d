"""DiffExplainer (Fang et al., MICCAI 2024, arXiv 2406.15182): an agent of a black box in the code of a codec.

A diffusion autoencoder turns an image into a short code and back. An agent learns there what the black box says; the
smallest step of the code that changes the agent's answer is decoded, and then asked of the black box itself. No
gradient is needed.

The paper's code is not public, and what is known of it is its outline. So these are choices:
- the codec is trained without the black box, and frozen; the agent is fitted after it (`latent_agent/`);
- the agent gives the direction, and its slope the length of a first step: what the image's reconstruction is answered
  with is known, and taken from there;
- the step draws the smallest region of the code anew, as the places around it say (`latent_agent/infilling.py`), or
  is the least improbable one (Mahalanobis) in closed form, where linear codes' public code steps by hand;
- the black box confirms: it is asked along a bracket of lengths, and the smallest that reaches the target is found by
  narrowing it down; no step leads out of where the codes of real images lie;
- the change is measured against the reconstruction, and where that alone changes the answer nothing counts as found;
- the map of the change is blurred by half a place of the code: regions are drawn anew place by place, and which pixel
  of one changes most is the codec's noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from counterscan.core import Classifier, Finding, Target
from counterscan.errors import CounterscanError, WeightsError, check_one_of
from counterscan.explainers.attribution.substrate import blurred
from counterscan.explainers.base import CounterfactualExplainer
from counterscan.explainers.latent_agent.agent import Agent
from counterscan.explainers.latent_agent.distillation import CLIP
from counterscan.explainers.latent_agent.fitting import ImageCodec, answers_of, fit_agent, identity
from counterscan.explainers.latent_agent.steps import WAYS, Demand, Question, Way
from counterscan.explainers.latent_agent.tracing import Look, Trace, trace
from counterscan.registry import EXPLAINERS

ASKED = 4  # queries an image before any step: twice the image, the reconstruction, and the answer found
LEAST = ASKED + 4  # fewer leave no bracket that is wide enough, or nothing to narrow it down with


@dataclass(frozen=True)
class Coded:
    """Images as the codec has them, and what the black box says of both: log-odds `(b, k)`."""

    latents: Tensor
    noise: Tensor
    images: Tensor
    before: Tensor
    answers: Tensor


@EXPLAINERS.register("diffusion-autoencoder")
@dataclass(frozen=True)
class DiffusionAutoencoder(CounterfactualExplainer):
    """Counterfactuals from the smallest step of a codec's code that an agent, and then the black box, answers as asked.

    `fitted` is an agent (see `fit`), or the folder that one was saved in. The `step` draws the smallest region of the
    code anew (`infill`; `mahalanobis` for a code without places, and where that is no help), or is the least improbable
    one (`mahalanobis`), the shortest (`euclidean`), or the shortest of so many `entries` of the code (`sparse`). At
    most `queries` are asked an image, all told; the code stays within the radius of a share `plausible` of real ones,
    of patients whom the agent was not fitted to. A class that is asked for at 1 or 0 is followed until the black box is
    `sure` that it is there, or is not; 0.5 asks for the shortest step that changes its answer, with which lesions fade
    and do not go. With `path` the explanation keeps `frames` images from the reconstruction to what was found, and
    `cases` what the black box says of each, at `frames` - 2 queries more.
    """

    codec: ImageCodec
    fitted: str | Path | Agent = ""
    step: str = "infill"
    entries: int = 8
    queries: int = 12
    sure: float = 0.97
    plausible: float = 0.995
    path: bool = False
    frames: int = 7

    def __post_init__(self) -> None:
        check_one_of("step", self.step, WAYS)
        if self.queries < LEAST or self.entries < 1 or self.frames < 2 or not 0 < self.plausible <= 1:
            raise CounterscanError(
                f"diffusion-autoencoder needs queries >= {LEAST}, entries >= 1, frames >= 2, 0 < plausible <= 1; "
                f"got queries={self.queries}, entries={self.entries}, frames={self.frames}, plausible={self.plausible}"
            )
        if not 0.5 <= self.sure < 1:
            raise CounterscanError(f"diffusion-autoencoder needs 0.5 <= sure < 1, got {self.sure}")
        if self.fitted != "":
            _ = self.agent  # a folder that holds none is refused here

    @cached_property
    def agent(self) -> Agent:
        """The agent; CounterscanError where there is none, WeightsError where it belongs to another codec."""
        if self.fitted == "":
            raise CounterscanError(
                "diffusion-autoencoder has no agent of this classifier yet: fit one with explainer.fit(classifier, "
                "images), or name the folder of one with --set fitted=FOLDER"
            )
        agent = self.fitted if isinstance(self.fitted, Agent) else Agent.load(self.fitted)
        told, own = agent.facts.get("codec"), identity(self.codec.card)
        if told is not None and list(told) != own:
            raise WeightsError(f"the agent was fitted to codes of {told[0]}, not {own[0]}; fit one with this codec")
        return agent

    @property
    def way(self) -> Way:
        """How it steps: what the settings say of it."""
        return Way(self.step, self.entries, self.plausible)

    @torch.no_grad()
    def fit(
        self, classifier: Classifier, images: Tensor, *, kind: str = "auto", patients: Sequence[str] = ()
    ) -> "DiffusionAutoencoder":
        """An explainer with an agent of `classifier`, which is asked once about each of `images` `(n, c, h, w)`.

        One in five, with all others of its patient, is held out to tell how faithful the agent is; of up to 64 of these
        the black box is asked about an edit as well. `kind` is `linear`, a `network`, or `auto`, the better. Warns
        where the agent agrees with less than 90 % of the answers; CounterscanError for too few images.
        """
        agent = fit_agent(self.codec, classifier, images, self.way, kind, patients)
        return replace(self, fitted=agent)

    def run(self, classifier: Classifier, images: Tensor, target: Target) -> Finding:
        return self.search(classifier, images, target)

    @torch.no_grad()
    def search(self, classifier: Classifier, images: Tensor, target: Target, barred: Tensor | None = None) -> Finding:
        """`run`, with coordinates of the code that must stay as they are: `barred` `(b, d)`."""
        columns = self.agent.columns(target, classifier.card)
        coded = self._coded(classifier, images)
        step, reach = self._step(coded, target, columns, barred)
        limit = self.agent.room(coded.latents, step, self.plausible)

        def look(rows: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
            moved = coded.latents[rows] + lengths[:, None] * step[rows]
            decoded = self.codec.decode(moved, coded.noise[rows])
            return decoded, answers_of(classifier, decoded)

        found = trace(look, coded.images, coded.answers, target, reach, limit, self.queries - ASKED, self.sure)
        lucky = target.reached(coded.answers) & ~target.reached(coded.before)
        kept = torch.where(lucky.view(-1, 1, 1, 1), images, found.images)
        frames, answers = self._frames(look, coded, found) if self.path else (None, None)
        told = self._cases(images, coded, step, found)
        for case, one, row in zip(told, lucky.tolist(), range(len(images)), strict=True):
            case["reconstruction_flips"] = one
            if answers is not None:
                case["answers"] = [_rounded(frame) for frame in answers[row]]
        return Finding(kept, coded.images, frames, told, heatmap=self._map(kept - coded.images))

    def _coded(self, classifier: Classifier, images: Tensor) -> Coded:
        latents = self.codec.encode(images)
        noise = self.codec.invert(images, latents)
        decoded = self.codec.decode(latents, noise)
        return Coded(latents, noise, decoded, answers_of(classifier, images), answers_of(classifier, decoded))

    def _step(self, coded: Coded, target: Target, columns: list[int], barred: Tensor | None) -> tuple[Tensor, Tensor]:
        """The agent's step `(b, d)` to the target, its answers shifted to the black box's at first, and its reach."""
        wanted = [index for index, _ in target.wanted]
        start = coded.answers[:, wanted].clamp(-CLIP, CLIP)
        asked = torch.tensor(columns).expand(len(start), -1)
        shift = start - self.agent.log_odds(coded.latents)[:, columns]
        question = Question(self.agent, asked, shift)
        return self.way.smallest(question, Demand.of(target, start, self.sure), coded.latents, barred)

    def _map(self, change: Tensor) -> Tensor | None:
        """Where the `change` lies `(b, 1, *spatial)`, by half a place of the code; None for a code without places."""
        if self.agent.maps is None:
            return None
        return blurred(change.abs().mean(1, keepdim=True) / 2, 0.5 / self.agent.maps[1])

    def _frames(self, look: Look, coded: Coded, found: Trace) -> tuple[Tensor, Tensor]:
        """Images `(b, frames, ...)` from the reconstruction to what was found, and the answers `(b, frames, k)`."""
        path = coded.images[:, None].repeat(1, self.frames, *[1] * (coded.images.ndim - 1))
        answers = coded.answers[:, None].repeat(1, self.frames, 1)
        path[:, -1], answers[:, -1] = found.images, found.answers
        shares = torch.linspace(0, 1, self.frames)
        rows, columns = torch.cartesian_prod(torch.nonzero(found.lengths)[:, 0], torch.arange(1, self.frames - 1)).T
        if len(rows):
            path[rows, columns], answers[rows, columns] = look(rows, found.lengths[rows] * shares[columns])
        return path, answers

    def _cases(self, images: Tensor, coded: Coded, step: Tensor, found: Trace) -> list[dict[str, Any]]:
        """Facts of each image: how far it was moved and how improbable its code is then, and what that took."""
        moved = found.lengths[:, None] * step
        radius, bound = self.agent.radius(coded.latents + moved), self.agent.bound(self.plausible)
        error = (coded.images - images).abs().flatten(1).mean(1) / 2
        decoded = 1 + found.tried + (found.lengths > 0) * (self.frames - 2 if self.path else 0)
        columns = {
            "round_trip": error,
            "length": found.lengths,
            "step": moved.norm(dim=1),
            "radius": radius,
            "evaluations": (1 + decoded) * self.codec.evaluations,
            "queries": ASKED - 1 + decoded,
        }
        cases = [dict(zip(columns, row, strict=True)) for row in zip(*map(_rounded, columns.values()), strict=True)]
        for case, one in zip(cases, step, strict=True):
            case["bound"] = round(bound, 4)
            if self.step == "sparse":
                case["coordinates"] = torch.nonzero(one)[:, 0].tolist()
        return cases

    def __repr__(self) -> str:
        shown = {item.name: getattr(self, item.name) for item in fields(self)}
        shown |= {"codec": self.codec.card.name, "fitted": self.agent.describe() if self.fitted != "" else ""}
        return f"DiffusionAutoencoder({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


def _rounded(values: Tensor) -> list[float]:
    return [round(float(value), 4) for value in values]
