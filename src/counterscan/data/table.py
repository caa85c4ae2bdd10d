"""The text of a manifest: a CSV with a header, and what its cells may hold; tables are written as text here, too."""

import csv
import io
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from counterscan.errors import ManifestError, did_you_mean

LARGEST = 256 << 20  # bytes
LONGEST = 200  # letters of a column's name, and of what stands in SHORT ones
SHORT = ("label", "split", "fold", "patient_id")
Box = tuple[str, float, float, float, float]  # finding, x, y, width, height


def table_of(path: Path) -> Path:
    """The CSV that `path` is, or that lies in it."""
    if path.is_dir():
        if not (path / "labels.csv").is_file():
            raise ManifestError(f"{path} holds no labels.csv; write one with a column path, and label or one per class")
        return path / "labels.csv"
    if not path.is_file():
        what = "is a pipe or a device, not a file" if path.exists() else "does not exist"
        raise ManifestError(f"{path} {what}; name a CSV file, or a folder that holds labels.csv")
    return path


def read_table(table: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The columns, and a dict of text for each row; empty lines are left out."""
    try:
        if table.stat().st_size > LARGEST:
            raise ManifestError(f"{table} is larger than {LARGEST >> 20} MiB, which no manifest is; name a CSV file")
        text = table.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise ManifestError(f"{table} cannot be read as text ({error}); save it as CSV in UTF-8") from error
    header = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count), strict=True)
    try:
        lines = [line for line in reader if any(cell.strip() for cell in line)]
    except csv.Error as error:
        raise ManifestError(f"{table} line {reader.line_num} is not CSV ({error}); check its quotes") from error
    columns = [name.strip() for name in lines[0]] if lines else []
    _check_columns(table, columns)
    if len(lines) < 2:
        raise ManifestError(f"{table} lists no images; add a row for each")
    for number, line in enumerate(lines[1:], 2):
        _check_cells(table, number, line, columns)
    return columns, [
        dict.fromkeys(columns, "") | dict(zip(columns, map(str.strip, line), strict=False)) for line in lines[1:]
    ]


def text_of(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> str:
    """Rows as CSV under `columns`, by default every column that any of them has; what a row lacks is left empty."""
    text = io.StringIO(newline="")
    names = columns or list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _check_cells(table: Path, number: int, line: list[str], columns: list[str]) -> None:
    if len(line) > len(columns):
        raise ManifestError(f"{table} row {number} has {len(line)} cells under {len(columns)} columns; quote commas")
    for name, cell in zip(columns, line, strict=False):
        if name in SHORT and len(cell) > LONGEST:
            raise ManifestError(f"{table} row {number} has {len(cell):,} letters under {name!r}; shorten it")


def _check_columns(table: Path, columns: list[str]) -> None:
    longest = max(map(len, columns), default=0)
    if longest > LONGEST:
        raise ManifestError(f"{table} has a column whose name has {longest:,} letters; is the first line the header?")
    if "path" not in columns:
        near = did_you_mean("path", columns) if columns else ""
        raise ManifestError(f"{table} has no column 'path'; name the column of image files so{near}")
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise ManifestError(f"{table} has two columns {twice[0]!r}; rename or delete one")


def inside(table: Path, number: int, column: str, text: str) -> Path | None:
    """The absolute path of `text`, which must stay in the manifest's folder (links inside it may lead elsewhere)."""
    if not text:
        return None
    relative = os.path.normpath(text.replace("\\", "/"))
    if os.path.isabs(relative) or re.match(r"[A-Za-z]:", relative) or relative.split("/")[0] == "..":
        raise ManifestError(
            f"{table} row {number} has a {column} outside its folder ({text[:200]}); move the file inside, "
            f"and write its path from the folder of the CSV"
        )
    return Path(os.path.abspath(table.parent / relative))


def fold_of(table: Path, number: int, text: str) -> int | None:
    """A fold's number, or None."""
    try:
        return int(float(text)) if text else None
    except (ValueError, OverflowError):  # infinity is a number, but no whole one
        raise ManifestError(f"{table} row {number} has fold {text!r}; write a whole number or nothing") from None


def boxes_of(table: Path, number: int, text: str) -> tuple[Box, ...]:
    """`finding:x,y,width,height`, several joined by semicolons."""
    boxes = []
    for part in filter(None, text.split(";")):
        finding, _, numbers = part.rpartition(":")
        try:
            x, y, width, height = (float(one) for one in numbers.split(","))
            if not all(map(math.isfinite, (x, y, width, height))):
                raise ValueError("no place")
        except ValueError:
            raise ManifestError(f"{table} row {number} has box {part[:80]!r}; write finding:x,y,width,height") from None
        boxes.append((finding.strip(), x, y, width, height))
    return tuple(boxes)
