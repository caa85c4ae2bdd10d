"""The agent: a small model of what a black box says, in the latent space of a codec, and what it knows of that space.

It answers log-odds as its black box does, linearly or with a sum of bumps on top, and has slopes, which the black box
has not. `distillation.py` makes one. It is plain numbers: a safetensors file beside a card in JSON.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from counterscan.core import Card, Target
from counterscan.data.files import write_whole
from counterscan.errors import TargetError, WeightsError

TENSORS, FACTS = "agent.safetensors", "agent.json"
NAMES = ("weight", "bias", "anchors", "pull", "centre", "covariance", "radii")


@dataclass(frozen=True, eq=False)
class Agent:
    """Log-odds `(b, k)` of `classes` for latents `(b, d)`.

    They are weight u + bias + the sum over anchors of pull * exp(-|u - anchor|^2 / 2 width^2). `weight` is `(k, d)`,
    `bias` `(k,)`, `anchors` `(n, d)` and `pull` `(n, k)`, where n is 0 for a linear one. `centre` `(d,)` and
    `covariance` `(d, d)` are those of the latents that it was fitted to, `radii` their sorted Mahalanobis distances.
    `facts` tell which codec and classifier it belongs to, and how faithful it is; they can be JSON.
    """

    classes: tuple[str, ...]
    weight: Tensor
    bias: Tensor
    anchors: Tensor
    pull: Tensor
    centre: Tensor
    covariance: Tensor
    radii: Tensor
    width: float = 1.0
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def linear(self) -> bool:
        return not len(self.anchors)

    def log_odds(self, latents: Tensor) -> Tensor:
        """What it takes the black box to say, `(b, k)`."""
        return latents @ self.weight.T + self.bias + self._bumps(latents) @ self.pull

    def slopes(self, latents: Tensor) -> Tensor:
        """The slopes `(b, k, d)` of its log-odds."""
        bumps = self._bumps(latents)
        towards = torch.einsum("bn,nk,nd->bkd", bumps, self.pull, self.anchors)
        return self.weight + (towards - (bumps @ self.pull)[..., None] * latents[:, None]) / self.width**2

    def radius(self, latents: Tensor) -> Tensor:
        """Mahalanobis distances `(b,)` from the centre of the latents that it was fitted to."""
        return self.whiten(latents - self.centre).norm(dim=1)

    def whiten(self, steps: Tensor) -> Tensor:
        """Steps `(b, d)` where the latents' covariance is the identity."""
        return torch.linalg.solve_triangular(self._root, steps.T, upper=False).T

    def bound(self, share: float) -> float:
        """The radius within which `share` of the latents lay that it was fitted to."""
        return float(self.radii.double().quantile(share))

    def room(self, latents: Tensor, step: Tensor, share: float) -> Tensor:
        """How many lengths of `step` `(b, d)` latents may go `(b,)` until they leave the radius of `share`.

        Those that lie beyond it from the start may go as far as they come to lie no further off.
        """
        at, along = self.whiten(latents - self.centre), self.whiten(step)
        bound = at.norm(dim=1).clamp_min(self.bound(share))
        forth, square = (at * along).sum(1), along.square().sum(1).clamp_min(1e-12)
        left = (bound.square() - at.square().sum(1)).clamp_min(0)
        return ((forth.square() + square * left).sqrt() - forth).clamp_min(0) / square

    def columns(self, target: Target, card: Card) -> list[int]:
        """Where it keeps the classes that `target` asks a classifier of `card` for; TargetError for one it lacks."""
        asked = [card.classes[index] for index, _ in target.wanted]
        if unknown := [name for name in asked if name not in self.classes]:
            raise TargetError(
                f"the agent was fitted to a classifier of {', '.join(self.classes)}, which has no {unknown[0]!r}; "
                f"fit one to {card.name}"
            )
        return [self.classes.index(name) for name in asked]

    def save(self, folder: str | Path) -> Path:
        """Write `agent.safetensors` and, last, `agent.json` into `folder`."""
        from safetensors.torch import save

        folder = Path(folder)
        content = save({name: getattr(self, name).detach().cpu().float().contiguous() for name in NAMES})
        (folder / FACTS).unlink(missing_ok=True)
        write_whole(folder / TENSORS, content)
        told = {"classes": self.classes, "width": self.width, "facts": dict(self.facts)}
        told["sha256"] = hashlib.sha256(content).hexdigest()
        write_whole(folder / FACTS, (json.dumps(told, indent=1) + "\n").encode())
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote; WeightsError where the folder holds no agent, or one that was changed."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            told = json.loads((Path(folder) / FACTS).read_text())
            content = (Path(folder) / TENSORS).read_bytes()
            tensors = load(content)
            agent = cls(tuple(told["classes"]), **tensors, width=float(told["width"]), facts=told["facts"])
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise WeightsError(
                f"{folder} holds no agent ({type(error).__name__}); fit one, and save it there"
            ) from None
        if hashlib.sha256(content).hexdigest() != told.get("sha256"):
            raise WeightsError(f"{folder} is not what was saved there (sha256 differs); copy both files again")
        return agent

    def describe(self) -> str:
        """One line for a provenance: what it is, what of, and how faithful."""
        told = self.facts
        agreement = ", ".join(f"{told[kind]['agreement']:.3f} {kind}" for kind in ("real", "edited") if kind in told)
        kind = "linear" if self.linear else f"{len(self.anchors)} bumps"
        return f"{kind} agent of {told.get('classifier', '?')}, n={told.get('n', '?')}" + (
            f", agreement {agreement}" if agreement else ""
        )

    def _bumps(self, latents: Tensor) -> Tensor:
        if self.linear:
            return latents.new_zeros(len(latents), 0)
        return torch.exp(-torch.cdist(latents, self.anchors).square() / (2 * self.width**2))

    @cached_property
    def _root(self) -> Tensor:
        return torch.linalg.cholesky(self.covariance.double()).float()
