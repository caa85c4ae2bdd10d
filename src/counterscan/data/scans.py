"""Scans: pixels in physical units, and all that is needed to write a result back in the format they came in."""

import importlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from counterscan.data.files import recognised
from counterscan.data.window import Window
from counterscan.errors import CounterscanError, ScanError

if TYPE_CHECKING:
    from torch import Tensor

READERS = {
    "png": "raster",
    "jpeg": "raster",
    "tiff": "raster",
    "dicom": "dicom",
    "series": "dicom_series",
    "nifti": "nifti",
    "mha": "itk",
    "nrrd": "itk",
}


class Source(Protocol):
    """The file a scan came from, as its format's module knows it; pixels are those of `Scan`, of the same shape."""

    @property
    def suffix(self) -> str: ...

    @property
    def mask_suffix(self) -> str: ...

    @property
    def has_unit(self) -> bool:
        """Does the file itself say in what unit it is?"""
        ...

    def rescaled(self, scan: Any, slope: float, intercept: float) -> Any:
        """The scan with `stored * slope + intercept`, where the file cannot say that itself; else unchanged."""
        ...

    def write(self, pixels: np.ndarray, path: Path) -> Path:
        """Write `pixels` `(slices, c, h, w)` in physical units in the source's format, type and geometry."""
        ...

    def write_mask(self, mask: np.ndarray, path: Path) -> Path:
        """Write `mask` `(slices, h, w)` in the source's geometry."""
        ...


@dataclass(frozen=True, eq=False)
class Scan:
    """One image or volume as a viewer would show it.

    `pixels` is float32 `(slices, c, h, w)` in `unit`; brighter is higher, and rows and columns are as on a light box
    where the file says how the patient lay. `unit` is `""` for plain pictures and None where the file cannot say
    (NIfTI). `affine` takes (column, row, slice) of `pixels` to RAS+ millimetres; `spacing` is (row, column[, slice]).
    """

    pixels: np.ndarray = field(repr=False)
    window: Window
    path: Path
    format: str
    stored: str  # the numpy type in the file
    source: Source = field(repr=False)
    unit: str | None = ""
    modality: str = ""
    spacing: tuple[float, ...] | None = None
    affine: np.ndarray | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def suffix(self) -> str:
        """What a result in the scan's format is called, `.dcm` for example."""
        return self.source.suffix

    @property
    def mask_suffix(self) -> str:
        """What a mask for the scan is called: its own format, but PNG beside a JPEG."""
        return self.source.mask_suffix

    def window_for(self, wanted: Window | None) -> Window:
        """The window to use where a classifier's card wants one.

        A window in a physical unit is the same for every scan in that unit; one without is about the files that the
        classifier was trained on, so the scan's own takes its place.
        """
        if wanted is None or not wanted.physical:
            return self.window
        if self.unit is not None and self.unit != wanted.unit:
            raise ScanError(
                f"{self.path} holds {self.unit or 'grey values'}, but the classifier expects {wanted.unit}; "
                f"a dataset.toml beside the manifest can say what they mean (slope, intercept, window)"
            )
        return wanted

    def images(self, shape: tuple[int, ...], window: Window | None = None) -> "Tensor":
        """The slices as images `(slices, *shape)` in [-1, 1], channels and size fitted to `shape` `(c, h, w)`."""
        import torch

        from counterscan.data.fitting import fit_images

        unit = self.window_for(window).to_unit(self.pixels).astype(np.float32, copy=False)
        return fit_images(torch.from_numpy(np.ascontiguousarray(unit)), shape).clamp(-1, 1)

    def changed(self, change: Any, window: Window | None = None) -> np.ndarray:
        """The scan's pixels after a `change` `(slices, c', h', w')` in image units, brought to the scan's size."""
        import torch

        from counterscan.data.fitting import fit_images

        tensor = torch.as_tensor(change, dtype=torch.float32).detach().cpu()
        fitted = fit_images(tensor, self.pixels.shape[1:]).numpy()
        if len(fitted) != len(self):
            raise ScanError(f"{self.path} has {len(self)} slices, but the change is for {len(fitted)}; give one each")
        return self.window_for(window).restore(self.pixels, fitted).astype(np.float32)

    def write(self, pixels: Any, path: str | Path) -> Path:
        """Write `pixels` `(slices, c, h, w)` in physical units, in the scan's format, geometry and type.

        A name without the format's ending gets it; the path that was written is returned.
        """
        array = np.asarray(pixels, np.float32)
        if array.shape != self.pixels.shape:
            raise ScanError(f"{self.path} has pixels {self.pixels.shape}, not {array.shape}; resize them first")
        if not np.isfinite(array).all():
            raise ScanError(f"a result for {self.path} holds NaN or infinite values; it was not written")
        with one_line(self.path, self.format):
            return self.source.write(array, Path(path))

    def write_change(self, change: Any, path: str | Path, window: Window | None = None) -> Path:
        """Write the scan after a `change` in image units at any size: its own detail stays where nothing changes."""
        return self.write(self.changed(change, window), path)

    def write_mask(self, mask: Any, path: str | Path) -> Path:
        """Write a boolean `mask` `(slices, h, w)` of the scan's size in its geometry (see `mask_suffix`)."""
        array = np.asarray(mask).astype(bool)
        slices, _, height, width = self.pixels.shape
        if array.shape != (slices, height, width):
            raise ScanError(f"a mask for {self.path} is {(slices, height, width)}, not {array.shape}; resize it first")
        with one_line(self.path, self.format):
            return self.source.write_mask(array, Path(path))

    def declared(self, window: Window | None, slope: float = 1.0, intercept: float = 0.0) -> Self:
        """The scan with what a `dataset.toml` says of it.

        Slope and intercept are for pictures, whose files cannot hold them; the unit also for NIfTI.
        """
        scan = self.source.rescaled(self, slope, intercept)
        if window is None:
            return scan
        if scan.source.has_unit:
            scan.window_for(window)  # refuses another unit
            return replace(scan, window=window)
        return replace(scan, window=window, unit=window.unit)


def read_scan(path: str | Path | Sequence[Path]) -> Scan:
    """Read a DICOM, NIfTI, MHA, NRRD, PNG, JPEG or TIFF file, recognised by its content.

    A folder, or a sequence of files, is one DICOM series: a volume of one slice a file, sorted by where they lie.
    """
    if not isinstance(path, str | Path):
        return _read(path, Path(path[0]), "series")
    path = Path(path)
    return _read(path, path, "series" if os.path.isdir(path) else recognised(path))


def _read(source: Path | Sequence[Path], path: Path, kind: str) -> Scan:
    reader = importlib.import_module(f"counterscan.data.{READERS[kind]}")
    with one_line(path, kind):
        return reader.read(source, kind)


@contextmanager
def one_line(path: Path, kind: str) -> Iterator[None]:
    """What format libraries raise over damaged files is nearly anything; a user is told in one line."""
    try:
        yield
    except CounterscanError:
        raise
    except MemoryError as error:
        raise ScanError(f"{path} takes more memory than there is; crop it, scale it down, or free some") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno:  # the disk's fault, not the file's
            raise ScanError(f"{path}: {error.strerror}; make room on the disk, or check your rights") from error
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ScanError(
            f"{path} is a damaged {kind.upper()} file ({reason}); copy it again from where it came"
        ) from error
