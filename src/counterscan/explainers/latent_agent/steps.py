"""The smallest step in a latent space after which linear demands are met: one Newton step, or the solution itself.

For one demand w.step = c it is c S w / (w' S w): S the identity for the shortest step, the latents' covariance for the
least improbable one (Mahalanobis), or the choice of a few coordinates. Several demands are met at once by the
pseudo-inverse; those that are met already must stay so, and only the others pull.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from counterscan.core import Target
from counterscan.explainers.latent_agent.agent import Agent
from counterscan.explainers.latent_agent.infilling import MARGIN, Surroundings

WAYS = ("infill", "mahalanobis", "euclidean", "sparse")
PAST = 0.1  # log-odds by which a border is passed
ROUNDS = 8  # of Newton's method, where slopes change along the way
REACH, REACH_DRAWN = 4.0, 2.0  # lengths of a step that are worth trying: one drawn from its surroundings knows its own
NEAR = 0.1  # log-odds that a deviation is worth, of findings that are put in
WORTH = 0.5  # to what share of the lack drawing anew must lead, or a step along the slopes is taken
Look = Callable[[Tensor], tuple[Tensor, Tensor]]  # steps (b, d) to answers (b, m) and their slopes (b, m, d)
Solve = Callable[[Tensor, Tensor], Tensor]  # slopes (b, m, d) and what is lacking (b, m) to steps (b, d)


@dataclass(frozen=True)
class Demand:
    """What a target demands of log-odds `(b, m)`: sign * (answer - level) >= 0, or = 0 where it is `exact`.

    `level` and `exact` are `(m,)`; `sign` `(b, m)` is +1 where the answer has to rise.
    """

    sign: Tensor
    level: Tensor
    exact: Tensor

    @classmethod
    def of(cls, target: Target, answers: Tensor, sure: float = 0.5) -> Self:
        """The demands of `target` on images whose log-odds of the classes asked for are `answers` `(b, m)`.

        A class that is asked for at 1 has to come to `sure`, one at 0 to 1 - `sure`.
        """
        exact = torch.tensor([0 < p < 1 for _, p in target.wanted])
        border = [abs(p - (1 - sure)) if p in (0, 1) else p for _, p in target.wanted]
        level = torch.tensor([math.log(p / (1 - p)) for p in border])
        rising = torch.where(exact, answers <= level, torch.tensor([p == 1 for _, p in target.wanted]))
        return cls(rising.float() * 2 - 1, level, exact)

    def met(self, answers: Tensor) -> Tensor:
        """How far the least met demand is met, in log-odds `(b,)`: 0 at its border, positive beyond."""
        return (self.sign * (answers - self.level)).amin(1)

    def lack(self, answers: Tensor) -> Tensor:
        """By how much each demand is missed `(b, m)`."""
        return self.sign * (self.level - answers) + torch.where(self.exact, 0.0, PAST)


def smallest_step(slopes: Tensor, weighted: Tensor, lack: Tensor, exact: Tensor) -> Tensor:
    """The step `(b, d)` of least step' S^-1 step for which slopes . step >= lack, or = lack where `exact` `(m,)`.

    `slopes` is `(b, m, d)`, `weighted` the same times S (`slopes` itself for the shortest step), `lack` `(b, m)`.
    Which demands pull is found by adding those that are missed and dropping those that push the wrong way. Demands that
    contradict each other are met as nearly as can be.
    """
    slopes, weighted, lack = slopes.double(), weighted.double(), lack.double()
    gram = weighted @ slopes.mT
    pulling = exact | (lack > 0)
    for _ in range(2 * len(exact) + 1):
        pull = _pull(gram, lack, pulling)
        missed = lack - (gram @ pull[..., None])[..., 0] > 1e-9 * (1 + lack.abs())
        changed = exact | torch.where(pulling, pull > 0, missed)
        if torch.equal(changed, pulling):
            break
        pulling = changed
    return (_pull(gram, lack, pulling)[:, None] @ weighted)[:, 0].float()


def _pull(gram: Tensor, lack: Tensor, pulling: Tensor) -> Tensor:
    """How hard each demand pulls `(b, m)`, those that are not `pulling` not at all."""
    both = pulling[:, :, None] & pulling[:, None]
    inverse = torch.linalg.pinv(torch.where(both, gram, 0), hermitian=True, rtol=1e-9)
    return (inverse @ torch.where(pulling, lack, 0)[..., None])[..., 0]


def sparse_step(slopes: Tensor, lack: Tensor, exact: Tensor, entries: int, barred: Tensor | None = None) -> Tensor:
    """The shortest step of at most `entries` coordinates, none of them `barred` `(b, d)`; for one demand the shortest.

    The coordinates are those that a step of all of them moves most.
    """
    free = slopes if barred is None else torch.where(barred[:, None], 0.0, slopes)
    dense = smallest_step(slopes, free, lack, exact)
    chosen = torch.zeros_like(dense).scatter(1, dense.abs().topk(min(entries, dense.shape[1]), 1).indices, 1.0)
    return smallest_step(slopes, free * chosen[:, None], lack, exact)


def newton(look: Look, demand: Demand, solve: Solve, latents: Tensor, *, linear: bool) -> Tensor:
    """Steps `(b, d)` from `latents` that meet `demand` by what `look` answers.

    For linear answers the first is the solution. Else the smallest that meets what the slopes at the last one say, time
    and again; the one that misses least is kept.
    """
    answers, slopes = look(torch.zeros_like(latents))
    step = solve(demand.sign[..., None] * slopes, demand.lack(answers))
    best, least = step, _miss(demand, look(step)[0])
    for _ in range(0 if linear else ROUNDS):
        answers, slopes = look(step)
        signed = demand.sign[..., None] * slopes
        step = solve(signed, demand.lack(answers) + (signed @ step[..., None])[..., 0])
        miss = _miss(demand, look(step)[0])
        best = torch.where((miss < least - 1e-4)[:, None], step, best)
        least = torch.minimum(miss, least)
    return best


def _miss(demand: Demand, answers: Tensor) -> Tensor:
    lack = demand.lack(answers)
    return torch.where(demand.exact, lack.abs(), lack.clamp_min(0)).amax(1)


@dataclass(frozen=True)
class Question:
    """What an `agent` says of latents about `columns` `(b, m)` of its classes, with `shift` `(b, m)` added."""

    agent: Agent
    columns: Tensor
    shift: Tensor

    def answers(self, latents: Tensor) -> Tensor:
        """Log-odds `(b, m)` of `latents` `(b, d)`."""
        return self.agent.log_odds(latents).gather(1, self.columns) + self.shift

    def slopes(self, latents: Tensor) -> Tensor:
        """Their slopes `(b, m, d)`."""
        slopes = self.agent.slopes(latents)
        return slopes.gather(1, self.columns[..., None].expand(-1, -1, slopes.shape[2]))

    def about(self, row: int, n: int) -> "Question":
        """The same about `n` latents of one `row`."""
        return Question(self.agent, self.columns[row].expand(n, -1), self.shift[row].expand(n, -1))


@dataclass(frozen=True)
class Way:
    """Which step is taken for the smallest: `step` of `WAYS`, in so many `entries`, within the `plausible` radius."""

    step: str
    entries: int
    plausible: float

    @torch.no_grad()
    def smallest(
        self, question: Question, demand: Demand, latents: Tensor, barred: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Steps `(b, d)` from `latents` after which the agent answers `question` as demanded, and how many lengths of
        them are worth trying `(b,)`."""

        surroundings = question.agent.surroundings
        if self.step != "infill" or surroundings is None:
            return self._sloping(question, demand, latents, barred), torch.full((len(latents),), REACH)
        step = infilled(question, demand, latents, surroundings)
        step = planted(question, demand, latents, step, surroundings)
        before, after = (_lacking(question, demand, moved) for moved in (latents, latents + step))
        others = after >= WORTH * before
        if others.any():
            asked = Question(question.agent, question.columns[others], question.shift[others])
            own = Demand(demand.sign[others], demand.level, demand.exact)
            step[others] = self._sloping(asked, own, latents[others])
        return step, torch.where(others, REACH, REACH_DRAWN)

    def _sloping(self, question: Question, demand: Demand, latents: Tensor, barred: Tensor | None = None) -> Tensor:
        """Steps `(b, d)` along what the agent's slopes say."""

        def look(step: Tensor) -> tuple[Tensor, Tensor]:
            return question.answers(latents + step), question.slopes(latents + step)

        agent = question.agent
        return newton(look, demand, self.solve(agent, demand, barred), latents, linear=agent.linear)

    def solve(self, agent: Agent, demand: Demand, barred: Tensor | None = None) -> Solve:
        """Steps from slopes and what is lacking; only sparse ones leave `barred` coordinates `(b, d)` as they are."""

        def solve(slopes: Tensor, lack: Tensor) -> Tensor:
            if self.step == "sparse":
                return sparse_step(slopes, lack, demand.exact, self.entries, barred)
            weighted = slopes if self.step == "euclidean" else slopes @ agent.covariance
            return smallest_step(slopes, weighted, lack, demand.exact)

        return solve


