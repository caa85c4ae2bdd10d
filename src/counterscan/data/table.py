"""The text of a manifest: a CSV with a header, and what its cells may hold; tables are written as text here, too."""

import csv
import io
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from counterscan.errors import ManifestError, did_you_mean

LARGEST = 256 << 20  # bytes
LONGEST = 200  # letters of a column's name, and of what stands in SHORT ones
SHORT = ("label", "split", "fold", "patient_id")
SHARED = 4096  # different cells that are looked out for while a table is read, so as to keep those alike once
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


class Row(Mapping[str, str]):
    """The text of a row by column. `places` says which cell belongs to which column, and is shared by all rows.

    As a dict of its own, a row of 35 columns would take eight times the memory, and a manifest has many rows.
    """

    __slots__ = ("_cells", "_places")

    def __init__(self, places: Mapping[str, int], cells: tuple[str, ...]):
        self._places = places
        self._cells = cells

    def __getitem__(self, column: str) -> str:
        return self._cells[self._places[column]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        return repr(dict(self))

    def under(self, places: Mapping[str, int]) -> "Row":
        """The same cells under fewer columns, of which every such row has the same `places`."""
        return Row(places, self._cells)


def read_table(table: Path) -> tuple[list[str], list[Row]]:
    """The columns, and the text of each row; empty lines are left out."""
    try:
        if table.stat().st_size > LARGEST:
            raise ManifestError(f"{table} is larger than {LARGEST >> 20} MiB, which no manifest is; name a CSV file")
        with table.open(encoding="utf-8-sig") as file:
            columns, rows = _read(table, file)
    except (UnicodeDecodeError, OSError) as error:
        raise ManifestError(f"{table} cannot be read as text ({error}); save it as CSV in UTF-8") from error
    if not rows:
        raise ManifestError(f"{table} lists no images; add a row for each")
    return columns, rows


def _read(table: Path, file: TextIO) -> tuple[list[str], list[Row]]:
    """Row by row, so that no more than the rows is ever held; cells that are alike are one string."""
    header = file.readline()
    file.seek(0)
    reader = csv.reader(file, delimiter=max(",;\t", key=header.count), strict=True)
    rows: list[Row] = []
    known: dict[str, str] = {}
    try:
        lines = (line for line in reader if any(cell.strip() for cell in line))
        columns = [name.strip() for name in next(lines, [])]
        _check_columns(table, columns)
        places = {name: place for place, name in enumerate(columns)}
        for number, line in enumerate(lines, 2):
            _check_cells(table, number, line, columns)
            cells = [*map(str.strip, line), *[""] * (len(columns) - len(line))]
            share = known.setdefault if len(known) < SHARED else known.get
            rows.append(Row(places, tuple([share(cell, cell) for cell in cells])))
    except csv.Error as error:
        raise ManifestError(f"{table} line {reader.line_num} is not CSV ({error}); check its quotes") from error
    return columns, rows


def text_of(rows: Iterable[Mapping[str, Any]], columns: Sequence[str] = ()) -> str:
    """Rows as CSV under `columns`, by default every column that any of them has; what a row lacks is left empty."""
    text = io.StringIO(newline="")
    rows = rows if columns else list(rows)
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
