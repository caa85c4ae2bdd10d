"""What a check says: a verdict in plain words, with the number and the threshold that it follows from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from counterscan.core import Card, Target
from counterscan.metrics.intervals import Estimate

PASSES, FAILS, UNCLEAR = "passes", "fails", "cannot tell"
ENOUGH = 4  # images, below which no interval is trusted


@dataclass(frozen=True)
class Check:
    """One question, its verdict and the words for it.

    `value`, called `measure`, is bad above `threshold`; `figures` are all that was measured for it.
    """

    name: str
    question: str
    verdict: str
    words: str
    measure: str = ""
    value: Estimate | None = None
    threshold: float | None = None
    figures: Mapping[str, Estimate] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The form of `sanity.json`."""
        value = None if self.value is None else self.value.to_dict()
        told = {key: getattr(self, key) for key in ("name", "question", "verdict", "words", "measure", "threshold")}
        return {**told, "value": value}

    @property
    def number(self) -> str:
        """The value with its interval and the threshold, as a person reads them; empty where nothing was measured."""
        if self.value is None or np.isnan(self.value.value):
            return ""
        value = self.value
        return f"{self.measure} {value.value:.2f} ({value.low:.2f} to {value.high:.2f}), fails above {self.threshold:g}"


def decide(value: Estimate, threshold: float) -> str:
    """`fails` where the whole interval lies above `threshold`, `passes` where all of it lies below, else unclear."""
    if value.n < ENOUGH or np.isnan(value.value):
        return UNCLEAR
    return FAILS if value.low > threshold else PASSES if value.high < threshold else UNCLEAR


def unmeasured(name: str, question: str, words: str) -> Check:
    """A check that could not be made, and why."""
    return Check(name, question, UNCLEAR, words)


def missed(target: Target, card: Card) -> str:
    """What an image shows that misses the target, in words: `effusion`, `not normal`, `effusion or nodule`."""
    if len(target.wanted) > 2 and not any(p for _, p in target.wanted):
        return "any finding"
    parts = [card.classes[index] if p < 0.5 else f"not {card.classes[index]}" for index, p in target.wanted]
    return " or ".join(parts)
