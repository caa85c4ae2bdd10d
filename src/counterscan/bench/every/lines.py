"""A line of the table of all methods: one method in one direction on one kind of images, or why it has no figures."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from counterscan.bench.every.places import ADDED, FOUR, REMOVED
from counterscan.bench.suite import as_json
from counterscan.data.files import write_whole

OWN = ("data", "direction", "method", "kind", "absent", "failed")
DIRECTIONS = (REMOVED, ADDED)
DRAWS, ATTRIBUTES = "counterfactual", "attribution"


@dataclass(frozen=True)
class Line:
    """`method` on the images `data` in `direction`; `kind` is one of `DRAWS` and `ATTRIBUTES`.

    `result` has the form of `score --json`; a line without figures is `absent` (it has no prior here, or cannot be
    asked this) or `failed`.
    """

    data: str
    direction: str
    method: str
    kind: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)
    absent: str = ""
    failed: str = ""

    @property
    def file(self) -> str:
        """What its own JSON file, and its sheet of pictures, are called."""
        return f"{self.data}-{self.direction}-{self.method}"

    @property
    def metrics(self) -> Mapping[str, Mapping[str, Any]]:
        """The estimates by name."""
        return self.result.get("metrics", {})

    def value(self, name: str) -> float | None:
        """The value of one of them, None where there is none."""
        return self.metrics.get(name, {}).get("value")

    def to_dict(self) -> dict[str, Any]:
        """The line as JSON."""
        return {key: getattr(self, key) for key in OWN if getattr(self, key)} | dict(self.result)

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> "Line":
        """What `to_dict` made."""
        own = {key: told[key] for key in OWN if key in told}
        return cls(**own, result={key: value for key, value in told.items() if key not in OWN})


def keep(line: Line, out: Path) -> None:
    """Write the line's own JSON file under `out`."""
    write_whole(out / "results" / f"{line.file}.json", as_json(line.to_dict()))


def kept_lines(out: Path) -> list[Line]:
    """Every line that was ever measured into `out`, by images, direction and method, in the order of the table."""
    found = [Line.from_dict(json.loads(path.read_text())) for path in (out / "results").glob("*.json")]
    return sorted(found, key=_place)


def _place(line: Line) -> tuple:
    data = FOUR.index(line.data) if line.data in FOUR else len(FOUR)
    return data, line.data, DIRECTIONS.index(line.direction), line.kind != DRAWS, line.method
