"""What `counterscan data check` says of a manifest: every image is opened once, memory does not grow."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from counterscan.data.alignment import Placed, inside
from counterscan.data.manifest import Case, Manifest
from counterscan.data.scans import read_scan
from counterscan.errors import CounterscanError

NOWHERE = "without a split"
SHOWN = 10  # faults of one kind that the text lists; `as_dict` has them all


@dataclass(frozen=True)
class Finding:
    """What opening one case told."""

    name: str
    digest: str = ""
    size: str = ""
    kind: str = ""
    fault: str = ""
    mask_fault: str = ""


@dataclass(frozen=True)
class Summary:
    """A dataset's counts and faults. `counts[class][split]` is `(present, absent, unknown)`."""

    path: str
    images: int
    patients: int
    exclusive: bool
    window: str
    counts: dict[str, dict[str, tuple[int, int, int]]]
    folds: dict[str, dict[str, int]]
    sizes: dict[str, int]
    kinds: dict[str, int]
    leaks: tuple[str, ...] = ()
    duplicates: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Is there nothing to mend?"""
        return not (self.leaks or self.duplicates or self.unreadable or self.masks)

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {**asdict(self), "ok": self.ok}

    def __str__(self) -> str:
        kind = "one class an image" if self.exclusive else "each class present or absent"
        lines = [f"{self.path}: {self.images} images of {self.patients} patients, {kind}", f"window: {self.window}"]
        lines += ["", *_class_table(self.counts), "", *_fold_table(self.folds)]
        lines += _tally("sizes", self.sizes) + _tally("formats", self.kinds) + [""]
        for title in ("leaks", "duplicates", "unreadable", "masks", "notes"):
            lines += _faults(title, getattr(self, title))
        lines.append("nothing to mend" if self.ok else "mend what is listed above, then check again")
        return "\n".join(lines)


def check_manifest(manifest: Manifest, workers: int = 1, progress: Callable[[int], None] | None = None) -> Summary:
    """Open every image and mask of `manifest`, with `workers` processes, and say what is in it and what is wrong."""
    sizes: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    first: dict[str, str] = {}  # by digest
    same: dict[str, list[str]] = {}  # those like the first, by its name
    unreadable, masks = [], []
    for number, finding in enumerate(_inspect_all(manifest, workers), 1):
        if finding.fault:
            unreadable.append(finding.fault)
        else:
            sizes[finding.size] += 1
            kinds[finding.kind] += 1
            if first.setdefault(finding.digest, finding.name) != finding.name:
                same.setdefault(first[finding.digest], []).append(finding.name)
        if finding.mask_fault:
            masks.append(finding.mask_fault)
        if progress is not None:
            progress(number)
    return Summary(
        path=str(manifest.root),
        images=len(manifest),
        patients=len(set(manifest.patients)),
        exclusive=manifest.exclusive,
        window=_window(manifest),
        counts=_counts(manifest),
        folds=_folds(manifest),
        sizes=dict(sizes.most_common()),
        kinds=dict(kinds.most_common()),
        leaks=manifest.leaks("split") + manifest.leaks("fold"),
        duplicates=_duplicates(manifest, same),
        unreadable=tuple(unreadable),
        masks=tuple(masks),
        notes=_notes(manifest, kinds),
    )


def _inspect_all(manifest: Manifest, workers: int) -> Iterator[Finding]:
    jobs = ((case, manifest.diseased(case), _healthy(manifest, case)) for case in manifest.cases)
    if workers <= 1:
        yield from map(_inspect, jobs)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(_inspect, jobs, chunksize=16)


def _healthy(manifest: Manifest, case: Case) -> bool:
    """Is the case known to show no disease?"""
    known = [value for name, value in case.labels.items() if name not in manifest.benign]
    return bool(case.labels) and None not in known and not manifest.diseased(case)


def _inspect(job: tuple[Case, bool, bool]) -> Finding:
    case, diseased, healthy = job
    try:
        scan = case.read()
    except CounterscanError as error:
        return Finding(case.name, fault=str(error))
    slices, channels, height, width = scan.pixels.shape
    size = f"{width} x {height}" + (f" x {slices}" if slices > 1 else "")
    digest = hashlib.sha1(f"{scan.pixels.shape}".encode() + scan.pixels.tobytes(), usedforsecurity=False).hexdigest()
    kind = f"{scan.format} {scan.stored} {'grey' if channels == 1 else 'colour'}"
    return Finding(case.name, digest, size, kind, "", _mask_fault(case, Placed.of(scan), diseased, healthy))


def _mask_fault(case: Case, image: Placed, diseased: bool, healthy: bool) -> str:
    if case.mask_path is None:
        return ""
    try:
        scan = read_scan(case.mask_path)
    except CounterscanError as error:
        return f"{case.name}: {error}"
    if told := image.unlike(Placed.of(scan)):
        return f"{case.name}: {told}"
    mask = inside(scan)
    if diseased and not mask.any():
        return f"{case.name}: shows disease, but its mask is empty"
    if healthy and mask.any():
        return f"{case.name}: shows no disease, but its mask is not empty ({int(mask.sum())} pixels)"
    return ""


def _window(manifest: Manifest) -> str:
    if manifest.window is None:
        return "each image's own"
    return f"{manifest.window.low:g} to {manifest.window.high:g} {manifest.window.unit}".rstrip()


def _counts(manifest: Manifest) -> dict[str, dict[str, tuple[int, int, int]]]:
    table: dict[str, dict[str, tuple[int, int, int]]] = {}
    for name in manifest.classes:
        tally = Counter((case.split or NOWHERE, case.labels[name]) for case in manifest.cases)
        splits = sorted({split for split, _ in tally})
        table[name] = {split: (tally[split, 1], tally[split, 0], tally[split, None]) for split in splits}
    return table


def _folds(manifest: Manifest) -> dict[str, dict[str, int]]:
    folds = sorted({case.fold for case in manifest.cases if case.fold is not None})
    table = {}
    for fold in folds:
        cases = [case for case in manifest.cases if case.fold == fold]
        present = {name: sum(case.labels[name] == 1 for case in cases) for name in manifest.classes}
        patients = {case.patient or case.name for case in cases}
        table[str(fold)] = {"images": len(cases), "patients": len(patients), **present}
    return table


def _duplicates(manifest: Manifest, same: dict[str, list[str]]) -> tuple[str, ...]:
    concerned = {name for one, others in same.items() for name in (one, *others)}
    cases = {case.name: case for case in manifest.cases if case.name in concerned}
    sentences = []
    for one, others in same.items():
        names = [one, *others]
        labels = {tuple(cases[name].labels.values()) for name in names}
        splits = {cases[name].split for name in names}
        worse = [" with different labels"] * (len(labels) > 1) + [" in different splits"] * (len(splits) > 1)
        sentences.append(f"{', '.join(names)} are the same picture{' and'.join(worse)}")
    return tuple(sentences)


def _notes(manifest: Manifest, kinds: Counter[str]) -> tuple[str, ...]:
    notes = []
    deep = sum(count for kind, count in kinds.items() if kind.split()[0] in ("png", "tiff") and "uint8" not in kind)
    if manifest.window is None and deep:
        notes.append(f"{deep} images hold more than 8 bits, each shown by its own range; set window in dataset.toml")
    if not any(case.patient for case in manifest.cases):
        notes.append(
            "no column patient_id: leaks of patients cannot be seen, and intervals treat images as independent"
        )
    if manifest.cases and not manifest.classes:
        notes.append("no classes: no column label, and no column of 0, 1 and blank only; list classes in dataset.toml")
    return tuple(notes)


def _class_table(counts: dict[str, dict[str, tuple[int, int, int]]]) -> list[str]:
    splits = sorted({split for row in counts.values() for split in row})
    rows = [["class", *(f"{split} (present / absent / unknown)" for split in splits)]]
    for name, row in counts.items():
        rows.append([name, *(" / ".join(map(str, row.get(split, (0, 0, 0)))) for split in splits)])
    return _aligned(rows) if counts else []


def _fold_table(folds: dict[str, dict[str, int]]) -> list[str]:
    if not folds:
        return []
    columns = list(next(iter(folds.values())))
    rows = [["fold", *columns], *([fold, *(str(row[name]) for name in columns)] for fold, row in folds.items())]
    return [*_aligned(rows), ""]


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [int(np.max([len(row[column]) for row in rows])) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _tally(title: str, counts: dict[str, int]) -> list[str]:
    shown = [f"{name} ({count})" for name, count in list(counts.items())[:SHOWN]]
    more = f" and {len(counts) - SHOWN} more" if len(counts) > SHOWN else ""
    return [f"{title}: {', '.join(shown)}{more}"] if shown else []


def _faults(title: str, sentences: tuple[str, ...]) -> list[str]:
    if not sentences:
        return []
    more = [f"  and {len(sentences) - SHOWN} more"] if len(sentences) > SHOWN else []
    return [f"{title}: {len(sentences)}", *(f"  {sentence}" for sentence in sentences[:SHOWN]), *more, ""]
