"""From a public data set's own folder to a manifest: `labels.csv` and `dataset.toml`, in a folder of their own.

A manifest's paths stay inside its folder. So where images do not lie in `out`, it gets a link called `data` to the data
set's folder, which stays as it is; links are what a manifest may be led elsewhere by.
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from counterscan.data.dataset import DatasetFile, read_dataset_file, write_dataset_file
from counterscan.data.draws import drawn_split
from counterscan.data.files import write_whole
from counterscan.data.layouts.base import LAYOUTS, UNLABELLED, Layout, Row
from counterscan.data.names import stem_of
from counterscan.data.table import text_of
from counterscan.errors import ManifestError

LINK = "data"
MISSING = "missing.csv"
FIRST = ("path", "label")  # then the classes, and these:
KNOWN = ("split", "patient_id", "mask_path", "box")
PARTS = ("test", "validation", "train", UNLABELLED)  # a patient in several stays in the first


@dataclass(frozen=True)
class Imported:
    """What became of a data set. `missing` are images that its tables list and its folder lacks."""

    table: Path
    images: int
    patients: int
    missing: tuple[str, ...]
    unlabelled: int
    withdrawn: int

    def __str__(self) -> str:
        lines = [f"{self.images} images of {self.patients} patients: {self.table}"]
        if self.unlabelled:
            lines.append(
                f"{self.unlabelled} have no label, because no table of the data set has one (split unlabelled)"
            )
        if self.withdrawn:
            lines.append(
                f"{self.withdrawn} are in no split, because their patients are in another one, which keeps them"
            )
        if self.missing:
            lines.append(f"{len(self.missing)} are listed but not there, and left out: {self.table.parent / MISSING}")
        return "\n".join(lines)


def import_layout(name: str, folder: str | Path, out: str | Path, classes: Sequence[str] = ()) -> Imported:
    """Write the manifest of the data set in `folder`, which has the layout `name`, into `out`.

    `labels.csv` comes last, so that a folder without it is not whole; the same call writes the same again. `classes`
    are for MedMNIST, whose files do not name them. Raises UnknownName, and ManifestError for a folder of another
    layout, and where `out` holds something else.
    """
    chosen: type[Layout] = LAYOUTS[name]
    folder, out = Path(os.path.abspath(folder)), Path(os.path.abspath(out))
    if classes and not chosen.names_classes:
        raise ManifestError(f"the classes of {chosen.title} are known; leave out --classes")
    recognise(chosen, folder)
    layout = chosen(folder, out, tuple(classes))
    about = layout.about().model_copy(update={"source": f"counterscan data import {name} {folder}"})
    _claim(out, about)
    table = Table(folder, out)
    for row in layout.rows():
        table.add(row)
    return table.write(about)


def recognise(chosen: type[Layout], folder: Path) -> None:
    """Raise ManifestError, with what `folder` lacks, where it is not laid out as `chosen` is."""
    if not folder.exists():
        raise ManifestError(f"{folder} does not exist; name the folder of the data set")
    absent = chosen.absent(folder)
    if not absent:
        return
    needs, lacks = (", ".join(one.replace("|", " or ") for one in some) for some in (chosen.needs, absent))
    raise ManifestError(
        f"{folder} is not laid out as {chosen.title}, which has {needs}; missing: {lacks}{_hint(chosen, folder)}"
    )


def _hint(chosen: type[Layout], folder: Path) -> str:
    below = [one for one in sorted(folder.iterdir()) if one.is_dir()] if folder.is_dir() else []
    inner = next((one for one in below if not chosen.absent(one)), None)
    if inner is not None:
        return f"; name {inner}"
    other = next((name for name in LAYOUTS if not LAYOUTS[name].absent(folder)), "")
    return f"; did you mean {other!r}?" if other else ""


def _claim(out: Path, about: DatasetFile) -> None:
    """Note which data set the folder is for, or refuse it where it is for something else."""
    note = out / "dataset.toml"
    if note.is_file() and read_dataset_file(note).source == about.source:
        return
    if note.exists() or (out / "labels.csv").exists():
        raise ManifestError(f"{out} holds the manifest of something else; choose another folder for --out")
    write_dataset_file(note, about)


@dataclass
class Table:
    """The rows of a manifest as they come: those whose image is not there are kept apart."""

    folder: Path
    out: Path
    rows: dict[str, Row] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Take a row, with its paths from the folder of the manifest; the same row twice is one."""
        path = Path(os.path.normpath(row["path"]))
        inside = path.is_relative_to(self.folder) or path.is_relative_to(self.out)
        if not inside or not os.path.isfile(path):  # a table may name anything
            self.missing.append(self._placed(path) if inside else str(path))
            return
        row = row | {key: self._placed(value) for key, value in row.items() if isinstance(value, Path)}
        if self.rows.setdefault(row["path"], row) != row:
            raise ManifestError(f"the data set lists {row['path']} twice, and differently; delete one of the lines")

    def write(self, about: DatasetFile) -> Imported:
        """Write what the folder holds, the table last."""
        rows = list(self.rows.values())
        if not rows:
            raise ManifestError(
                f"none of the {len(self.missing)} images that are listed lies in {self.folder}; unpack the images there"
            )
        unlabelled = sum(row.get("split") == UNLABELLED for row in rows)
        withdrawn = settle_splits(rows)
        classes = tuple(name for name in about.classes if _tells(rows, "label") or _tells(rows, name))
        write_dataset_file(self.out / "dataset.toml", about.model_copy(update={"classes": classes}))
        (self.out / MISSING).unlink(missing_ok=True)
        if self.missing:
            write_whole(self.out / MISSING, text_of([{"path": path} for path in self.missing]).encode())
        text = text_of(rows, _columns(rows, about.classes))
        table = write_whole(self.out / "labels.csv", text.encode())
        patients = len({row.get("patient_id") or row["path"] for row in rows})
        return Imported(table, len(rows), patients, tuple(self.missing), unlabelled, withdrawn)

    def _placed(self, path: Path) -> str:
        """The path from the manifest's folder, by way of the link where it lies elsewhere."""
        if path.is_relative_to(self.out):
            return path.relative_to(self.out).as_posix()
        return f"{self._link}/{path.relative_to(self.folder).as_posix()}"

    @cached_property
    def _link(self) -> str:
        """The name of the link to the data set's folder, which is made when a path first needs it."""
        link = self.out / LINK
        try:
            if not (link.is_symlink() and Path(os.readlink(link)) == self.folder):
                link.symlink_to(self.folder, target_is_directory=True)
        except OSError as error:
            raise ManifestError(
                f"{link} cannot be made a link to {self.folder} ({error.strerror}); give --out {self.folder}, "
                "or a folder above it, and no link is needed"
            ) from error
        return LINK


