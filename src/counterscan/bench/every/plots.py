"""Two figures against each other, every method a dot with its name, drawn as a vector."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from counterscan.bench.every.lines import Line
from counterscan.bench.every.places import ADDED
from counterscan.bench.table import number

WIDTH, HEIGHT, LEFT, BELOW, RIGHT, TOP = 420, 260, 38, 34, 132, 16  # CSS pixels; names need room on the right
LETTER, ROW = 6.2, 12  # of a name, pixels wide and high


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`, which lie at `start` and `end`; in powers of ten where `log`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def of(cls, values: Sequence[float], start: float, end: float, log: bool = False) -> "Axis":
        """An axis that holds all values, with a little room."""
        if log:
            logs = [math.log10(value) for value in values]
            return cls(math.floor(min(logs)), math.ceil(max(logs)) + (min(logs) == max(logs)), start, end, True)
        low, high = min(0.0, *values), max(values)
        return cls(low, high + 0.05 * (high - low or 1), start, end)

    def place(self, value: float) -> float:
        """Where a value lies, in pixels."""
        value = math.log10(value) if self.log else value
        return self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[dict[str, Any]]:
        """A few round values, with their places and texts."""
        if self.log:
            values = [10.0**power for power in range(int(self.low), int(self.high) + 1)]
        else:
            step = 10 ** math.floor(math.log10((self.high - self.low) / 2))
            step *= next(factor for factor in (1, 2, 5) if (self.high - self.low) / (step * factor) <= 6)
            values = [n * step for n in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        return [{"at": self.place(value), "text": f"{value:g}" if self.log else number(value)} for value in values]


def scatter(title: str, lines: Sequence[Line], across: str, up: str, log: bool = False) -> dict[str, Any] | None:
    """A drawing of `up` against `across` of all lines that have both; None where fewer than two have.

    A filled dot is disease removed, an open one disease added.
    """
    points = [(line, line.value(across), line.value(up)) for line in lines]
    known = [(line, x, y) for line, x, y in points if x is not None and y is not None and (x > 0 or not log)]
    if len(known) < 2:
        return None
    wide = Axis.of([x for _, x, _ in known], LEFT, WIDTH - RIGHT, log)
    high = Axis.of([*(y for *_, y in known), 1.0], HEIGHT - BELOW, TOP)
    dots = [
        {
            "x": wide.place(x),
            "y": high.place(y),
            "name": line.method,
            "open": line.direction == ADDED,
            "kind": line.kind,
        }
        for line, x, y in known
    ]
    for dot, at in zip(dots, _apart(dots), strict=True):
        dot["text"] = at
    return {
        "title": title,
        "dots": dots,
        "x": wide.ticks(),
        "y": high.ticks(),
        "box": (LEFT, TOP, WIDTH - RIGHT, HEIGHT - BELOW),
        "size": (WIDTH, HEIGHT),
    }


def _apart(dots: Sequence[dict[str, Any]]) -> list[float]:
    """How high each name stands so that it lies on no other and on no dot: as near to its own dot as it can."""
    taken = [(dot["x"] - 4, dot["x"] + 4, dot["y"]) for dot in dots]
    places = {}
    for index in sorted(range(len(dots)), key=lambda index: dots[index]["y"]):
        dot = dots[index]
        left, right = dot["x"] + 5, dot["x"] + 8 + LETTER * len(dot["name"])
        near = (dot["y"] + sign * step * ROW / 2 for step in range(40) for sign in (1, -1))
        free = (y for y in near if all(abs(y - other) >= ROW or right < a or left > b for a, b, other in taken))
        places[index] = next(free, dot["y"])
        taken.append((left, right, places[index]))
    return [places[index] for index in range(len(dots))]
