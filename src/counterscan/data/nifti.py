"""NIfTI slices and volumes: shown as on a light box, written back exactly as they lay."""

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from counterscan.data.files import SUFFIXES, with_suffix, write_whole
from counterscan.data.raster import encode
from counterscan.data.scans import Scan
from counterscan.data.window import Window, range_window
from counterscan.errors import ScanError


@dataclass(frozen=True)
class View:
    """How stored axes (i, j, k) become (slice, row, column): slices along k; patient's right, or front, on the left.

    Rows run from front to back in axial slices, from head to feet in others. All of it is swaps and flips, so that
    `stored(shown(x))` is x bit for bit.
    """

    swap: bool  # columns lie along i, not along j
    flip_rows: bool
    flip_columns: bool

    @classmethod
    def of(cls, affine: np.ndarray) -> "View":
        """The view that comes nearest to the standard for an affine to RAS+ (oblique ones too)."""
        axes = nibabel.io_orientation(affine)
        if np.isnan(axes).any():  # a flat affine says nothing
            return cls(True, False, False)
        columns, rows = (0, 1) if axes[0, 0] < axes[1, 0] else (1, 0)
        return cls(columns == 0, bool(axes[rows, 1] > 0), bool(axes[columns, 1] > 0))

    def shown(self, stored: np.ndarray) -> np.ndarray:
        """(i, j, k) to (slice, row, column)."""
        slices = np.moveaxis(stored, 2, 0)
        slices = slices.swapaxes(1, 2) if self.swap else slices
        return slices[:, :: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]

    def stored(self, shown: np.ndarray) -> np.ndarray:
        """(slice, row, column) to (i, j, k): the inverse of `shown`."""
        slices = shown[:, :: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]
        slices = slices.swapaxes(1, 2) if self.swap else slices
        return np.moveaxis(slices, 0, 2)

    def affine(self, affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The affine of (column, row, slice), for an affine of (i, j, k) and the stored shape."""
        columns, rows = (0, 1) if self.swap else (1, 0)
        step = np.zeros((4, 4))
        step[3, 3] = step[2, 2] = 1
        for shown, (axis, flip) in enumerate([(columns, self.flip_columns), (rows, self.flip_rows)]):
            step[axis, shown] = -1 if flip else 1
            step[axis, 3] = shape[axis] - 1 if flip else 0
        return affine @ step


@dataclass(frozen=True)
class NiftiFile:
    """A NIfTI file; `has_unit` is False because NIfTI has no field for it."""

    path: Path
    has_unit: bool = False

    @property
    def suffix(self) -> str:
        return ".nii" if self.path.name.lower().endswith(".nii") else ".nii.gz"

    @property
    def mask_suffix(self) -> str:
        return self.suffix

    def rescaled(self, scan: Scan, slope: float, intercept: float) -> Scan:
        return scan

    def write(self, pixels: np.ndarray, path: Path) -> Path:
        image, stored, (slope, inter) = load(self.path)
        values = View.of(image.affine).stored(pixels[:, 0])
        written = encode((values.astype(np.float64) - inter) / slope, stored.dtype)
        unchanged = values == physical(stored, slope, inter)
        written = np.where(unchanged, stored, written)
        return self._save(image, written, path, "synthetic counterfactual by counterscan", (slope, inter))

    def write_mask(self, mask: np.ndarray, path: Path) -> Path:
        image, _, _ = load(self.path)
        values = View.of(image.affine).stored(mask).astype(np.uint8)
        image.header["cal_min"] = image.header["cal_max"] = 0
        return self._save(image, values, path, "mask by counterscan", (1.0, 0.0))

    def _save(
        self, image: nibabel.Nifti1Image, stored: np.ndarray, path: Path, words: str, scaling: tuple[float, float]
    ) -> Path:
        header = image.header.copy()
        header.extensions.clear()  # these, and the texts below, may name the patient
        header["db_name"] = header["aux_file"] = header["intent_name"] = b""
        header["descrip"] = words.encode()
        header.set_data_dtype(stored.dtype)
        result = type(image)(stored.reshape(image.shape), image.affine, header)
        result.header.set_slope_inter(*scaling)  # set, so that nibabel writes the stored values as they are
        content = result.to_bytes()
        path = with_suffix(path, self.suffix, SUFFIXES["nifti"])
        return write_whole(path, gzip.compress(content, 6, mtime=0) if path.suffix == ".gz" else content)


def read(path: Path, kind: str = "nifti") -> Scan:
    """Read a slice or a volume; values are `stored * scl_slope + scl_inter`."""
    image, stored, (slope, inter) = load(path)
    values = physical(stored, slope, inter)
    if not np.isfinite(values).all():
        raise ScanError(f"{path} holds NaN or infinite values; replace them by numbers (fslmaths IN -nan OUT)")
    view = View.of(image.affine)
    pixels = np.ascontiguousarray(view.shown(values)[:, None])
    affine = view.affine(image.affine, stored.shape)
    column, row, slice_ = (float(step) for step in np.linalg.norm(affine[:3, :3], axis=0))
    return Scan(
        pixels,
        _window(image, pixels),
        path,
        kind,
        str(stored.dtype),
        NiftiFile(path),
        unit=None,
        spacing=(row, column, slice_),
        affine=affine,
    )


def load(path: Path) -> tuple[nibabel.Nifti1Image, np.ndarray, tuple[float, float]]:
    """The image, its stored values `(i, j, k)` and their slope and intercept."""
    if not path.name.lower().endswith(SUFFIXES["nifti"]):
        raise ScanError(f"{path} is a NIfTI file under another name; rename it to end in .nii or .nii.gz")
    image = nibabel.load(path)
    assert isinstance(image, nibabel.Nifti1Image)
    data: Any = image.dataobj  # an ArrayProxy, of which nibabel's types know little
    stored = np.asarray(data.get_unscaled())
    if stored.dtype.kind not in "iuf":
        raise ScanError(f"{path} holds {stored.dtype} values, not plain numbers; convert it to grey values")
    if 0 in stored.shape or stored.ndim < 2 or any(length > 1 for length in stored.shape[3:]):
        raise ScanError(f"{path} has shape {stored.shape}; save one slice (h, w) or one volume (h, w, slices) a file")
    return image, stored.reshape((*stored.shape, 1)[:3]), (float(data.slope), float(data.inter))


def physical(stored: np.ndarray, slope: float, inter: float) -> np.ndarray:
    """float32 `stored * slope + inter`, rounded once."""
    plain = (slope, inter) == (1.0, 0.0)
    return stored.astype(np.float32) if plain else (stored.astype(np.float64) * slope + inter).astype(np.float32)


def _window(image: nibabel.Nifti1Image, pixels: np.ndarray) -> Window:
    low, high = float(image.header["cal_min"]), float(image.header["cal_max"])
    return Window(low, high) if np.isfinite([low, high]).all() and low < high else range_window(pixels)
