"""Batches for classifiers and training; a dataset is decoded once into a mapped file, so that memory stays flat."""

import hashlib
import json
import mmap
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from counterscan.data.alignment import inside
from counterscan.data.fitting import fit_mask
from counterscan.data.manifest import Case, Manifest
from counterscan.data.scans import Scan, read_scan
from counterscan.data.window import Window
from counterscan.errors import ManifestError, ScanError
from counterscan.memory import release

CHUNK = 64  # images decoded before it is noted that they are there
THREADS = min(4, os.cpu_count() or 1)


def load_image(case: Case, shape: tuple[int, ...], window: Window | None = None) -> Tensor:
    """The one slice of a case as `(*shape,)` in [-1, 1]; `window` is what a classifier's card wants."""
    return single(case.read()).images(shape, window)[0]


def load_batch(cases: Sequence[Case], shape: tuple[int, ...], window: Window | None = None) -> Tensor:
    """Images `(len(cases), *shape)` in [-1, 1], decoded by a few threads; ScanError names the first that cannot be."""
    with ThreadPoolExecutor(THREADS) as pool:
        return torch.stack(list(pool.map(lambda case: load_image(case, shape, window), cases)))


def single(scan: Scan) -> Scan:
    """The scan, if it is one image; a volume has one label for many slices, which training cannot use."""
    if len(scan) != 1:
        raise ScanError(
            f"{scan.path} is a volume of {len(scan)} slices; training takes one image a row, so save slices"
        )
    return scan


def read_mask(path: str | Path) -> np.ndarray:
    """A mask file as a boolean `(slices, h, w)`: what is above zero, or in a JPEG above one half, is in."""
    return inside(read_scan(path))


@dataclass(frozen=True, eq=False)
class Images:
    """The images of a manifest at a working shape.

    `images` is float16 `(n, *shape)` in [-1, 1], `mapped` from a file or not; `labels` `(n, k)` float32 with nan for
    unknown.
    """

    manifest: Manifest
    shape: tuple[int, ...]
    window: Window | None
    images: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)
    file: Path
    mapped: mmap.mmap | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.manifest)

    @property
    def patients(self) -> tuple[str, ...]:
        """The patient of each image."""
        return self.manifest.patients

    def batch(self, indices: int | Sequence[int] | Tensor) -> Tensor:
        """Some images as float32 `(b, *shape)`."""
        found = self.images[_indices(indices)].float()
        if self.mapped is not None:
            release(self.mapped)
        return found

    def masks(self, indices: int | Sequence[int] | Tensor) -> Tensor:
        """The masks of some images as bool `(b, 1, h, w)`; empty for an image without disease that has none."""
        return torch.stack([self._mask(self.manifest.cases[index]) for index in _indices(indices)])

    def twin(self, indices: int | Sequence[int] | Tensor) -> Tensor:
        """The healthy twins of some phantoms as float32 `(b, *shape)`, shown as their images are."""
        return torch.stack([self._twin(self.manifest.cases[index]) for index in _indices(indices)])

    def _mask(self, case: Case) -> Tensor:
        spatial = (self.shape[1], self.shape[2])
        if case.mask_path is None:
            if self.manifest.diseased(case):
                raise ManifestError(f"{case.name} shows disease but has no mask; fill mask_path, or leave it out")
            return torch.zeros(1, *spatial, dtype=torch.bool)
        return fit_mask(torch.from_numpy(read_mask(case.mask_path)[:1, None]), spatial)[0]

    def _twin(self, case: Case) -> Tensor:
        if case.twin_path is None:
            raise ManifestError(f"{case.name} has no twin; only phantoms have (a column twin_path)")
        window = single(case.read()).window_for(self.window)
        twin = read_scan(case.twin_path).declared(window, case.slope, case.intercept)
        return single(twin).images(self.shape)[0]


def _indices(indices: int | Sequence[int] | Tensor) -> list[int]:
    return [indices] if isinstance(indices, int) else [int(index) for index in indices]


def open_images(
    manifest: Manifest,
    shape: tuple[int, ...],
    window: Window | None = None,
    cache: str | Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> Images:
    """Decode a manifest's images once into a file under `cache`, or open the one that is there.

    The file is found by what the images are (paths, sizes, times of change), the shape and the window. A killed run
    goes on where it was. `window` is what a classifier's card wants; without it each scan's or the dataset's is used.
    Raises ScanError for the first image that cannot be read.
    """
    folder = Path(cache) if cache else default_cache()
    file = folder / f"{_key(manifest, shape, window)}.f16"
    _build(manifest, shape, window, file, progress)
    store = np.memmap(file, np.float16, mode="c", shape=(len(manifest), *shape))  # "c": nobody writes through it
    return Images(
        manifest, tuple(shape), window, torch.from_numpy(store), labels_of(manifest), file, _mapping_of(store)
    )


def default_cache() -> Path:
    """`$COUNTERSCAN_CACHE`, or the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("COUNTERSCAN_CACHE") or Path(home) / "counterscan" / "images")


def labels_of(manifest: Manifest) -> Tensor:
    """Labels `(n, k)` float32: 1 present, 0 absent, nan unknown."""
    rows = [[_number(case.labels.get(name)) for name in manifest.classes] for case in manifest.cases]
    return torch.tensor(rows, dtype=torch.float32).reshape(len(manifest), len(manifest.classes))


def _number(value: int | None) -> float:
    return float("nan") if value is None else float(value)


def _key(manifest: Manifest, shape: tuple[int, ...], window: Window | None) -> str:
    told = [list(shape), window.as_tuple() if window else None]
    digest = hashlib.sha256(json.dumps(told).encode())
    for case in manifest.cases:
        stat = case.path.stat() if case.path.exists() else None
        seen = (str(case.path), stat and stat.st_size, stat and stat.st_mtime_ns)
        declared = (case.window.as_tuple() if case.window else None, case.slope, case.intercept)
        digest.update(json.dumps([seen, declared]).encode())
    return digest.hexdigest()[:32]


def _build(
    manifest: Manifest,
    shape: tuple[int, ...],
    window: Window | None,
    file: Path,
    progress: Callable[[int], None] | None,
) -> None:
    """Fill the store; beside it `.done` holds one byte an image, set only after the image is there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    marks = file.with_suffix(".done")
    done = _mapped(marks, np.uint8, (len(manifest),))
    missing = np.flatnonzero(done == 0)
    if not len(missing):
        return
    store = _mapped(file, np.float16, (len(manifest), *shape))
    for start in range(0, len(missing), CHUNK):
        chunk = missing[start : start + CHUNK]
        store[chunk] = load_batch([manifest.cases[index] for index in chunk], shape, window).half().numpy()
        store.flush()
        release(_mapping_of(store))
        done[chunk] = 1
        done.flush()
        if progress is not None:
            progress(int(done.sum()))


def _mapping_of(store: np.memmap) -> mmap.mmap:
    return cast(mmap.mmap, store.base)


def _mapped(file: Path, dtype: type, shape: tuple[int, ...]) -> np.memmap:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if not file.exists() or file.stat().st_size != size:
        with file.open("ab") as empty:
            empty.truncate(size)
    return np.memmap(file, dtype, mode="r+", shape=shape)
