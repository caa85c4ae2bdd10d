"""From a study and its answers to all that is said about it."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from counterscan.data.files import write_whole
from counterscan.errors import CounterscanError, did_you_mean
from counterscan.study.analysis import conduct, exports
from counterscan.study.analysis.grid import Grid, grid_of
from counterscan.study.analysis.judgements import choosing, yes_no
from counterscan.study.analysis.page import page_of
from counterscan.study.analysis.preference import preferred
from counterscan.study.analysis.ratings import rated
from counterscan.study.analysis.tables import per_reader, reasons
from counterscan.study.records import YES_NO, Answer, Part, Reading, Study, readings, trials_of

MARGIN = 0.05


@dataclass(frozen=True)
class Results:
    """What a study showed: `content` as in results.json, the `readings` behind it, the `grids` of its yes/no parts."""

    content: dict[str, Any]
    readings: tuple[Reading, ...]
    grids: dict[str, Grid] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """All figures: JSON knows no nan, so that what is not defined is None."""
        return self.content

    def write(self, folder: str | Path) -> Path:
        """Write results.json, readings.csv, per_reader.csv, imrmc.csv, mrmcaov.csv and index.html; answers the page."""
        folder = Path(folder)
        rows = [
            {"part": section["title"], "task": section["task"], **row}
            for section in self.content["parts"]
            for row in section["readers"]
        ]
        files = {
            "results.json": json.dumps(self.content, indent=1, ensure_ascii=False) + "\n",
            "readings.csv": exports.readings_table(self.readings),
            "per_reader.csv": exports.table(rows),
            "imrmc.csv": exports.imrmc(self.grids),
            "mrmcaov.csv": exports.mrmcaov(self.grids),
        }
        for name, text in files.items():
            write_whole(folder / name, text.encode())
        return write_whole(folder / "index.html", page_of(self.content).encode())


def analyse(
    study: Study, answers: Iterable[Answer], *, margin: float = MARGIN, exclude: Sequence[str] = (), command: str = ""
) -> Results:
    """All figures of `answers`, with equivalence tests for a `margin` about chance.

    Training, repeats and attention checks are never among the main figures. A reader who fails the checks is named and
    stays; `exclude` names those to leave out, and the results say so. Raises CounterscanError for answers of another
    study, of a reader it does not have, twice to one trial, or none at all.
    """
    answers = list(answers)
    rows = readings(study, answers)
    _check(study, answers, exclude)
    kept = [one for one in rows if one.reader not in exclude]
    main = [answer for answer in answers if answer.reader not in exclude]
    if not any(one.role == "test" for one in kept):
        raise CounterscanError(f"{study.title!r} has no answers to analyse yet; readers must answer test trials first")
    sections, grids = [], {}
    for parts in _joined(study.parts):
        numbers = {part.number for part in parts}
        own = [one for one in kept if one.part in numbers]
        if any(one.role == "test" for one in own):
            section, grid = _section(study, parts, own, main, margin)
            sections.append(section)
            if parts[0].task in YES_NO:
                grids[section["title"]] = grid
    content = {**_head(study, kept, exclude, margin, command), "parts": sections, "metrics": _metrics(sections)}
    return Results(content, tuple(rows), grids)


def _check(study: Study, answers: Sequence[Answer], exclude: Sequence[str]) -> None:
    known = set(study.names) or {answer.reader for answer in answers}
    for name in sorted({answer.reader for answer in answers} - known):
        raise CounterscanError(f"{study.title!r} has no reader {name!r}; give the answers of this study")
    for name in exclude:
        if name not in known:
            raise CounterscanError(
                f"cannot exclude {name!r}, who is no reader of {study.title!r}{did_you_mean(name, known)}"
            )
    (reader, trial), n = (
        Counter((one.reader, one.trial) for one in answers).most_common(1)[0] if answers else (("", ""), 0)
    )
    if n > 1:
        raise CounterscanError(
            f"{reader} answered trial {trial} {n} times; give each answer once, as the store has them"
        )


def _joined(parts: Sequence[Part]) -> list[list[Part]]:
    """Parts that show the same cases are one: an arm each."""
    groups: dict[str, list[Part]] = {}
    for part in parts:
        groups.setdefault(part.pair or f"part {part.number}", []).append(part)
    return list(groups.values())


def _section(
    study: Study, parts: list[Part], own: list[Reading], answers: list[Answer], margin: float
) -> tuple[dict[str, Any], Grid]:
    part, roles = parts[0], {role: [one for one in own if one.role == role] for role in ("test", "repeat", "check")}
    grid = grid_of(roles["test"])
    found = {
        "title": " / ".join(dict.fromkeys(one.title for one in parts)),
        "task": part.task,
        "question": part.question,
        "answers": grid.answers,
        "cases": grid.cases_read,
        "n_readers": len(grid.readers),
        "trials": sum(len(trials_of(study.trials, one.number, "test")) for one in parts),
        "left_out": dict(Counter(one.role for one in own if one.role != "test")),
        **_figures(grid, roles["test"], part.task, margin),
        "agreement": conduct.agreement(grid),
        "kappa_pairs": conduct.pairwise(grid),
        "repeats": conduct.repeated(roles["test"], roles["repeat"]),
        "times": conduct.times(grid),
        "calibration": conduct.calibration(grid),
        "reasons": reasons(study, answers, grid.trials),
    }
    return {**found, "readers": _readers(found, grid, roles["check"])}, grid


def _figures(grid: Grid, rows: list[Reading], task: str, margin: float) -> dict[str, Any]:
    if task in YES_NO:
        return yes_no(grid, task, margin)
    if task == "realism":
        return rated(grid, margin)
    if task == "side-by-side":
        return preferred(grid)
    shares = {one.chance for one in rows if one.chance}
    if len(shares) > 1:
        told = ", ".join(f"{round(1 / share)}" for share in sorted(shares, reverse=True))
        raise CounterscanError(f"one part has trials of {told} pictures, whose chance differs; make a part of each")
    return choosing(grid, task, round(1 / shares.pop()), margin)


def _readers(section: dict[str, Any], grid: Grid, checks: list[Reading]) -> list[dict[str, Any]]:
    """A row a reader: how much is answered, attention checks, agreement with oneself, and the figures."""
    attention, rows = conduct.attention(checks), per_reader(grid, section["task"])
    for row in rows:
        check = attention.get(row["reader"])
        row["complete"] = row["answers"] >= section["trials"]
        row["checks"] = f"{check['right']} of {check['n']}" if check else ""
        row["attentive"] = check["attentive"] if check else None
        row["kappa_repeats"] = section["repeats"].get(row["reader"], {}).get("value")
    return rows


def _head(study: Study, kept: list[Reading], exclude: Sequence[str], margin: float, command: str) -> dict[str, Any]:
    from counterscan import __version__

    readers = sorted({one.reader for one in kept})
    return {
        "command": command or "counterscan study analyse",
        "version": __version__,
        "study": study.id,
        "title": study.title,
        "seed": study.seed,
        "n": sum(one.role == "test" for one in kept),
        "readers": readers,
        "without_answers": sorted(set(study.names) - set(readers) - set(exclude)),
        "excluded": sorted(exclude),
        "inattentive": sorted(name for name, one in _attention(kept).items() if not one["attentive"]),
        "margin": margin,
    }


def _attention(kept: list[Reading]) -> dict[str, dict[str, Any]]:
    return conduct.attention([one for one in kept if one.role == "check"])


def _metrics(sections: list[dict[str, Any]]) -> dict[str, Any]:
    """The main figures in the form of every other file of results: NAME -> value, low, high, n."""
    keys = ("value", "low", "high", "n")
    return {
        f"{section['task']} {index}: {name}": {key: figure.get(key) for key in keys}
        for index, section in enumerate(sections, 1)
        for name, figure in section["figures"].items()
    }
