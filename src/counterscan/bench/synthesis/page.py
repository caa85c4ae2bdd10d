"""The page of an evaluation: a line of figures, every table, two plots drawn as vectors, and the nearest pairs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from counterscan.bench.page import embedded
from counterscan.bench.synthesis.evaluation import Evaluation
from counterscan.bench.synthesis.tables import headlines
from counterscan.data.files import write_whole
from counterscan.templating import page_style, rendered

WIDTH, HEIGHT, LEFT = 520, 170, 130  # of a plot in CSS pixels, and where the axis of the areas begins
ROW = 30  # pixels of a finding in the plot of areas
COLOURS = {"made": "var(--accent)", "synthetic": "var(--accent)", "real": "var(--mask)"}


def write_page(found: Evaluation, out: Path, picture: Image.Image | None = None) -> Path:
    """Write one self-contained page into `out`; `picture` shows the nearest pairs."""
    copied, taught = found.parts.get("copies"), found.parts.get("training")
    text = rendered(
        "synthesis.html",
        style=page_style(),
        facts=found.facts,
        tiles=headlines(found.parts),
        tables=found.tables,
        failures=found.failures,
        histograms={name: histogram(one) for name, one in copied["histogram"].items()} if copied else {},
        areas={on: areas(lines, on) for on, lines in taught["tested_on"].items()} if taught else {},
        joint=_joint(found.parts["cooccurrence"]) if "cooccurrence" in found.parts else [],
        classes=found.parts["cooccurrence"]["classes"] if "cooccurrence" in found.parts else [],
        picture=embedded(picture) if picture else "",
    )
    return write_whole(out / "index.html", text.encode())


def histogram(one: dict[str, Any]) -> dict[str, Any]:
    """Steps of both distributions and the lines of the percentiles, as a drawing of `WIDTH` x `HEIGHT`."""
    highest = max(max(one["made"]), max(one["real"])) or 1
    step = WIDTH / len(one["made"])
    shapes = {}
    for name in ("real", "made"):
        heights = [HEIGHT - 12 - (HEIGHT - 30) * share / highest for share in one[name]]
        points = [f"{place * step:.1f},{y:.1f} {(place + 1) * step:.1f},{y:.1f}" for place, y in enumerate(heights)]
        shapes[name] = " ".join([f"0,{HEIGHT - 12}", *points, f"{WIDTH},{HEIGHT - 12}"])
    lines = [{"x": WIDTH * limit / one["top"], "text": level} for level, limit in one["limits"].items()]
    return {"shapes": shapes, "colours": COLOURS, "lines": lines, "top": f"{one['top']:.3g}", "size": (WIDTH, HEIGHT)}


def areas(lines: list[dict[str, Any]], on: str) -> dict[str, Any]:
    """A row a finding, with the area of either classifier as a dot on its interval, from 0.5 or lower up to 1."""
    known = [line[f"from_{kind}"]["low"] for line in lines for kind in ("synthetic", "real")]
    start = min([0.5, *(value for value in known if value is not None)])

    def place(value: float) -> float:
        return LEFT + (WIDTH - LEFT - 10) * (value - start) / (1 - start)

    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines):
        dots = [
            _dot(line[f"from_{kind}"], kind, number * ROW + 11 + 9 * offset, place)
            for offset, kind in enumerate(("synthetic", "real"))
            if line[f"from_{kind}"]["value"] is not None
        ]
        rows.append({"name": line["name"], "y": number * ROW + 20, "dots": dots})
    ticks = [{"x": place(value), "text": f"{value:.1f}"} for value in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)]
    return {"rows": rows, "ticks": ticks, "size": (WIDTH, len(lines) * ROW + 24), "on": on}


def _dot(one: dict[str, float], kind: str, y: int, place: Callable[[float], float]) -> dict[str, Any]:
    return {"y": y, "colour": COLOURS[kind], **{key: place(one[key]) for key in ("value", "low", "high")}}


def _joint(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The joint counts of either archive as rows of cells, each with its share of the archive for the shade."""
    tables = []
    for name in ("synthetic", "real"):
        n = max(found[name]["n"], 1)
        rows = [[{"count": count, "share": count / n} for count in row] for row in found[name]["joint"]]
        tables.append({"name": name, "n": n, "rows": list(zip(found["classes"], rows, strict=True))})
    return tables
