"""Manifests: which images a dataset holds, what is known of each, and which belong together."""

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Self

from counterscan.data.dataset import DatasetFile, read_dataset_file
from counterscan.data.files import KNOWN, format_of_content, format_of_name
from counterscan.data.names import safe_names
from counterscan.data.scans import Scan, read_scan
from counterscan.data.table import Box, Row, boxes_of, fold_of, inside, read_table, table_of
from counterscan.data.window import Window
from counterscan.data.zipped import is_zip, unzipped
from counterscan.errors import ManifestError, did_you_mean

_RESERVED = "path label split fold patient_id mask_path twin_path box source licence report seed index slice age sex"
RESERVED = frozenset(_RESERVED.split())
Labels = dict[str, int | None]  # 1 shown, 0 not, None unknown
VALUES = {"0": 0, "0.0": 0, "1": 1, "1.0": 1, "": None}
NORMAL = re.compile(r"(normal|healthy|negative|none|no[_ -].*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Case:
    """One row: where the image lies, what it shows (1), lacks (0) or may show (None), and its facts as text.

    A `path` that is a folder is one DICOM series.
    """

    path: Path
    name: str
    labels: Labels = field(default_factory=dict)
    split: str = ""
    fold: int | None = None
    patient: str = ""
    mask_path: Path | None = None
    twin_path: Path | None = None
    box: tuple[Box, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    window: Window | None = None
    slope: float = 1.0
    intercept: float = 0.0
    files: tuple[Path, ...] = ()  # the slices of a series; `path` is their folder, or the first of them

    def read(self) -> Scan:
        """The scan, in the units that the manifest declares."""
        return read_scan(self.files or self.path).declared(self.window, self.slope, self.intercept)

    def value(self, column: str) -> str | None:
        """What the row says under `column`, as text; None where there is no such column."""
        if column in self.labels:
            known = self.labels[column]
            return "" if known is None else str(known)
        own = {"split": self.split, "fold": "" if self.fold is None else str(self.fold), "patient_id": self.patient}
        return own.get(column, self.facts.get(column))


@dataclass(frozen=True)
class Manifest:
    """The cases of a dataset. `exclusive`: each shows one class (a `label` column); else each class is there or not.

    `normal` is the class that means healthy, where there is one; `confounders` are classes that are no disease.
    `mirror` says whether a mirrored image could be another of them.
    """

    root: Path
    classes: tuple[str, ...]
    cases: tuple[Case, ...] = field(repr=False)
    window: Window | None = None
    modality: str = ""
    licence: str = ""
    normal: str | None = None
    exclusive: bool = False
    confounders: tuple[str, ...] = ()
    mirror: bool = True

    def __len__(self) -> int:
        return len(self.cases)

    @property
    def patients(self) -> tuple[str, ...]:
        """The patient of each case; a case without one is its own."""
        return tuple(case.patient or case.name for case in self.cases)

    @cached_property
    def benign(self) -> frozenset[str | None]:
        """The classes that are no disease."""
        return frozenset((self.normal, *self.confounders))

    def diseased(self, case: Case) -> bool:
        """Does `case` show any class that is a disease?"""
        return any(value == 1 and name not in self.benign for name, value in case.labels.items())

    def leaks(self, column: str) -> tuple[str, ...]:
        """Patients who are in more than one `"split"` or `"fold"`, a sentence each."""
        first: dict[str, str] = {}
        places: dict[str, set[str]] = {}
        for case in self.cases:
            place = case.value(column)
            if case.patient and place and first.setdefault(case.patient, place) != place:
                places.setdefault(case.patient, {first[case.patient]}).add(place)
        found = {patient: sorted(seen) for patient, seen in sorted(places.items())}
        return tuple(f"patient {patient} is in {column}s {' and '.join(seen)}" for patient, seen in found.items())

    def select(self, split: str | None = None, folds: Iterable[int] | None = None, where: str | None = None) -> Self:
        """The cases of a split, of some folds, and `where` columns have values: `"matched=1,view=PA"`."""
        cases = self.cases
        if split is not None:
            cases = tuple(case for case in cases if case.split == split)
            self._some(cases, f"no image is in split {split!r}", (case.split for case in self.cases))
        if folds is not None:
            wanted = set(folds)
            cases = tuple(case for case in cases if case.fold in wanted)
            self._some(cases, f"no image is in folds {sorted(wanted)}", (case.fold for case in self.cases))
        for column, value in _conditions(where):
            seen = [case.value(column) for case in self.cases]
            if all(one is None for one in seen):
                raise ManifestError(f"{self.root} has no column {column!r}{did_you_mean(column, self._columns())}")
            cases = tuple(case for case in cases if case.value(column) == value)
            self._some(cases, f"no image is left with {column}={value}", seen)
        return replace(self, cases=cases)

    def _some(self, cases: Sequence[Case], complaint: str, seen: Iterable[object]) -> None:
        if not cases:
            values = sorted({str(value) for value in seen if value not in (None, "")})[:10]
            raise ManifestError(f"{complaint} of {self.root}; it has {', '.join(values) or 'no such column'}")

    def _columns(self) -> set[str]:
        return {"split", "fold", "patient_id", *self.classes, *(key for case in self.cases for key in case.facts)}


def _conditions(where: str | None) -> list[tuple[str, str]]:
    parts = [part.partition("=") for part in (where or "").split(",") if part.strip()]
    for column, equals, _ in parts:
        if not equals:
            raise ManifestError(f"cannot read {column!r} as column=value, for example view=PA")
    return [(column.strip(), value.strip()) for column, _, value in parts]


def read_manifest(path: str | Path, dataset: str | Path | None = None) -> Manifest:
    """Read a CSV, or a folder that holds `labels.csv`, and the `dataset.toml` beside it (or the one given).

    Raises ManifestError, which says what is wrong where and what to do. Images are not opened; `check_manifest` does.
    """
    table = table_of(Path(path))
    told = read_dataset_file(Path(dataset) if dataset else table.parent / "dataset.toml", needed=dataset is not None)
    columns, rows = read_table(table)
    label = _label_column(table, columns, told)
    classes = _exclusive_classes(table, rows, told) if label else _class_columns(table, columns, rows, told)
    normal = next((name for name in classes if NORMAL.fullmatch(name)), None)
    names = safe_names([row["path"] for row in rows])
    taken = {*_own(columns), *((label,) if label else classes)}
    free = {column: place for place, column in enumerate(columns) if column not in taken}
    alike: dict[tuple[int | None, ...], Labels] = {}
    cases = tuple(
        _case(table, number, row, name, _once(alike, _labels(table, number, row, classes, label)), free, told)
        for number, (row, name) in enumerate(zip(rows, names, strict=True), 2)
    )
    _unique(table, cases)
    manifest = Manifest(
        Path(os.path.abspath(table.parent)),
        classes,
        cases,
        told.shown,
        told.modality,
        told.licence,
        normal,
        label is not None,
        told.confounders,
        told.mirror,
    )
    leaks = manifest.leaks("split")
    if leaks:
        warnings.warn(f"{table}: {leaks[0]}, and {len(leaks) - 1} more; run counterscan data check", stacklevel=2)
    return manifest


def _label_column(table: Path, columns: Sequence[str], told: DatasetFile) -> str | None:
    """The column that says which one class each image shows, if there is one."""
    if told.label not in columns and "label" in told.model_fields_set:
        cure = did_you_mean(told.label, columns)
        raise ManifestError(f"{table} has no column {told.label!r}, which dataset.toml names as label{cure}")
    return told.label if told.label in columns else None


def _own(columns: Sequence[str]) -> set[str]:
    return {"path", "split", "fold", "patient_id", "mask_path", "twin_path", "box"} & set(columns)


def _exclusive_classes(table: Path, rows: Sequence[Mapping[str, str]], told: DatasetFile) -> tuple[str, ...]:
    seen = sorted({row[told.label] for row in rows} - {""})
    for name in seen if told.classes else ():
        if name not in told.classes:
            number = next(number for number, row in enumerate(rows, 2) if row[told.label] == name)
            cure = did_you_mean(name, told.classes)
            raise ManifestError(f"{table} row {number} has label {name!r}, which dataset.toml does not list{cure}")
    if not seen:
        raise ManifestError(f"{table} has a column {told.label!r} with nothing in it; fill it, or delete it")
    return told.classes or tuple(sorted(seen, key=lambda name: (not NORMAL.fullmatch(name), name)))


def _class_columns(
    table: Path, columns: list[str], rows: Sequence[Mapping[str, str]], told: DatasetFile
) -> tuple[str, ...]:
    for name in told.classes:
        if name not in columns:
            raise ManifestError(
                f"{table} has no column {name!r}, which dataset.toml lists{did_you_mean(name, columns)}"
            )
    if told.classes:
        return told.classes
    free = [name for name in columns if name not in RESERVED]
    return tuple(name for name in free if _is_class({row[name] for row in rows}))


def _is_class(values: set[str]) -> bool:
    return values <= VALUES.keys() and values != {""}


def _labels(table: Path, number: int, row: Mapping[str, str], classes: Sequence[str], label: str | None) -> Labels:
    if label:
        return {name: int(row[label] == name) if row[label] else None for name in classes}
    for name in classes:
        if row[name] not in VALUES:
            raise ManifestError(
                f"{table} row {number} has {row[name]!r} under {name!r}; "
                "write 1 (present), 0 (absent) or nothing (unknown)"
            )
    return {name: VALUES[row[name]] for name in classes}


def _once(alike: dict[tuple[int | None, ...], Labels], labels: Labels) -> Labels:
    """The dict of the first row that had these labels: rows that are alike have one between them."""
    return alike.setdefault(tuple(labels.values()), labels)


def _case(
    table: Path,
    number: int,
    row: Row,
    name: str,
    labels: Labels,
    free: Mapping[str, int],
    told: DatasetFile,
) -> Case:
    path = inside(table, number, "path", row["path"])
    if path is None:
        raise ManifestError(f"{table} row {number} has no path; fill it, or delete the row")
    return Case(
        path=path,
        name=name,
        labels=labels,
        split=row.get("split", ""),
        fold=fold_of(table, number, row.get("fold", "")),
        patient=row.get("patient_id", ""),
        mask_path=inside(table, number, "mask_path", row.get("mask_path", "")),
        twin_path=inside(table, number, "twin_path", row.get("twin_path", "")),
        box=boxes_of(table, number, row.get("box", "")),
        facts=row.under(free),
        window=told.shown,
        slope=told.slope,
        intercept=told.intercept,
    )


def _unique(table: Path, cases: Sequence[Case]) -> None:
    rows: dict[Path, int] = {}
    for number, case in enumerate(cases, 2):
        if case.path in rows:
            raise ManifestError(
                f"{table} lists {case.path.name} twice, in rows {rows[case.path]} and {number}; delete one"
            )
        rows[case.path] = number


def scan_folder(path: str | Path | Sequence[str | Path]) -> Manifest:
    """A manifest of plain images: a file, a list of files, or all images in a folder and the folders in it.

    DICOM slices of one series that make a volume are one case.
    """
    if not isinstance(path, str | Path):
        files = [Path(one) for one in path]
        root = Path(os.path.commonpath([one.absolute().parent for one in files])) if files else Path()
    elif Path(path).is_dir():
        root = Path(path)
        files = [file for file in sorted(root.rglob("*")) if _looks_like_image(file, root)]
    else:
        files, root = [Path(path)], Path(path).parent
    files, root = [Path(os.path.abspath(file)) for file in files], Path(os.path.abspath(root))
    groups = [(file,) for file in files] if len(files) == 1 else _groups(files)
    if not groups:
        raise ManifestError(f"{root} holds no images; put {KNOWN} files there, or name a manifest")
    paths = _places(groups)
    root = root.parent if root in paths else root
    names = safe_names([os.path.relpath(one, root) for one in paths])
    cases = (
        Case(path, name, files=group if len(group) > 1 else ())
        for path, name, group in zip(paths, names, groups, strict=True)
    )
    return Manifest(root, (), tuple(cases))


def _groups(files: Sequence[Path]) -> list[tuple[Path, ...]]:
    """The files of each case: those of a DICOM volume together, every other one by itself."""
    from counterscan.data.dicom_series import grouped

    slices = [file for file in files if file.is_file() and format_of_content(file) == "dicom"]
    others = set(files) - set(slices)
    return sorted([*((file,) for file in others), *grouped(slices)])


def _places(groups: Sequence[tuple[Path, ...]]) -> list[Path]:
    """Where each case lies: a volume in its folder if that holds no other case, else in its first file."""
    inside = Counter(folder for group in groups for file in group for folder in file.parents)
    folders = [Path(os.path.commonpath([file.parent for file in group])) for group in groups]
    return [
        folder if 1 < len(group) == inside[folder] else group[0] for folder, group in zip(folders, groups, strict=True)
    ]


def _looks_like_image(file: Path, root: Path) -> bool:
    if any(part.startswith(".") for part in file.relative_to(root).parts) or file.suffix == ".part":
        return False
    nameless = not file.suffix or file.suffix[1:].isdigit()  # many DICOM files are called by a UID, or IM-0001
    return (
        file.is_file()
        and file.name.upper() != "DICOMDIR"
        and (format_of_name(file) is not None or (nameless and format_of_content(file) is not None))
    )


def find_cases(path: str | Path | Sequence[str | Path]) -> Manifest:
    """A manifest where there is one (a CSV, a folder with `labels.csv`), else the plain images at `path`; zips too."""
    one = Path(path) if isinstance(path, str | Path) else None
    if one is not None and is_zip(one):
        return find_cases(unzipped(one))
    if one is not None and (one.suffix.lower() == ".csv" or (one / "labels.csv").is_file()):
        return read_manifest(one)
    if one is not None and not one.exists():
        raise ManifestError(f"{one} does not exist; name an image, a folder of images, or a manifest")
    return scan_folder(path)
