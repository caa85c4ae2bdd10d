"""Scans that show what is asked for: the best of many draws, moved until the classifier sees it, then judged.

Draws are shared by all that are wanted at once: a draw that shows by chance what one of them asks for needs no step.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from counterscan.core import Classifier, Target
from counterscan.explainers.latents.aims import MARGIN, Aim, Usual, lack
from counterscan.explainers.latents.sphere import Descent, GeneratorPrior, Objective, Score
from counterscan.synthesis.gate import Verdict, in_chunks, joined

REALISM = 0.5  # log-odds that a spread of the critic's scores weighs as much as


class Check(Protocol):
    """A gate: a verdict for each image, given the features of those that were taken before."""

    def __call__(self, images: Tensor, targets: Sequence[Target], taken: Tensor, /) -> list[Verdict]: ...

    def repeats(self, features: Tensor, taken: Tensor, /) -> bool: ...


@dataclass(frozen=True)
class Slot:
    """Scan number `index` of an archive, and what it is to show."""

    index: int
    target: Target


@dataclass(frozen=True)
class Try:
    """One try at a slot: its latent `(d,)`, the image `(c, h, w)` as it is stored, and what the gate says of it.

    `number` counts the tries at the slot, `steps` those from the draw; `refusals` says why each refused try was.
    """

    slot: Slot
    latent: Tensor = field(repr=False)
    image: Tensor = field(repr=False)
    verdict: Verdict = field(repr=False)
    number: int
    steps: int
    refusals: tuple[str, ...] = ()

    @property
    def taken(self) -> bool:
        """Does it go into the archive?"""
        return not self.verdict.refused


@dataclass(frozen=True)
class Making:
    """How scans are made: `draws` for each that is wanted, at most `tries` at each, a `descent` from the best draw.

    `classifier` is differentiable and takes the generator's images; `stored` is what an image `(n, c, h, w)` is once it
    has been written and read again, and it is that image that the `gate` sees.
    """

    generator: GeneratorPrior
    classifier: Classifier
    gate: Check
    stored: Callable[[Tensor], Tensor] = field(default=lambda images: images, repr=False)
    draws: int = 16
    tries: int = 3
    descent: Descent = field(default_factory=Descent)

    def __call__(self, slots: Sequence[Slot], taken: Tensor, seed: int) -> list[Try]:
        """The last try at each slot, in their order: the same for the same slots, `taken` features `(m, d)` and seed.

        Where no try is taken, it is the one that came nearest to the answer.
        """
        found: dict[int, Try] = {}
        for number in range(1, self.tries + 1):
            left = [slot for slot in slots if slot.index not in found or not found[slot.index].taken]
            if not left:
                break
            for one in self._tried(left, taken, _source(seed, slots[0].index, number), number):
                found[one.slot.index] = _better(found.get(one.slot.index), one)
                if one.taken:
                    taken = joined(taken, one.verdict.features[None])
        return [found[slot.index] for slot in slots]

    def _tried(self, slots: Sequence[Slot], taken: Tensor, source: torch.Generator, number: int) -> Iterator[Try]:
        targets = [slot.target for slot in slots]
        start = self._start(targets, source)
        moved = self.descent(self.generator, start, self._objective(targets))
        images = self.stored(in_chunks(self.generator, moved.latents))
        verdicts = self.gate(images, targets, taken)
        for row, slot in enumerate(slots):
            refusals = tuple(filter(None, [verdicts[row].refused]))
            yield Try(slot, moved.latents[row], images[row], verdicts[row], number, int(moved.steps[row]), refusals)

    def _start(self, targets: Sequence[Target], source: torch.Generator) -> Tensor:
        """The draw `(n, d)` for each target, no draw for two; no more are looked at once each has what it asks for."""
        drawn = self.generator.draw(self.draws * len(targets), source)
        losses, chosen = torch.zeros(len(targets), 0), torch.zeros(len(targets), dtype=torch.long)
        for part in drawn.split(self.descent.batch):
            losses = torch.cat([losses, self._losses(part, targets)], 1)
            if losses.shape[1] >= len(targets):
                chosen = _dealt(losses)
                if not losses.gather(1, chosen[:, None]).any():
                    break
        return drawn[chosen]

    @torch.no_grad()
    def _losses(self, latents: Tensor, targets: Sequence[Target]) -> Tensor:
        """What each of `latents` `(m, d)` lacks of each target `(n, m)`."""
        images = self.generator(latents)
        answers, usual = self.classifier(images).float(), Usual.of(self.generator)
        unusual = REALISM * usual.lack(self.generator.critic(images).float())
        lacking = {target: unusual + lack(target, answers, MARGIN) for target in set(targets)}
        return torch.stack([lacking[target] for target in targets])

    def _objective(self, targets: Sequence[Target]) -> Objective:
        aim, usual = Aim(targets), Usual.of(self.generator)

        def objective(images: Tensor, _latents: Tensor, rows: Tensor) -> Score:
            short = aim.shortfall(self.classifier(images).float(), rows)
            unusual = usual.lack(self.generator.critic(images).float())
            return Score(short + REALISM * unusual, (short <= 0) & (unusual <= 0))

        return objective


def _dealt(losses: Tensor) -> Tensor:
    """Which draw `(n,)` each target gets, of `losses` `(n, draws)`; the hardest targets choose first."""
    chosen = torch.zeros(len(losses), dtype=torch.long)
    free = losses.clone()
    for row in losses.mean(1).argsort(descending=True, stable=True).tolist():
        chosen[row] = free[row].argmin()
        free[:, chosen[row]] = torch.inf
    return chosen


def _better(before: Try | None, after: Try) -> Try:
    """The try that counts for a slot: one that is taken, else the nearest to the answer; all refusals are kept."""
    if before is None:
        return after
    kept = after if after.taken or after.verdict.score > before.verdict.score else before
    return replace(kept, number=after.number, refusals=before.refusals + after.refusals)


def _source(seed: int, index: int, number: int) -> torch.Generator:
    """Where the draws of a try come from: the archive's seed, its first slot and its number."""
    state = np.random.SeedSequence([seed, index, number]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))
