"""The page of all methods: which is best at what, plots, and the table to sort, with the pictures behind each line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from counterscan.bench.every.lines import ATTRIBUTES, DIRECTIONS, DRAWS, Line
from counterscan.bench.every.places import REMOVED
from counterscan.bench.every.plots import scatter
from counterscan.bench.every.table import COLUMNS, Table, answer, best, best_of, black_box, shown
from counterscan.bench.page import figure_cell
from counterscan.bench.table import why
from counterscan.data.files import write_whole
from counterscan.templating import page_style, rendered, template


def write_page(table: Table, out: Path) -> Path:
    """Write one page into `out`; the sheets and the cases that it links to lie beside it."""
    known = shown(table.lines)
    text = rendered(
        "bench_all.html",
        style=page_style("page.css", "bench.css"),
        script=template("bench.js"),
        facts=table.facts,
        places=table.places,
        directions=DIRECTIONS,
        sorts=(DRAWS, ATTRIBUTES),
        questions=[(one.text, [answer(one, lines) for lines in found]) for one, found in best(table)],
        plots=_plots(table),
        heads=known,
        better={name: way for name, (_, way) in COLUMNS.items()},
        lines=[_line(line, table, list(known), out) for line in table.lines],
        measured=[line for line in table.lines if line.metrics],
        failed=sum(not line.metrics for line in table.lines),
    )
    return write_whole(out / "index.html", text.encode())


def _plots(table: Table) -> list[dict[str, Any]]:
    """Realism against validity, then cost against quality, a drawing for each kind of images."""
    rows = []
    for title, note, across, up, directions, log in (
        (
            "Realism against validity",
            "How often the judge is flipped, over the kernel distance to real images (less is more real). "
            "Filled: disease removed; open: disease added.",
            *("kernel_distance", "judge_flip_rate", DIRECTIONS, False),
        ),
        (
            "Cost against quality",
            "How well the lesion is found (AUPRC), over the processor seconds of an image.",
            *("cpu_seconds", "auprc", (REMOVED,), True),
        ),
    ):
        drawn = [
            scatter(data, [one for part in directions for one in table.part(data, part)], across, up, log)
            for data in table.places
        ]
        axes = (COLUMNS[across][0], COLUMNS[up][0])
        rows.append({"title": title, "note": note, "plots": [one for one in drawn if one], "axes": axes})
    return [row for row in rows if row["plots"]]


def _line(line: Line, table: Table, names: Sequence[str], out: Path) -> dict[str, Any]:
    """A line as cells; the best of each column among methods asked the same is marked, where there are several."""
    if not line.metrics:
        return {"line": line, "why": why(line).replace("absent:", "failed:")}
    peers = [one for one in table.part(line.data, line.direction) if one.metrics]
    cells = []
    for name in names:
        one = figure_cell(line.metrics.get(name))
        one["best"] = len(peers) > 1 and one["value"] is not None and one["value"] == best_of(peers, name)
        if name == "black_box_flip_rate" and one["value"] is None:
            one["text"] = black_box(line)
        if name == "sanity_correlation":
            one["word"] = line.result.get("sanity", "")
        cells.append(one)
    links = {
        "pictures": f"sheets/{line.file}.webp",
        "cases": f"{line.data}/{line.direction}/{line.method}/explained/index.html",
    }
    known = {word: place for word, place in links.items() if (out / place).exists()}
    return {"line": line, "cells": cells, "links": known}
