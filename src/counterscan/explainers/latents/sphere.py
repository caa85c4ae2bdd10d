"""Descent on a sphere: latents of a generator moved until what it makes is answered as asked, many at once.

Latent class optimisation (Segal et al., 2021, arXiv 2010.03975) says what is done and not how. A generator that
normalises its latents makes the same image of all along one ray: their length is a free scale that grows under plain
descent and slows it down, and a penalty on it changes nothing. So each step is turned along the sphere, by an angle.

The steps are Adam's (Kingma and Ba, 2015, 1412.6980), with one second moment a latent instead of one a coordinate: no
axis of the sphere is special. A cosine takes the angle down to nothing. Each latent goes its own way, whatever others
are in the batch: it leaves as soon as it is done, and the next one that waits takes its place.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from counterscan.core import Card
from counterscan.errors import CounterscanError
from counterscan.priors.generator import on_sphere

MEMORY, SQUARES = 0.9, 0.99  # decay of the first and of the second moment
TINY = 1e-12


class GeneratorPrior(Protocol):
    """Makes images of latents `(n, latents)`, and scores images by how usual they are; see `priors/generator.py`."""

    @property
    def card(self) -> Card: ...

    @property
    def latents(self) -> int: ...

    def draw(self, n: int, generator: torch.Generator) -> Tensor: ...

    def __call__(self, latents: Tensor) -> Tensor: ...

    def critic(self, images: Tensor) -> Tensor: ...

    def critic_quantile(self, q: float) -> float: ...


@dataclass(frozen=True)
class Score:
    """What an objective says of some rows: the `loss` `(b,)` to go down, and which are `done` `(b,)`."""

    loss: Tensor
    done: Tensor


Objective = Callable[[Tensor, Tensor, Tensor], Score]  # of images, latents, and which rows of all these are


@dataclass(frozen=True)
class Descent:
    """At most `steps`, the first by an angle of about `rate` (radian); `batch` latents go through the networks at once.

    Raises CounterscanError for settings that do not descend.
    """

    steps: int = 60
    rate: float = 0.1
    batch: int = 32

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or not 0 < self.rate < math.pi / 2:
            raise CounterscanError(
                f"latents descend in steps >= 1, a batch >= 1 and 0 < rate < 1.57; got steps={self.steps}, "
                f"batch={self.batch}, rate={self.rate}"
            )

    def __call__(self, generator: GeneratorPrior, start: Tensor, objective: Objective) -> "Descended":
        """From `start` `(n, d)`, on the sphere, to the best that each latent came by; `start` is left as it is."""
        count = len(start)
        unknown, none = torch.full((count,), math.inf), torch.zeros(count, dtype=torch.long)
        found = Descended(start.clone(), unknown, none, none.bool())
        state = _State(start.clone(), torch.zeros_like(start), torch.zeros(count))
        active, waiting = torch.arange(count)[: self.batch], torch.arange(count)[self.batch :]
        while len(active):
            slope, score = _slopes(generator, objective, state.latents[active], active)
            found.note(active, state.latents[active], score)
            going = ~(score.done | (found.steps[active] >= self.steps))
            active = active[going]
            found.steps[active] += 1
            state.step(active, slope[going], found.steps[active], self)
            room = self.batch - len(active)
            active, waiting = torch.cat([active, waiting[:room]]), waiting[room:]
        return found

    def angle(self, step: Tensor) -> Tensor:
        """How far step number `step` (from 1) turns, where the slope keeps its direction."""
        return self.rate * 0.5 * (1 + torch.cos(math.pi * (step - 1) / self.steps))


@dataclass(frozen=True)
class Descended:
    """The best `latents` `(n, d)` met, their `loss`, the `steps` taken `(n,)`, and whether they are `done`."""

    latents: Tensor
    loss: Tensor
    steps: Tensor
    done: Tensor

    def note(self, rows: Tensor, latents: Tensor, score: Score) -> None:
        """Keep what is better than before: what is done, else the smaller loss."""
        better = score.done | (score.loss < self.loss[rows])
        self.latents[rows[better]], self.loss[rows[better]] = latents[better], score.loss[better]
        self.done[rows] = score.done


@dataclass(frozen=True)
class _State:
    """Where each latent is, and the two moments of its slopes."""

    latents: Tensor
    memory: Tensor
    squares: Tensor

    def step(self, rows: Tensor, slope: Tensor, number: Tensor, descent: Descent) -> None:
        here = self.latents[rows]
        slope = _tangent(slope, here)
        memory = MEMORY * _tangent(self.memory[rows], here) + (1 - MEMORY) * slope
        squares = SQUARES * self.squares[rows] + (1 - SQUARES) * slope.square().mean(1)
        self.memory[rows], self.squares[rows] = memory, squares
        typical = (squares / (1 - SQUARES**number)).sqrt() + TINY
        turn = descent.angle(number) / (1 - MEMORY**number) / typical
        self.latents[rows] = on_sphere(here - turn[:, None] * memory)


def _tangent(vectors: Tensor, at: Tensor) -> Tensor:
    """What of `vectors` `(n, d)` lies along the sphere through `at` `(n, d)`."""
    along = (vectors * at).sum(1, keepdim=True) / at.square().sum(1, keepdim=True)
    return vectors - along * at


def _slopes(generator: GeneratorPrior, objective: Objective, latents: Tensor, rows: Tensor) -> tuple[Tensor, Score]:
    """The slope of the loss at each of `latents`, and the score there."""
    with torch.enable_grad():
        here = latents.detach().requires_grad_()
        score = objective(generator(here), here, rows)
        slope = torch.autograd.grad(score.loss.sum(), here)[0]
    return slope, Score(score.loss.detach(), score.done.detach())
