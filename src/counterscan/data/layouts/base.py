"""What a layout of a public data set is: the files by which it is known, and the rows that they become."""

import csv
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, ClassVar

from counterscan.data.dataset import DatasetFile
from counterscan.data.files import format_of_name
from counterscan.errors import ManifestError
from counterscan.registry import Registry

LAYOUTS: Registry[type["Layout"]] = Registry("layout", "counterscan.data.layouts")
Row = dict[str, Any]  # a manifest's columns; `path` and `mask_path` are absolute paths, None is blank
OWN_TERMS = "see the data set's own terms"
UNLABELLED = "unlabelled"  # the split of images that no table of the data set has an answer for
GRADES = ("no_dr", "mild", "moderate", "severe", "proliferative")  # of diabetic retinopathy, 0 to 4


@dataclass(frozen=True)
class Layout(ABC):
    """A data set that lies in `folder` (MedMNIST: a file); what has to be written for it goes to `out`.

    `needs` are patterns of files that a folder of this layout has, each with its alternatives between bars.
    """

    folder: Path
    out: Path
    classes: tuple[str, ...] = ()

    title: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    names_classes: ClassVar[bool] = False  # does it take `classes`?

    @abstractmethod
    def about(self) -> DatasetFile:
        """What is true of all images; a class of which no row knows anything is dropped later."""

    @abstractmethod
    def rows(self) -> Iterator[Row]:
        """A row for each image, those that a table lists though they are not there too."""

    @classmethod
    def absent(cls, folder: Path) -> list[str]:
        """The patterns of which `folder` has nothing."""
        return [need for need in cls.needs if not any(_there(folder, pattern) for pattern in need.split("|"))]


def _there(folder: Path, pattern: str) -> bool:
    if folder.is_file():
        return fnmatch(folder.name, pattern)
    return next((one for one in folder.glob(pattern) if not one.name.startswith(".")), None) is not None


def listed(table: Path, *needed: str) -> list[dict[str, str]]:
    """The rows of a data set's own CSV; ManifestError where it lacks a column that is `needed`."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            reader = csv.DictReader(file, delimiter=max(",;\t", key=header.count), restval="")
            rows = [{key: (value or "").strip() for key, value in row.items() if key} for row in reader]
            lacking = [name for name in needed if name not in (reader.fieldnames or ())]
    except (UnicodeDecodeError, OSError, csv.Error) as error:
        raise ManifestError(f"{table} cannot be read as CSV ({error}); copy it again from where it came") from error
    if lacking:
        raise ManifestError(f"{table} has no column {lacking[0]!r}; is it the file that came with the data set?")
    return rows


def pictures(folder: Path, *patterns: str) -> dict[str, Path]:
    """The pictures that any of `patterns` finds, by the names without their endings."""
    found = (path for pattern in patterns for path in sorted(folder.glob(pattern)))
    return {path.stem: path for path in found if format_of_name(path) and not path.name.startswith(".")}


def one_hot(classes: Iterable[str], present: Iterable[str]) -> Row:
    """1 for the classes that are `present`, 0 for the others."""
    shown = set(present)
    return {name: int(name in shown) for name in classes}


def word(name: str) -> str:
    """A class's name as the command takes it: `Pleural Effusion` is `pleural_effusion`."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def sex(text: str) -> str:
    """F, M or nothing."""
    return text[:1].upper() if text[:1].upper() in ("F", "M") else ""


def grade_of(level: str, table: Path) -> str:
    """The class of a grade of diabetic retinopathy, which `table` gives as 0 to 4; nothing where it gives none."""
    if level not in ("", "0", "1", "2", "3", "4"):
        raise ManifestError(f"{table} has the grade {level!r}; those of the data set are 0 to 4")
    return GRADES[int(level)] if level else ""
