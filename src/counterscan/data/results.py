"""Masks, heat maps and reports in the format of a scan; for DICOM as the objects that its viewers and archives know."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pydicom
from pydicom import Dataset

from counterscan.data import nifti_slices
from counterscan.data.bits import Bits
from counterscan.data.capture import heatmap_capture, mask_capture
from counterscan.data.derived import LINKS, save
from counterscan.data.files import SUFFIXES, with_suffix
from counterscan.data.lazy import Planes, Slices
from counterscan.data.maker import Maker
from counterscan.data.measurements import Numbers, report
from counterscan.data.opening import part_of
from counterscan.data.parametric import parametric_map
from counterscan.data.scans import Scan, one_line
from counterscan.data.segmentation import REFUSALS, segmentation
from counterscan.errors import CounterscanError, ScanError

Build = Callable[[Sequence[Dataset], Any, Maker], Dataset]


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

    def write_map(self, values: Any, path: Path) -> Path:
        """Write float32 `values` `(slices, h, w)` in the source's geometry."""
        ...


def write_mask(scan: Scan, mask: np.ndarray, path: Path, maker: Maker) -> Path:
    """Write a boolean `mask` `(slices, h, w)` as `Scan.write_mask` does; a DICOM SEG says who made it."""
    if not isinstance(scan.source, DicomSource):
        return scan.write_mask(mask, path)
    return write_masks(scan, mask, path, maker)


def write_masks(scan: Scan, masks: Iterable[np.ndarray], path: Path, maker: Maker) -> Path:
    """`write_mask` for the boolean masks `(h, w)` of a scan's slices as they come.

    They go straight into a NIfTI file; for a DICOM SEG all of them are kept, a bit a pixel.
    """
    if scan.format == "nifti":
        with telling(scan, "mask"):
            return nifti_slices.write_masks(scan.path, masks, with_suffix(path, scan.mask_suffix, SUFFIXES["nifti"]))
    slices, _, height, width = scan.pixels.shape
    if not isinstance(scan.source, DicomSource):
        return scan.write_mask(np.stack(list(masks)), path)
    with telling(scan, "mask"):
        bits = Bits.of(masks, (slices, height, width))
        return save_bits(scan.source.datasets(), bits.taken(scan.source.as_stored(np.arange(slices))), path, maker)


def write_change(scan: Scan, change: Any, path: Path) -> Path:
    """`Scan.write_change`; of a volume whose pixels stay in its files, slice by slice."""
    if not isinstance(scan.pixels, Slices):
        return scan.write_change(change, path)
    with telling(scan, "counterfactual"):
        return scan.source.write(_changed(scan, change), path)


def _changed(scan: Scan, change: Any) -> Iterator[np.ndarray]:
    for index in range(len(scan)):
        here = slice(index, index + 1)
        (image,) = part_of(scan, here).changed(change[here])
        if not np.isfinite(image).all():
            raise ScanError(f"a result for {scan.path} holds NaN or infinite values; it was not written")
        yield image


def write_heatmap(scan: Scan, values: np.ndarray | Planes, path: Path, maker: Maker) -> Path | None:
    """Write maps `(slices, h, w)` of the scan's size that are not negative; None where no floats can be held.

    They go slice by slice into a NIfTI file, and into the Parametric Map that DICOM gets; where a map cannot refer to
    the source that is a 16-bit secondary capture, for which they are gathered, as for all other formats.
    """
    if not isinstance(scan.source, DicomSource | MapSource):
        return None
    with telling(scan, "heat map"):
        if not isinstance(scan.source, DicomSource):
            one_by_one = (np.asarray(values[index], np.float32) for index in range(len(values)))
            return scan.source.write_map(one_by_one if scan.format == "nifti" else np.stack(list(one_by_one)), path)
        datasets, order = scan.source.datasets(), scan.source.as_stored(np.arange(len(values)))
        stored = Planes(values.shape, lambda index: values[order[index]])
        if not datasets[0].get("FrameOfReferenceUID"):  # as in nearly every radiograph: no reason to warn each time
            return save(heatmap_capture(datasets, np.asarray(stored), maker), path)
        return save(_built(parametric_map, _map_picture, datasets, stored, maker), path)


def write_report(
    scan: Scan, mask: np.ndarray | Bits, numbers: Numbers, beside: Sequence[Path], path: Path, maker: Maker
) -> Path | None:
    """Write the numbers of a DICOM scan as an SR that points to it and to the results `beside`.

    None for other formats, and where highdicom is not installed.
    """
    if not isinstance(scan.source, DicomSource):
        return None
    files = [file for one in beside for file in (sorted(one.glob("*.dcm")) if one.is_dir() else [one])]
    numbers = replace(numbers, shown=int(scan.source.as_stored(np.arange(len(scan)) == numbers.shown).argmax()))
    with telling(scan, "report"), suppress(ImportError):
        heads = [pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(LINKS)) for file in files]
        return save(report(scan.source.datasets(), mask, numbers, heads, maker), path)
    return None


@contextmanager
def telling(scan: Scan, what: str) -> Iterator[None]:
    """What highdicom, pydicom and nibabel raise over an odd head is nearly anything; a user is told in one line."""
    with one_line(scan.path, scan.format):
        try:
            yield
        except (CounterscanError, ImportError, MemoryError, OSError):
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise ScanError(
                f"{scan.path}: no {what} can be made of its head ({type(error).__name__}: {reason}); "
                "mend the head, or convert the image to NIfTI"
            ) from error


def save_mask(datasets: Sequence[Dataset], mask: np.ndarray, path: Path, maker: Maker | None = None) -> Path:
    """Write a mask `(slices, h, w)` in the order of `datasets` (or of the frames of the one there is) as a SEG.

    Without highdicom, and for a source that no SEG can refer to (a warning says so), as an 8-bit secondary capture.
    """
    return save_bits(datasets, Bits.of(mask, mask.shape), path, maker or Maker())


def save_bits(datasets: Sequence[Dataset], bits: Bits, path: Path, maker: Maker) -> Path:
    """`save_mask` for masks that are packed."""
    return save(_built(segmentation, _mask_picture, datasets, bits, maker), path)


def _map_picture(datasets: Sequence[Dataset], values: Planes, maker: Maker) -> Dataset:
    return heatmap_capture(datasets, np.asarray(values), maker)


def _mask_picture(datasets: Sequence[Dataset], bits: Bits, maker: Maker) -> Dataset:
    return mask_capture(datasets, bits.unpacked(), maker)


def _built(wanted: Build, instead: Build, datasets: Sequence[Dataset], content: Any, maker: Maker) -> Dataset:
    try:
        return wanted(datasets, content, maker)
    except ImportError:
        return instead(datasets, content, maker)
    except REFUSALS as error:
        reason = " ".join(str(error).split())
        what = "mask" if wanted is segmentation else "heat map"
        warnings.warn(f"{datasets[0].filename}: {what} written as a picture ({reason})", stacklevel=6)
        return instead(datasets, content, maker)
