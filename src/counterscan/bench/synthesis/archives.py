"""A made archive and a real one side by side: the classes both have, their labels, and which images are of what."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from counterscan.bench.parts import thinned
from counterscan.data.batches import labels_of
from counterscan.data.manifest import Case, Manifest, read_manifest
from counterscan.errors import CounterscanError
from counterscan.metrics.populations import dealt

NONE = "no finding"  # what images without any of the classes are called, where a case may show several


@dataclass(frozen=True)
class Archive:
    """Images with labels: `name` says which archive, `manifest` has the classes that are compared and no others."""

    name: str
    manifest: Manifest = field(repr=False)

    def __len__(self) -> int:
        return len(self.manifest)

    @property
    def cases(self) -> tuple[Case, ...]:
        """The images."""
        return self.manifest.cases

    @property
    def patients(self) -> tuple[str, ...]:
        """The patient of each image."""
        return self.manifest.patients

    @property
    def labels(self) -> np.ndarray:
        """`(n, k)`: 1 present, 0 absent, nan unknown."""
        return labels_of(self.manifest).numpy()

    @property
    def key(self) -> str:
        """What the results rest on: which files, their sizes and times of change, and what is said of them."""
        digest = hashlib.sha256(json.dumps(self.manifest.classes).encode())
        for case in self.cases:
            stat = case.path.stat() if case.path.exists() else None
            told: list[Any] = [str(case.path), stat and stat.st_size, stat and stat.st_mtime_ns]
            digest.update(json.dumps([told, list(case.labels.values()), case.split, case.fold, case.patient]).encode())
        return digest.hexdigest()[:16]

    def kinds(self) -> dict[str, np.ndarray]:
        """Which images `(n,)` show each class, by its name, and which show none."""
        labels = self.labels
        found = {name: labels[:, k] == 1 for k, name in enumerate(self.manifest.classes)}
        return found if self.manifest.exclusive else {**found, NONE: (labels == 0).all(1)}

    def dealt(self, chosen: Sequence[int], count: int, seed: int) -> tuple[list[int], list[int]]:
        """The `chosen` images dealt out by patient: what is compared with, and `count` (half at most) as a floor."""
        place = {self.cases[index].path: index for index in chosen}
        reference, floor = dealt([self.cases[index] for index in chosen], count, seed)
        return [place[case.path] for case in reference], [place[case.path] for case in floor]


def both(made: Path, real: Path, dataset: Path | None = None, most: int = 0) -> tuple[Archive, Archive]:
    """The made archive and the real one, with the classes that both have, in the order of the real one's.

    `dataset` is the made archive's dataset.toml, where it lies elsewhere; of each at most `most` images are taken.
    Raises CounterscanError where no class is in both, or where one manifest has one class a case and the other several.
    """
    first, second = read_manifest(made, dataset), read_manifest(real)
    shared = [name for name in second.classes if name in first.classes]
    if not shared:
        raise CounterscanError(
            f"{made} has the classes {_listed(first.classes)} and {real} {_listed(second.classes)}: none is in both, "
            "so name columns alike"
        )
    if first.exclusive != second.exclusive:
        raise CounterscanError(f"of {made} and {real} one has a label column and the other columns of 0 and 1; use one")
    return tuple(
        Archive(name, _of_classes(thinned(manifest, most), shared))
        for name, manifest in (("synthetic", first), ("real", second))
    )  # type: ignore[return-value]


def _of_classes(manifest: Manifest, classes: Sequence[str]) -> Manifest:
    cases = tuple(
        replace(case, labels={name: case.labels.get(name) for name in classes})
        for case in manifest.cases
        if not manifest.exclusive or not any(case.labels.get(name) for name in set(manifest.classes) - set(classes))
    )
    normal = manifest.normal if manifest.normal in classes else None
    return replace(manifest, classes=tuple(classes), cases=cases, normal=normal)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "(none)"
