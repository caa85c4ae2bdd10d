"""Records that counterscan keeps beside its results, read again; what is damaged is refused in one line."""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from counterscan.errors import CounterscanError, ScanError

CURE = "restore it from a copy, or delete it and run the same command again"


def finished_cases(folder: Path) -> list[Path]:
    """The folders of the cases that `explain` has finished in `folder`, by name; those in the making are hidden."""
    return sorted(path.parent for path in folder.glob("cases/[!.]*/explanation.json"))


@contextmanager
def as_kept(path: Path, cure: str = CURE) -> Iterator[None]:
    """Within, what does not fit together is damage to `path`: a ScanError that names it and the cure."""
    try:
        yield
    except CounterscanError:
        raise
    except Exception as error:  # a record can be wrong in as many ways as it can be read
        reason = " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())
        raise ScanError(f"{path} is damaged ({reason[:200]}); {cure}") from error


def read_json(path: Path, cure: str = CURE) -> dict[str, Any]:
    """The object that a JSON file holds. Raises ScanError for anything else."""
    with as_kept(path, cure):
        told = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(told, dict):
            raise TypeError("it holds no object")
    return told


def read_rows(path: Path, *columns: str, cure: str = CURE) -> list[dict[str, str]]:
    """The rows of a CSV file that has these columns, a missing cell as ""; ScanError for anything else."""
    with as_kept(path, cure), path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, restval="")
        rows = [{name: value for name, value in row.items() if name is not None} for row in reader]
        if missing := [name for name in columns if name not in (reader.fieldnames or ())]:
            raise ValueError(f"it has no column {missing[0]}")
    return rows
