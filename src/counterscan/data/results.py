"""Masks, heat maps and reports in the format of a scan; for DICOM as the objects that its viewers and archives know."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import pydicom
from pydicom import Dataset

from counterscan.data import nifti_slices
from counterscan.data.capture import heatmap_capture, mask_capture
from counterscan.data.derived import save
from counterscan.data.files import SUFFIXES, with_suffix
from counterscan.data.maker import Maker
from counterscan.data.measurements import Numbers, report
from counterscan.data.parametric import parametric_map
from counterscan.data.scans import Scan, one_line
from counterscan.data.segmentation import REFUSALS, segmentation

Build = Callable[[Sequence[Dataset], np.ndarray, Maker], Dataset]


@runtime_checkable
class DicomSource(Protocol):
    """A source of one or several DICOM files."""

    def datasets(self) -> list[Dataset]:
        """The heads of its files."""
        ...

    def as_stored(self, slices: np.ndarray) -> np.ndarray:
        """What belongs to the scan's slices `(slices, ...)`, in the order of the frames or files."""
        ...


@runtime_checkable
class MapSource(Protocol):
    """A source whose format holds float values."""

    def write_map(self, values: np.ndarray, path: Path) -> Path:
        """Write float32 `values` `(slices, h, w)` in the source's geometry."""
        ...


def write_mask(scan: Scan, mask: np.ndarray, path: Path, maker: Maker) -> Path:
    """Write a boolean `mask` `(slices, h, w)` as `Scan.write_mask` does; a DICOM SEG says who made it."""
    if not isinstance(scan.source, DicomSource):
        return scan.write_mask(mask, path)
    return save_mask(scan.source.datasets(), scan.source.as_stored(np.asarray(mask, bool)), path, maker)


def write_masks(scan: Scan, masks: Iterable[np.ndarray], path: Path, maker: Maker) -> Path:
    """`write_mask` for the boolean masks `(h, w)` of a scan's slices as they come.

    They go straight into a NIfTI file; a DICOM SEG is made of all of them, a bit a pixel when it is written.
    """
    if scan.format == "nifti":
        with one_line(scan.path, scan.format):
            return nifti_slices.write_masks(scan.path, masks, with_suffix(path, scan.mask_suffix, SUFFIXES["nifti"]))
    slices, _, height, width = scan.pixels.shape
    mask = np.empty((slices, height, width), bool)
    for index, one in enumerate(masks):
        mask[index] = one
    return write_mask(scan, mask, path, maker)


def write_heatmap(scan: Scan, values: np.ndarray, path: Path, maker: Maker) -> Path | None:
    """Write a map `(slices, h, w)` of the scan's size that is not negative; None where its format holds no floats.

    DICOM gets a Parametric Map, or a 16-bit secondary capture where a map cannot refer to the source.
    """
    values = np.asarray(values, np.float32)
    if isinstance(scan.source, DicomSource):
        datasets, stored = scan.source.datasets(), scan.source.as_stored(values)
        if not datasets[0].get("FrameOfReferenceUID"):  # as in nearly every radiograph: no reason to warn each time
            return save(heatmap_capture(datasets, stored, maker), path)
        return save(_built(parametric_map, heatmap_capture, datasets, stored, maker), path)
    return scan.source.write_map(values, path) if isinstance(scan.source, MapSource) else None


def write_report(
    scan: Scan, mask: np.ndarray, numbers: Numbers, beside: Sequence[Path], path: Path, maker: Maker
) -> Path | None:
    """Write the numbers of a DICOM scan as an SR that points to it and to the results `beside`.

    None for other formats, and where highdicom is not installed.
    """
    if not isinstance(scan.source, DicomSource):
        return None
    files = [file for one in beside for file in (sorted(one.glob("*.dcm")) if one.is_dir() else [one])]
    heads = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
    numbers = replace(numbers, shown=int(scan.source.as_stored(np.arange(len(scan)) == numbers.shown).argmax()))
    mask = scan.source.as_stored(np.asarray(mask, bool))
    try:
        return save(report(scan.source.datasets(), mask, numbers, heads, maker), path)
    except ImportError:
        return None


def save_mask(datasets: Sequence[Dataset], mask: np.ndarray, path: Path, maker: Maker | None = None) -> Path:
    """Write a mask `(slices, h, w)` in the order of `datasets` (or of the frames of the one there is) as a SEG.

    Without highdicom, and for a source that no SEG can refer to (a warning says so), as an 8-bit secondary capture.
    """
    return save(_built(segmentation, mask_capture, datasets, mask, maker or Maker()), path)


def _built(wanted: Build, instead: Build, datasets: Sequence[Dataset], content: np.ndarray, maker: Maker) -> Dataset:
    try:
        return wanted(datasets, content, maker)
    except ImportError:
        return instead(datasets, content, maker)
    except REFUSALS as error:
        reason = " ".join(str(error).split())
        what = "mask" if wanted is segmentation else "heat map"
        warnings.warn(f"{datasets[0].filename}: {what} written as a picture ({reason})", stacklevel=5)
        return instead(datasets, content, maker)
