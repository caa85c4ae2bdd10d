"""Archives of phantoms: images, healthy twins, masks and a manifest, drawn and written by all cores, resumable."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from counterscan.data.dataset import DatasetFile, write_dataset_file
from counterscan.data.draws import split_at
from counterscan.data.files import write_whole
from counterscan.data.phantoms.base import Phantom, draw, module, normal_of
from counterscan.data.raster import encode, write_picture
from counterscan.data.sums import NAME as SUMS
from counterscan.data.sums import damaged, write_sums
from counterscan.data.table import text_of
from counterscan.errors import CounterscanError

CHUNK = 64  # phantoms a process draws before it notes that they are done
ROWS = ".rows"
# Run lengths and Huffman only: noise holds no longer patterns that a search could find.
FAST: dict[str, Any] = {
    "compress_level": 1,
    "compress_type": 3,
}
HU_OFFSET = -1024.0  # 16-bit pictures hold HU + 1024, as scanners store them


@dataclass(frozen=True)
class Series:
    """What fixes an archive: the same series gives the same files, byte for byte."""

    kind: str
    n: int
    size: int = 128
    seed: int = 0
    findings: tuple[str, ...] | None = None

    @property
    def rescale(self) -> tuple[float, float]:
        """Slope and intercept of the stored values: 16-bit in grey, 8-bit in colour."""
        low, high, unit = module(self.kind).WINDOW
        if module(self.kind).COLOUR:
            return (high - low) / 255, low
        return (1.0, HU_OFFSET) if unit == "HU" else ((high - low) / 65535, low)


def write_phantoms(
    kind: str,
    n: int,
    out: str | Path,
    size: int = 128,
    seed: int = 0,
    findings: Sequence[str] | None = None,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Write phantoms 0 to `n - 1` of a series into the folder `out` and return it.

    `images/`, `twins/` and `masks/` hold PNG files (16-bit, 8-bit in colour; masks 8-bit 0 or 255). Where the kind has
    further labels a file like `dataset.toml` names them (`prognosis.toml`, `grades.toml`), for `--dataset`.
    `labels.csv` comes last, so that a folder without it is not whole. A killed run goes on where it was when it is
    called again. `progress` is told how many are there. Raises CounterscanError where `out` holds another series.
    """
    if n < 1:
        raise CounterscanError(f"an archive holds at least one phantom, not {n}")
    series = Series(kind, n, size, seed, tuple(findings) if findings else None)
    draw(kind, 0, seed=seed, size=size, findings=series.findings)  # refuses a wrong kind, size or finding at once
    out = Path(out)
    _claim(out, series)
    if (out / "labels.csv").is_file():
        _check_whole(out)
        return out
    missing = [start for start in range(0, n, CHUNK) if _rows(out, start) is None]
    done = n - sum(min(CHUNK, n - start) for start in missing)
    for count in _work(series, out, missing, workers):
        done += count
        if progress is not None:
            progress(done)
    _finish(out, series)
    return out


def _claim(out: Path, series: Series) -> None:
    """Note what the folder is for, or refuse it when it is for something else."""
    note = out / "series.json"
    wanted = json.dumps(series.__dict__, default=list)
    if note.is_file():
        if note.read_text(errors="replace") != wanted:
            raise CounterscanError(
                f"{out} holds another series of phantoms ({note.read_text(errors='replace')}, says {note.name}); "
                "choose another folder"
            )
        return
    if out.is_dir() and any(not one.name.startswith(note.name) for one in out.iterdir()):  # a kill may leave its part
        raise CounterscanError(f"{out} holds other files; choose a new or an empty folder")
    write_whole(note, wanted.encode())


def _work(series: Series, out: Path, missing: Sequence[int], workers: int) -> Iterator[int]:
    for folder in ("images", "twins", "masks", ROWS):
        (out / folder).mkdir(exist_ok=True)
    jobs = [(series, out, start) for start in missing]
    if workers <= 1:
        yield from map(_chunk, jobs)
        return
    with ProcessPoolExecutor(min(workers, max(1, len(jobs)))) as pool:
        yield from pool.map(_chunk, jobs)


def _chunk(job: tuple[Series, Path, int]) -> int:
    """Draw and write one chunk; its rows are noted last, so that a killed chunk is drawn again."""
    series, out, start = job
    indices = range(start, min(start + CHUNK, series.n))
    rows = [_one(series, out, index) for index in indices]
    write_whole(_rows_file(out, start), json.dumps(rows).encode())
    return len(rows)


