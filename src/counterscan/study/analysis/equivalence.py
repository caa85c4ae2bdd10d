"""Is a figure as good as chance? Two one-sided tests (Schuirmann, 1987): not differing from chance shows nothing."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from counterscan.errors import CounterscanError
from counterscan.study.analysis.indices import Index
from counterscan.study.analysis.mixed import NOTHING, chosen, rounded

LEVEL = 0.90  # two one-sided tests at 5 % are the 90 % interval inside the margins


@dataclass(frozen=True)
class Equivalence:
    """Whether a figure lies within `margin` of `chance`: its 90 % interval `low` to `high`, and `p` against it.

    `equivalent` is None where nothing can be said, and `over` what the interval accounts for: over cases alone it is
    so for these readers.
    """

    value: float
    low: float
    high: float
    chance: float
    margin: float
    p: float
    equivalent: bool | None
    over: str

    def to_dict(self) -> dict[str, Any]:
        """The form of the results."""
        numbers = {key: rounded(getattr(self, key)) for key in ("value", "low", "high", "chance", "margin", "p")}
        return {**numbers, "equivalent": self.equivalent, "over": self.over}


def equivalence(index: Index, chance: float = 0.5, margin: float = 0.05) -> Equivalence:
    """Test that the mean of the readers, a share or an area, differs from `chance` by less than `margin`.

    Raises CounterscanError for a margin that reaches a share of 0 or 1.
    """
    most = min(chance, 1 - chance)
    if not 0 < margin < most:
        raise CounterscanError(f"a margin of {margin:g} about {chance:g} is not between 0 and {most:g}; take another")
    index = index.of(np.flatnonzero(~np.isnan(index.values)))
    spread, over, _ = chosen(index)
    low, high = (float(end) for end in spread.interval(LEVEL, share=True))
    if over == NOTHING or not spread.variance > 0:
        nan = float("nan")
        return Equivalence(float(spread.value), nan, nan, chance, margin, nan, None, over)
    below = 1 - float(spread.above(chance + margin, share=True))
    p = max(float(spread.above(chance - margin, share=True)), below)
    return Equivalence(float(spread.value), low, high, chance, margin, p, p < 0.05, over)
