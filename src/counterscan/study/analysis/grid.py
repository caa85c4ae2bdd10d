"""Readings of a part as arrays of readers by trials, nan where a reader has not answered."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from counterscan.study.records import Reading

VALUES = ("score", "correct", "rating", "seconds")


@dataclass(frozen=True)
class Grid:
    """Of R `readers` and N `trials`: `score`, `correct`, `rating` and `seconds` `(R, N)`, nan where there is none.

    `cases` `(N,)` are numbers from 0 up of whose pictures a trial shows, `truth` `(N,)` 1, 0 or nan, `arms` `(N,)` what
    is tried there, and `methods` `(R, N)` the method of a reading, which of two side by side is the one chosen.
    """

    readers: tuple[str, ...]
    trials: tuple[str, ...]
    cases: np.ndarray
    truth: np.ndarray
    arms: np.ndarray
    methods: np.ndarray
    score: np.ndarray
    correct: np.ndarray
    rating: np.ndarray
    seconds: np.ndarray

    @property
    def shown(self) -> list[str]:
        """The arms there are, the real pictures' own ("") left out."""
        return sorted({str(arm) for arm in self.arms} - {""})

    @property
    def answers(self) -> int:
        """How many readings it holds."""
        return int((~np.isnan(self.seconds)).sum())

    @property
    def cases_read(self) -> int:
        """How many cases any reader has read."""
        return len(set(self.cases[~np.isnan(self.seconds).all(0)]))

    def where(self, chosen: np.ndarray) -> "Grid":
        """The same trials with all but the `chosen` `(N,)` unread, so that two such grids can be compared."""
        return self._with({name: np.where(chosen, getattr(self, name), np.nan) for name in VALUES})

    def _with(self, values: dict[str, Any]) -> "Grid":
        return replace(self, **values)

    def arm(self, name: str) -> "Grid":
        """One arm, beside the pictures that serve all of them."""
        return self.where((self.arms == name) | (self.arms == ""))


def grid_of(readings: Sequence[Reading]) -> Grid:
    """One `Grid` of readings, each reader of each trial at most once."""
    readers = tuple(sorted({one.reader for one in readings}))
    trials = {one.trial: one for one in readings}
    row, column = ({name: place for place, name in enumerate(names)} for names in (readers, trials))
    names = {one.case or one.trial: 0 for one in trials.values()}
    codes = {name: code for code, name in enumerate(names)}
    shape = (len(readers), len(trials))
    values = {name: np.full(shape, np.nan) for name in VALUES}
    methods = np.full(shape, "", dtype=object)
    for one in readings:
        at = row[one.reader], column[one.trial]
        methods[at] = one.method
        for name, value in zip(VALUES, (one.score, one.correct, one.rating, one.rt_ms / 1000), strict=True):
            values[name][at] = np.nan if value is None else float(value)
    firsts = trials.values()
    return Grid(
        readers,
        tuple(trials),
        np.array([codes[one.case or one.trial] for one in firsts], dtype=int),
        np.array([np.nan if one.truth is None else one.truth for one in firsts], float),
        np.array([one.arm for one in firsts], dtype=object),
        methods,
        **values,
    )
