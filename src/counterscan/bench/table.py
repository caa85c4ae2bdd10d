"""A suite's table for people: on the terminal, as Markdown, and as cells for the page."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from counterscan.bench.rows import Row
from counterscan.metrics.overlap import SIZES

COLUMNS = {  # the metric's name in the results: what the table calls it, and which way is better
    "iou": ("IoU", "higher"),
    "micro_iou": ("micro IoU", "higher"),
    "dice": ("Dice", "higher"),
    "micro_dice": ("micro Dice", "higher"),
    "iou_difference": ("behind inpainting", "lower"),
    "auprc": ("AUPRC", "higher"),
    "pointing_game": ("pointing game", "higher"),
    "healthy_mask_share": ("healthy masked", "lower"),
    "confidence_error": ("confidence off by", "lower"),
    "flip_rate": ("flipped", "higher"),
    "judge_flip_rate": ("judge flipped", "higher"),
    "twin_ratio": ("distance to the twin", "lower"),
    "frechet_distance": ("Fréchet", "lower"),
    "frechet_floor": ("real to real", ""),
    "seconds": ("s an image", "lower"),
    "memory_mb": ("peak MB", "lower"),
}
BY_SIZE = {
    f"{name}_{size}": f"{label}, {size}"
    for name, label in (("iou", "IoU"), ("dice", "Dice"), ("micro_iou", "micro IoU"), ("micro_dice", "micro Dice"))
    for size in SIZES
}
SHORT = ("iou", "micro_iou", "dice", *(f"iou_{size}" for size in SIZES), "auprc", "pointing_game")
SHORT += ("healthy_mask_share", "flip_rate", "judge_flip_rate", "frechet_distance", "seconds", "memory_mb")


class Absent(Protocol):
    """A line that may have no figures, and then says why."""

    @property
    def absent(self) -> str: ...

    @property
    def failed(self) -> str: ...


@dataclass(frozen=True)
class Table:
    """The lines of a suite, and the `facts` that hold for all: what it is of, sizes, command, machine, notes."""

    facts: dict[str, Any]
    rows: Sequence[Row] = field(repr=False)

    @property
    def failed(self) -> bool:
        """Did any method fail? One whose model is absent did not."""
        return any(row.failed for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """The form of the table's JSON."""
        return {**self.facts, "rows": [row.to_dict() for row in self.rows]}

    def __str__(self) -> str:
        heads = ["method", "rule", *(_spoken(name) for name in SHORT)]
        lines = [heads, *(_plain(row) for row in self.rows)]
        whole = [line for line in lines if len(line) == len(heads)]
        widths = [max(len(line[0]) for line in lines)]
        widths += [max(len(line[place]) for line in whole) for place in range(1, len(heads))]
        text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=False)) for line in lines]
        return "\n".join([*(line.rstrip() for line in text), "", *self.facts["notes"]])


def read_table(path: str | Path) -> Table:
    """The table in a JSON file that a suite wrote."""
    told = json.loads(Path(path).read_text())
    own = ("method", "rule", "absent", "failed")
    rows = [
        Row(**{key: row[key] for key in own if key in row}, result={k: v for k, v in row.items() if k not in own})
        for row in told.pop("rows")
    ]
    return Table(told, rows)


def markdown(table: Table) -> str:
    """The table as Markdown: the figures with their intervals, then those by the lesions' size."""
    parts = [_markdown(table.rows, {name: label for name, (label, _) in COLUMNS.items()})]
    parts.append(f"By the size of the lesion ({table.facts['sizes']}):\n")
    parts.append(_markdown([row for row in table.rows if row.metrics], BY_SIZE))
    notes = "".join(f"- {note}\n" for note in table.facts["notes"])
    return "\n".join([*parts, notes + f"- `{table.facts['command']}`\n"])


def cell(figure: Mapping[str, Any] | None) -> str:
    """A value with its interval where it has one."""
    if not figure or figure["value"] is None:
        return ""
    value = number(figure["value"])
    return value if figure["low"] is None else f"{value} ({number(figure['low'])} to {number(figure['high'])})"


def number(value: float | None) -> str:
    """Two digits after the point, or two that count where there would be none."""
    if value is None:
        return ""
    return (
        f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) >= 0.095 or not value else f"{value:.2g}"
    )


def why(row: Absent) -> str:
    """Why a line has no figures."""
    return f"absent: {row.absent}" if row.absent else f"failed: {row.failed}"


def _markdown(rows: Sequence[Row], columns: dict[str, str]) -> str:
    known = {name: label for name, label in columns.items() if any(name in row.metrics for row in rows)}
    lines = [["", "rule", *known.values()], ["---"] * (len(known) + 2)]
    for row in rows:
        figures = [cell(row.metrics.get(name)) for name in known]
        lines.append([f"`{row.method}`", row.rule, *figures] if row.metrics else [f"`{row.method}`", why(row)])
    return "".join("| " + " | ".join(line + [""] * (len(known) + 2 - len(line))) + " |\n" for line in lines)


def _plain(row: Row) -> list[str]:
    if not row.metrics:
        return [row.method, why(row)]
    figures = [number(row.metrics[name]["value"]) if name in row.metrics else "-" for name in SHORT]
    return [row.method, row.rule, *figures]


def _spoken(name: str) -> str:
    return COLUMNS[name][0] if name in COLUMNS else BY_SIZE[name]
