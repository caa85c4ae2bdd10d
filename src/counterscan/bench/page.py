"""A suite's page: the table to sort, figures by the lesions' size, and the same images as every method masks them."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from counterscan import pictures
from counterscan.bench.rows import Row
from counterscan.bench.table import BY_SIZE, COLUMNS, Table, cell, number, why
from counterscan.core import Explanation
from counterscan.data.files import write_whole
from counterscan.data.manifest import Manifest
from counterscan.metrics.masks import MaskRule, mask_of
from counterscan.metrics.truth import read_truth
from counterscan.templating import page_style, rendered, template
from counterscan.volumes.content import delivered

SHOWN, SIDE = 6, 160  # cases in the picture, and pixels of each


def write_page(table: Table, out: Path, picture: Image.Image | None = None) -> Path:
    """Write one self-contained page into `out`."""
    measured = [row for row in table.rows if row.metrics]
    text = rendered(
        "bench.html",
        style=page_style("page.css", "bench.css"),
        script=template("bench.js"),
        facts=table.facts,
        main=_cells(table.rows, {name: label for name, (label, _) in COLUMNS.items()}),
        better=dict(COLUMNS.values()),
        sizes=_cells(measured, BY_SIZE),
        picture=embedded(picture) if picture else "",
        rules=[(row, part, _rule(part)) for row in measured for part in row.result["parts"]],
    )
    return write_whole(out / "index.html", text.encode())


def sheet(manifest: Manifest, folders: dict[str, Path]) -> Image.Image | None:
    """Some of the cases with a lesion, one a line: the image with the lesion tinted, then each method's answer.

    A counterfactual is shown itself, an attribution as its map, both with the mask outlined. None without a lesion.
    """
    lines: list[list[Image.Image]] = []
    for case in manifest.cases:
        places = [folder / "cases" / case.name for folder in folders.values()]
        if len(lines) == SHOWN or not all((place / "explanation.json").exists() for place in places):
            continue
        first = Explanation.load(places[0])
        truth = read_truth(manifest, case, first).mask
        if truth is not None and truth.any():
            lines.append([_tinted(first, truth), *(_answer(Explanation.load(place)) for place in places)])
    return pictures.contact_sheet(lines, ["image", *folders], SIDE) if lines else None


def _tinted(explanation: Explanation, truth: torch.Tensor) -> Image.Image:
    picture = _grown(pictures.grey(explanation.images[0]))
    picture.alpha_composite(pictures.tint(truth[0], picture.size, pictures.TRUE))
    return picture.convert("RGB")


def _answer(explanation: Explanation) -> Image.Image:
    shown = delivered(explanation)
    if shown.counterfactual is None:
        picture = _grown(pictures.heat_picture(shown.heatmap[0], shown.images[0]))
    else:
        picture = _grown(pictures.grey(shown.counterfactual[0]))
    mask = mask_of(explanation)
    if mask.any():
        picture.alpha_composite(pictures.outline(mask[0], picture.size, pictures.PREDICTED))
    return picture.convert("RGB")


def _grown(picture: Image.Image) -> Image.Image:
    return picture.convert("RGBA").resize((2 * SIDE, 2 * SIDE), Image.Resampling.BICUBIC)


def _cells(rows: Sequence[Row], columns: dict[str, str]) -> dict[str, Any]:
    """Heads and lines of a table, with the value that a cell is sorted by; without columns that nobody has."""
    known = {name: label for name, label in columns.items() if any(name in row.metrics for row in rows)}
    lines = []
    for row in rows:
        cells = [figure_cell(row.metrics.get(name)) for name in known]
        lines.append({"method": row.method, "rule": row.rule, "why": "" if row.metrics else why(row), "cells": cells})
    return {"heads": list(known.values()), "lines": lines}


def figure_cell(figure: Mapping[str, Any] | None) -> dict[str, Any]:
    """A figure as a cell: the value to sort by, its text, and its interval."""
    value = figure["value"] if figure else None
    return {"value": value, "text": number(value), "interval": cell(figure).partition(" ")[2]}


def _rule(part: dict[str, Any]) -> str:
    return MaskRule.from_dict(part["mask_rule"]).describe()


def embedded(picture: Image.Image) -> str:
    """The picture as an address that holds it."""
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=90)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