def settle_splits(rows: Sequence[Row]) -> int:
    """Put every patient into one split, in place; answer how many images lost theirs.

    The data set's own parts stay. A patient in several of them keeps the place in the test part, else in the validation
    part, and the patient's other images get none: the published test part stays as it is, and no training sees it.
    Parts that the data set does not have are drawn by patient, as training would draw them: 15 % of the training
    patients each.
    """
    given = {row.get("split") or "" for row in rows}
    whole = not given & {"train", "validation", "test"}
    lacking = {"validation", "test"} - given
    places: dict[str, str] = {}
    for row in rows:
        row["split"] = _part(row, whole, lacking)
        if row["split"] and row.get("patient_id"):
            before = places.get(row["patient_id"], row["split"])
            places[row["patient_id"]] = min(before, row["split"], key=PARTS.index)
    return sum(_withdraw(row, places) for row in rows)


def _part(row: Row, whole: bool, lacking: set[str]) -> str:
    split = row.get("split") or ""
    if split != "train" and (split or not whole):
        return split
    drawn = drawn_split(row.get("patient_id") or stem_of(row["path"]))
    return drawn if drawn in lacking else "train"


def _withdraw(row: Row, places: dict[str, str]) -> bool:
    if not row["split"] or places.get(row.get("patient_id", ""), row["split"]) == row["split"]:
        return False
    row["split"] = ""
    return True


def _tells(rows: Iterable[Row], column: str) -> bool:
    return any(row.get(column) not in (None, "") for row in rows)


def _columns(rows: Sequence[Row], classes: Sequence[str]) -> list[str]:
    """The columns that say anything, in the order in which a manifest is read."""
    counts = Counter(key for row in rows for key in row)
    wanted = dict.fromkeys([*FIRST, *classes, *KNOWN, *counts])
    return [name for name in wanted if name in counts and _tells(rows, name)]
