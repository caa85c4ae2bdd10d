"""The shortest length of a given step at which a black box answers as asked, in few queries: a bracket, then narrower.

All images go along together, each along its own step; what they ask at one time is decoded and asked in one batch.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from counterscan.core import Target
from counterscan.explainers.latent_agent.steps import Demand

NEAREST = 0.5  # of the bracket, in lengths of the step
CLOSE = 0.1  # log-odds behind the border at which there is nothing to be gained
BESIDE = 0.1  # a place tried lies no nearer to an end, as a share of what is between
BEYOND = 0.03  # log-odds behind the border that a place is aimed at
Look = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # rows and lengths (n,) to images (n, ...), answers (n, k)


@dataclass
class Trace:
    """For each image the best seen so far, what it is answered with, its length, and how often something was tried.

    Between `low` and `high` the border is passed, where `at_low` and `at_high` are what `Demand.met` says.
    """

    images: Tensor
    answers: Tensor
    target: Target
    sure: float = 0.5
    lengths: Tensor = field(init=False)
    tried: Tensor = field(init=False)

    def __post_init__(self) -> None:
        n = len(self.images)
        self.images, self.answers = self.images.clone(), self.answers.clone()
        self.wanted = [index for index, _ in self.target.wanted]
        self.demand = Demand.of(self.target, self.answers[:, self.wanted], self.sure)
        self.lengths, self.tried = torch.zeros(n), torch.zeros(n, dtype=torch.long)
        self.low, self.high = torch.zeros(n), torch.full((n,), torch.inf)
        self.at_low, self.at_high = self.demand.met(self.answers[:, self.wanted]), torch.full((n,), torch.inf)
        self.worth = self._worth(torch.arange(n), self.answers, self.lengths)

    def note(self, rows: Tensor, lengths: Tensor, images: Tensor, answers: Tensor) -> None:
        """Learn what is answered to `images` of some `rows` `(n,)` at ascending `lengths`."""
        worth, met = self._worth(rows, answers, lengths), self._met(rows, answers)
        for place, row in enumerate(rows.tolist()):
            self.tried[row] += 1
            if worth[place] > self.worth[row]:
                self.worth[row], self.lengths[row] = worth[place], lengths[place]
                self.images[row], self.answers[row] = images[place], answers[place]
            if met[place] > 0 and lengths[place] < self.high[row]:
                self.high[row], self.at_high[row] = lengths[place], met[place]
            elif met[place] <= 0 and self.low[row] < lengths[place] < self.high[row]:
                self.low[row], self.at_low[row] = lengths[place], met[place]

    def between(self) -> tuple[Tensor, Tensor]:
        """Rows whose border is not yet near, and the length to try next: where a line between the ends crosses it."""
        rows = torch.nonzero(self.high.isfinite() & (self.at_high > CLOSE))[:, 0]
        low, high = self.at_low[rows], self.at_high[rows]
        share = ((BEYOND - low) / (high - low)).clamp(BESIDE, 1 - BESIDE)
        return rows, self.low[rows] + share * (self.high - self.low)[rows]

    def _met(self, rows: Tensor, answers: Tensor) -> Tensor:
        demand = Demand(self.demand.sign[rows], self.demand.level, self.demand.exact)
        return demand.met(answers[:, self.wanted])

    def _worth(self, rows: Tensor, answers: Tensor, lengths: Tensor) -> Tensor:
        """What is as asked before what is not; of those the nearest to the probability asked for, else the shortest; of
        the others the one that comes nearest."""
        exact = bool(self.demand.exact.any())
        score = self.target.score(answers) if exact else self._met(rows, answers)
        cost = self.target.loss(answers) if exact else lengths
        return torch.where(score > 0, 1e6 - cost.double(), score.double().clamp(-1e5, 1e5))


def trace(
    look: Look,
    images: Tensor,
    answers: Tensor,
    target: Target,
    reach: Tensor,
    limit: Tensor,
    queries: int,
    sure: float = 0.5,
) -> Trace:
    """From reconstructions `images` `(b, ...)`, answered with `answers` `(b, k)`, along steps, as far as `reach` `(b,)`
    of their lengths and no further than `limit` `(b,)`.

    At most `queries` are asked an image, half of them along the bracket. What is answered as asked already stays.
    """
    found = Trace(images, answers, target, sure)
    bracket = (queries + 1) // 2
    places = NEAREST * (reach[:, None] / NEAREST) ** torch.linspace(0, 1, bracket)
    lengths = torch.minimum(places, limit[:, None])
    fresh = torch.diff(lengths, dim=1, prepend=torch.zeros(len(images), 1)) > 0
    rows, columns = torch.nonzero(fresh & ~target.reached(answers)[:, None], as_tuple=True)
    if len(rows):
        found.note(rows, lengths[rows, columns], *look(rows, lengths[rows, columns]))
    for _ in range(queries - bracket):
        rows, tried = found.between()
        if len(rows):
            found.note(rows, tried, *look(rows, tried))
    return found
