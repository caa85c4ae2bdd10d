"""The agent: a small model of what a black box says, in the latent space of a codec, and what it knows of that space.

It answers log-odds as its black box does, linearly or by a small network, and has slopes, which the black box has not.
`distillation.py` makes one. It is plain numbers: a safetensors file beside a card in JSON.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from counterscan.core import Card, Target
from counterscan.data.files import write_whole
from counterscan.errors import TargetError, WeightsError
from counterscan.explainers.latent_agent.infilling import Surroundings
from counterscan.nets.blocks import freeze
from counterscan.nets.code_reader import CodeReader

TENSORS, FACTS = "agent.safetensors", "agent.json"
NAMES = ("weight", "bias", "centre", "covariance", "radii", "findings", "shows")
READER = "reader."  # what the names of a network's tensors begin with


@dataclass(frozen=True, eq=False)
class Agent:
    """Log-odds `(b, k)` of `classes` for latents `(b, d)`.

    They are weight u + bias, `weight` being `(k, d)` and `bias` `(k,)`; or what the `reader` answers, if there is one.
    `centre` `(d,)` and `covariance` `(d, d)` are those of the latents that it was fitted to, `radii` the sorted
    Mahalanobis distances of latents, of other patients where `fit_agent` made it. `maps` says how many maps of how many
    places a side a latent is made of, None that it is of none; then `findings` `(n, d)` are what stood out of the
    surroundings in some latents, 0 elsewhere, and `shows` `(n,)` the classes that they show. `facts` tell which codec
    and classifier it belongs to, and how faithful it is; they can be JSON.
    """

    classes: tuple[str, ...]
    weight: Tensor
    bias: Tensor
    centre: Tensor
    covariance: Tensor
    radii: Tensor
    reader: CodeReader | None = None
    maps: tuple[int, int] | None = None
    findings: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    shows: Tensor = field(default_factory=lambda: torch.zeros(0))
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def linear(self) -> bool:
        return self.reader is None

    def log_odds(self, latents: Tensor) -> Tensor:
        """What it takes the black box to say, `(b, k)`."""
        return latents @ self.weight.T + self.bias if self.reader is None else self.reader(latents)

    def slopes(self, latents: Tensor) -> Tensor:
        """The slopes `(b, k, d)` of its log-odds."""
        if self.reader is None:
            return self.weight.expand(len(latents), *self.weight.shape)
        with torch.enable_grad():
            known = latents.detach().requires_grad_()
            sums = self.reader(known).sum(0)
            slopes = [torch.autograd.grad(one, known, retain_graph=True)[0] for one in sums]
        return torch.stack(slopes, 1)

    def radius(self, latents: Tensor) -> Tensor:
        """Mahalanobis distances `(b,)` from the centre of the latents that it was fitted to."""
        return self.whiten(latents - self.centre).norm(dim=1)

    def whiten(self, steps: Tensor) -> Tensor:
        """Steps `(b, d)` where the latents' covariance is the identity."""
        return torch.linalg.solve_triangular(self._root, steps.T, upper=False).T

    def bound(self, share: float) -> float:
        """The radius within which `share` of the latents lay whose `radii` it has."""
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
        content = save({name: one.detach().cpu().float().contiguous() for name, one in self._tensors().items()})
        (folder / FACTS).unlink(missing_ok=True)
        write_whole(folder / TENSORS, content)
        told: dict[str, Any] = {"classes": self.classes, "maps": self.maps, "facts": dict(self.facts)}
        told["reader"] = None if self.reader is None else self.reader.shape[:2]
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
            tensors, classes = load(content), tuple(told["classes"])
            read = {name.removeprefix(READER): tensors.pop(name) for name in [*tensors] if name.startswith(READER)}
            reader = _reader(told["reader"], len(classes), read) if told["reader"] else None
            maps = (told["maps"][0], told["maps"][1]) if told["maps"] else None
            agent = cls(classes, **tensors, reader=reader, maps=maps, facts=told["facts"])
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
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
        return (
            f"{'linear' if self.linear else 'network'} agent of {told.get('classifier', '?')}, n={told.get('n', '?')}"
            + (f", agreement {agreement}" if agreement else "")
        )

    def _tensors(self) -> dict[str, Tensor]:
        read = {} if self.reader is None else self.reader.state_dict()
        return {name: getattr(self, name) for name in NAMES} | {READER + name: one for name, one in read.items()}

    @cached_property
    def surroundings(self) -> Surroundings | None:
        """What its latents say about places from those around them; None where they have no places."""
        if self.maps is None:
            return None
        return Surroundings(self.centre, torch.linalg.inv(self.covariance.double()).float(), *self.maps)

    @cached_property
    def _root(self) -> Tensor:
        return torch.linalg.cholesky(self.covariance.double()).float()


def _reader(maps: Sequence[int], outputs: int, tensors: Mapping[str, Tensor]) -> CodeReader:
    latents, places = maps
    reader = CodeReader(latents, places, outputs)
    reader.load_state_dict(tensors)
    return freeze(reader)
