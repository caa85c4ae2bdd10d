"""The table of all methods for people: on the terminal, as Markdown, and which method is best at what."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from counterscan.bench.every.checks import FAILS, NEEDS_GRADIENTS
from counterscan.bench.every.lines import Line
from counterscan.bench.every.places import ADDED, REMOVED
from counterscan.bench.table import cell, number, why

COLUMNS = {  # the metric's name in the results: what the table calls it, and which way is better
    "flip_rate": ("flipped", "higher"),
    "judge_flip_rate": ("judge flipped", "higher"),
    "black_box_flip_rate": ("as a black box", "higher"),
    "l1": ("change (l1)", "lower"),
    "ms_ssim": ("MS-SSIM", "higher"),
    "twin_ratio": ("distance to the twin", "lower"),
    "auprc": ("AUPRC", "higher"),
    "pointing_game": ("pointing game", "higher"),
    "outside_inside_ratio": ("outside over inside", "lower"),
    "kernel_distance": ("kernel distance", "lower"),
    "kernel_floor": ("real to real", ""),
    "identity_kept": ("same patient", "higher"),
    "sensitivity": ("changed by noise", "lower"),
    "sanity_correlation": ("like with random weights", "lower"),
    "queries": ("queries", "lower"),
    "cpu_seconds": ("CPU s an image", "lower"),
    "memory_mb": ("peak MB", "lower"),
}
SHORT = ("flip_rate", "judge_flip_rate", "twin_ratio", "auprc", "kernel_distance", "sensitivity", "cpu_seconds")
COUNTS = 0.5  # a method that flips the judge less often is no answer to how it looks, or how little it changes


@dataclass(frozen=True)
class Question:
    """What a reader wants: the `metric` that decides it, in which `direction`, and among which methods."""

    text: str
    metric: str
    direction: str = REMOVED
    black_box: bool = False
    convincing: bool = False


QUESTIONS = (
    Question("Takes disease away so that another classifier agrees", "judge_flip_rate"),
    Question("Takes it away, explaining a classifier that only answers", "judge_flip_rate", black_box=True),
    Question("Adds disease so that another classifier agrees", "judge_flip_rate", ADDED),
    Question("Comes nearest to the true healthy image", "twin_ratio", convincing=True),
    Question("Looks most like real images", "kernel_distance", convincing=True),
    Question("Changes least", "l1", convincing=True),
    Question("Points at the lesion", "auprc"),
    Question("Points at it, explaining a classifier that only answers", "auprc", black_box=True),
)


@dataclass(frozen=True)
class Table:
    """Every line, and the `facts` of the run that wrote the table."""

    facts: dict[str, Any]
    lines: Sequence[Line] = field(repr=False)

    @property
    def failed(self) -> bool:
        """Did any method break? One without a prior counts as failed in the table, and is no fault of the run."""
        return any(line.failed for line in self.lines)

    @property
    def places(self) -> list[str]:
        """The kinds of images, in the order of the table."""
        return list(dict.fromkeys(line.data for line in self.lines))

    def to_dict(self) -> dict[str, Any]:
        """The form of the table's JSON."""
        return {**self.facts, "rows": [line.to_dict() for line in self.lines]}

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> "Table":
        """What `to_dict` made."""
        rows = [Line.from_dict(row) for row in told["rows"]]
        return cls({key: value for key, value in told.items() if key != "rows"}, rows)

    def part(self, data: str, direction: str) -> list[Line]:
        """The lines of one kind of images in one direction."""
        return [line for line in self.lines if (line.data, line.direction) == (data, direction)]

    def __str__(self) -> str:
        heads = ["images", "asked", "method", *(COLUMNS[name][0] for name in SHORT)]
        lines = [heads, *(_plain(line) for line in self.lines)]
        whole = [line for line in lines if len(line) == len(heads)]
        widths = [max(len(line[place]) for line in (lines if place < 3 else whole)) for place in range(len(heads))]
        text = ["  ".join(word.ljust(width) for word, width in zip(line, widths, strict=False)) for line in lines]
        counts = f"{sum(bool(line.metrics) for line in self.lines)} measured, "
        counts += f"{sum(not line.metrics for line in self.lines)} failed"
        return "\n".join([*(line.rstrip() for line in text), "", counts, *self.facts.get("notes", ())])


def best(table: Table) -> list[tuple[Question, list[list[Line]]]]:
    """Each question with the methods that answer it best on each kind of images: one, several alike, or none."""
    return [
        (one, [_best(table.part(data, one.direction), one) for data in table.places])
        for one in QUESTIONS
        if any(line.value(one.metric) is not None for line in table.lines)
    ]


def answer(asked: Question, lines: Sequence[Line]) -> tuple[str, str]:
    """The methods that are best, by their names, and their figure."""
    return ", ".join(line.method for line in lines), number(lines[0].value(asked.metric)) if lines else ""


def markdown(table: Table) -> str:
    """Which method for what, then a table for each kind of images and direction."""
    asked = [
        [one.text, *(" ".join(filter(None, answer(one, lines))) or "–" for lines in found)]
        for one, found in best(table)
    ]
    parts = [_grid(["", *table.places], asked)]
    for data in table.places:
        for direction in (REMOVED, ADDED):
            if lines := table.part(data, direction):
                parts += [_headline(lines), _measures(lines)]
    return "\n".join([*parts, f"- `{table.facts['command']}`\n"])


def shown(lines: Sequence[Line]) -> dict[str, str]:
    """The columns that some line has something for, with what the table calls them."""
    return {name: label for name, (label, _) in COLUMNS.items() if any(_told(line, name) for line in lines)}


def black_box(line: Line) -> str:
    """What the method is worth where nothing but answers is to be had."""
    words, flips = line.result.get("black_box", ""), line.value("black_box_flip_rate")
    return words if flips is None else number(flips)


def best_of(lines: Sequence[Line], metric: str) -> float | None:
    """The best value of a metric among `lines`, None where there is none, or no better way."""
    values = [value for line in lines if (value := line.value(metric)) is not None]
    better = COLUMNS[metric][1]
    return (max(values) if better == "higher" else min(values)) if values and better else None


def _best(lines: Sequence[Line], asked: Question) -> list[Line]:
    able = [line for line in lines if line.value(asked.metric) is not None]
    if asked.black_box:
        able = [line for line in able if line.result.get("black_box") not in (NEEDS_GRADIENTS, FAILS)]
    if asked.convincing:
        able = [line for line in able if (line.value("judge_flip_rate") or 0) >= COUNTS]
    value = best_of(able, asked.metric)
    return [line for line in able if line.value(asked.metric) == value]


def _headline(lines: Sequence[Line]) -> str:
    measured = [line.result for line in lines if line.metrics]
    images = f": {measured[0]['images']}, target `{measured[0]['target']}`, n={measured[0]['n']}" if measured else ""
    return f"### {lines[0].data}, disease {lines[0].direction}{images}\n"


def _measures(lines: Sequence[Line]) -> str:
    known = shown(lines)
    rows = [
        [f"`{line.method}`", *(_told(line, name) for name in known)]
        if line.metrics
        else [f"`{line.method}`", why(line), *[""] * (len(known) - 1)]
        for line in lines
    ]
    return _grid(["", *known.values()], rows)


def _told(line: Line, name: str) -> str:
    return cell(line.metrics.get(name)) or (black_box(line) if name == "black_box_flip_rate" else "")


def _grid(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _plain(line: Line) -> list[str]:
    first = [line.data, line.direction, line.method]
    return [*first, *(number(line.value(name)) or "-" for name in SHORT)] if line.metrics else [*first, why(line)]