def infilled(question: Question, demand: Demand, latents: Tensor, surroundings: Surroundings) -> Tensor:
    """Steps `(b, d)` that draw the smallest region of each code anew, see `infilling.py`."""
    steps = []
    for row, code in enumerate(latents):
        own = Demand(demand.sign[row : row + 1], demand.level, demand.exact)
        if (own.sign > 0).all():  # what is expected holds no evidence
            steps.append(torch.zeros_like(code))
            continue

        def lack(codes: Tensor, row: int = row, own: Demand = own) -> Tensor:
            return _lacking(question.about(row, len(codes)), own, codes)

        steps.append(surroundings.smallest(code, lack))
    return torch.stack(steps)


def planted(question: Question, demand: Demand, latents: Tensor, drawn: Tensor, surroundings: Surroundings) -> Tensor:
    """Steps `(b, d)` beyond `drawn`, which put findings in where answers still have to rise, those nearest."""
    agent, steps = question.agent, []
    for row, (code, step) in enumerate(zip(latents, drawn, strict=True)):
        own = Demand(demand.sign[row : row + 1], demand.level, demand.exact)
        for column, sign in zip(question.columns[row].tolist(), demand.sign[row].tolist(), strict=True):
            known = agent.findings[agent.shows == column] if sign > 0 else agent.findings[:0]
            if not len(known) or _lacking(question.about(row, 1), own, (code + step)[None]) <= 0:
                continue
            tried = torch.stack([step + surroundings.planted(code + step, one) for one in known])
            tried = torch.cat([step[None], tried])
            left = _lacking(question.about(row, len(tried)), own, code + tried)
            step = tried[int((left + NEAR * agent.whiten(tried).norm(dim=1)).argmin())]
        steps.append(step)
    return torch.stack(steps)


def _lacking(question: Question, demand: Demand, latents: Tensor) -> Tensor:
    """By how much all demands together, with a margin, are missed `(b,)`."""
    missed = demand.sign * (demand.level - question.answers(latents)) + MARGIN
    return missed.clamp_min(0).sum(1)