def _one(series: Series, out: Path, index: int) -> dict[str, Any]:
    phantom = draw(series.kind, index, seed=series.seed, size=series.size, findings=series.findings)
    slope, intercept = series.rescale
    name = f"{index:06d}.png"
    for folder, pixels in (("images", phantom.image), ("twins", phantom.twin)):
        write_picture(_stored((pixels.astype(np.float64) - intercept) / slope), out / folder / name, **FAST)
    write_picture(phantom.mask.astype(np.uint8) * 255, out / "masks" / name, **FAST)
    return _row(series, phantom, index, name)


def _stored(values: np.ndarray) -> np.ndarray:
    """Whole numbers as PNG holds them: `(h, w)` of 16 bits, or `(h, w, 3)` of 8, for it has no colour of 16."""
    colour = values.ndim == 3
    return encode(values.transpose(1, 2, 0) if colour else values, np.dtype(np.uint8 if colour else np.uint16))


def _row(series: Series, phantom: Phantom, index: int, name: str) -> dict[str, Any]:
    return {
        "path": f"images/{name}",
        "split": split_of(series.seed, index),
        "patient_id": f"{series.kind}-{series.seed}-{index:06d}",
        "mask_path": f"masks/{name}",
        "twin_path": f"twins/{name}",
        **_labels(series.kind, phantom),
        **{key: _plain(value) for key, value in phantom.facts.items()},
        "report": phantom.report,
    }


def _labels(kind: str, phantom: Phantom) -> dict[str, Any]:
    """A column per class, or one `label` where each phantom shows one class."""
    if normal_of(module(kind)):
        return {"label": next(name for name, shown in phantom.labels.items() if shown)}
    return {key: int(value) for key, value in phantom.labels.items()}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def split_of(seed: int, index: int) -> str:
    """The split of a phantom: 70 % train, 15 % validation, 15 % test, whatever the size of the archive."""
    share = int.from_bytes(hashlib.sha256(f"{seed}-{index}".encode()).digest()[:4]) / 2**32
    return split_at(share)


def _rows_file(out: Path, start: int) -> Path:
    return out / ROWS / f"{start:08d}.json"


def _rows(out: Path, start: int) -> list[dict[str, Any]] | None:
    """The rows of a chunk that is done; None for any other, and where the note of them is damaged."""
    try:
        return json.loads(_rows_file(out, start).read_text())
    except (OSError, ValueError):
        return None


def _noted(out: Path, series: Series) -> Iterator[dict[str, Any]]:
    """All rows, of which no more than a chunk is held."""
    for start in range(0, series.n, CHUNK):
        yield from _rows(out, start) or ()


def _check_whole(out: Path) -> None:
    """Refuse an archive whose manifest is not as it was written; sweep what a kill at the very end left."""
    if (out / SUMS).is_file() and (name := damaged(out / SUMS)):
        raise CounterscanError(
            f"{out / name} is not as it was written; restore it from a copy, or delete labels.csv to draw all again"
        )
    shutil.rmtree(out / ROWS, ignore_errors=True)


def _finish(out: Path, series: Series) -> None:
    drawer = module(series.kind)
    slope, intercept = series.rescale
    told = DatasetFile(
        classes=tuple(drawer.CLASSES),
        confounders=tuple(drawer.CONFOUNDERS),
        modality=drawer.MODALITY,
        window=tuple(drawer.WINDOW),
        slope=slope,
        intercept=intercept,
        mirror=drawer.MIRROR,
        licence="CC0-1.0",
        source=f"counterscan phantoms {series.kind} --n {series.n} --size {series.size} --seed {series.seed}",
    )
    write_dataset_file(out / "dataset.toml", told)
    for name, outcomes in getattr(drawer, "OUTCOMES", {}).items():
        more = {"classes": (*outcomes, *told.classes), "confounders": (*outcomes, *told.confounders)}
        write_dataset_file(out / f"{name}.toml", told.model_copy(update=more))  # what is masked is no outcome
    for name, (fact, grades) in getattr(drawer, "GRADED", {}).items():
        graded = {"classes": tuple(grades), "confounders": (), "label": fact}
        write_dataset_file(out / f"{name}.toml", told.model_copy(update=graded))
    columns = [key for key in dict.fromkeys(key for row in _noted(out, series) for key in row) if key != "report"]
    content = text_of(_noted(out, series), [*columns, "report"]).encode()
    write_sums(out / SUMS, {"labels.csv": hashlib.sha256(content).hexdigest()})
    write_whole(out / "labels.csv", content)
    shutil.rmtree(out / ROWS, ignore_errors=True)
