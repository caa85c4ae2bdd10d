"""DICOM single frames: read with their rescale and window, written back as derived copies without the patient."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from counterscan.data.anonymous import anonymous
from counterscan.data.files import SUFFIXES, with_suffix, write_whole
from counterscan.data.scans import Scan
from counterscan.data.window import Window, range_window
from counterscan.errors import ScanError

GREY = ("MONOCHROME1", "MONOCHROME2")
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
STALE = (  # what the source says of its own pixels, and the result's pixels no longer bear out
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "PixelDataProviderURL",
)


@dataclass(frozen=True)
class DicomFile:
    """A DICOM file; what it holds is read again when a result is written, so that memory holds one copy."""

    path: Path
    has_unit: bool = True

    @property
    def suffix(self) -> str:
        return ".dcm"

    @property
    def mask_suffix(self) -> str:
        return ".dcm"

    def rescaled(self, scan: Scan, slope: float, intercept: float) -> Scan:
        return scan

    def write(self, pixels: np.ndarray, path: Path) -> Path:
        dataset, stored = load(self.path)
        result = derived(dataset, pixels, "counterfactual")
        written = from_physical(dataset, pixels[0])
        unchanged = pixels[0] == to_physical(dataset, stored)
        set_pixels(result, np.where(unchanged, _channels_first(stored), written))
        return save(result, path)

    def write_mask(self, mask: np.ndarray, path: Path) -> Path:
        from counterscan.data.segmentation import mask_capture, segmentation

        dataset, _ = load(self.path)
        result = segmentation(dataset, mask) or mask_capture(dataset, mask)
        return save(result, path)


def read(path: Path, kind: str = "dicom") -> Scan:
    """Read a single frame: modality rescale applied, the first VOI window kept, MONOCHROME1 turned bright for high."""
    dataset, stored = load(path)
    pixels = to_physical(dataset, stored)[None]
    unit = unit_of(dataset)
    affine = affine_of(dataset)
    spacing = dataset.get("PixelSpacing") or dataset.get("ImagerPixelSpacing")
    return Scan(
        np.ascontiguousarray(pixels),
        window_of(dataset, stored, pixels, unit),
        path,
        kind,
        str(stored.dtype),
        DicomFile(path),
        unit=unit,
        modality=str(dataset.get("Modality", "")),
        spacing=tuple(float(one) for one in spacing) if spacing else None,
        affine=affine,
    )


def load(path: Path) -> tuple[Dataset, np.ndarray]:
    """The data set and its stored values, `(h, w)` or `(h, w, 3)`; ScanError for what is no single frame."""
    dataset = pydicom.dcmread(path, force=True)
    _check(dataset, path)
    try:
        stored = dataset.pixel_array
    except Exception as error:  # each decoder raises its own kind
        reason = " ".join(str(error).split())[:200]
        syntax = dataset.file_meta.get("TransferSyntaxUID")
        if syntax is not None and syntax.is_compressed:
            cure = "if the file is whole, run: pip install 'counterscan[dicom]'"
            raise ScanError(f"{path} is compressed ({syntax.name}) and cannot be decoded; {cure} ({reason})") from error
        raise ScanError(f"{path} is damaged: its pixels cannot be read ({reason}); copy it again") from error
    if stored.dtype.kind not in "iu":
        raise ScanError(f"{path} holds {stored.dtype} pixels (a parametric map?); name the image it came from")
    return dataset, stored


def _check(dataset: Dataset, path: Path) -> None:
    photometric = dataset.get("PhotometricInterpretation")
    if "PixelData" not in dataset or not dataset.get("Rows"):
        what = dataset.get("Modality") or "no modality"
        raise ScanError(f"{path} is a DICOM file without an image ({what}); name the images themselves")
    if int(dataset.get("BitsAllocated", 16)) == 1 or dataset.get("Modality") == "SEG":
        raise ScanError(f"{path} is a DICOM segmentation, not an image; name the image it belongs to")
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise ScanError(f"{path} has {dataset.NumberOfFrames} frames; save each frame as a file of its own")
    if photometric not in (*GREY, *COLOUR):
        raise ScanError(f"{path} is {photometric}; only {', '.join((*GREY, 'RGB', 'YBR'))} can be read, convert it")
    if "ModalityLUTSequence" in dataset:
        raise ScanError(f"{path} uses a modality look-up table, which cannot be undone; convert it to a linear rescale")


def _rescale(dataset: Dataset) -> tuple[float, float]:
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    slope = 1.0 if slope is None else float(slope)
    if slope == 0 or not np.isfinite(slope):
        raise ScanError(f"{dataset.filename} has a rescale slope of {slope}, which cannot be undone; correct the tag")
    return slope, 0.0 if intercept is None else float(intercept)


def _limits(dataset: Dataset) -> tuple[int, int]:
    """The lowest and the highest value that the stored bits can hold."""
    bits = int(dataset.get("BitsStored") or dataset.BitsAllocated)
    signed = int(dataset.get("PixelRepresentation") or 0)
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)


def _mirror(dataset: Dataset) -> float | None:
    """Low plus high of the physical range, where MONOCHROME1 shows low values bright; else None."""
    if dataset.PhotometricInterpretation != "MONOCHROME1":
        return None
    slope, intercept = _rescale(dataset)
    return sum(_limits(dataset)) * slope + 2 * intercept


def to_physical(dataset: Dataset, stored: np.ndarray) -> np.ndarray:
    """Stored `(h, w[, 3])` to float32 `(c, h, w)` in physical units, bright for high."""
    slope, intercept = _rescale(dataset)
    values = _channels_first(stored).astype(np.float64) * slope + intercept
    mirror = _mirror(dataset)
    return (values if mirror is None else mirror - values).astype(np.float32)


def from_physical(dataset: Dataset, pixels: np.ndarray) -> np.ndarray:
    """The inverse of `to_physical`, rounded and held within the stored bits, still `(c, h, w)`."""
    slope, intercept = _rescale(dataset)
    mirror = _mirror(dataset)
    values = pixels.astype(np.float64) if mirror is None else mirror - pixels.astype(np.float64)
    return np.clip(np.rint((values - intercept) / slope), *_limits(dataset)).astype(np.int64)


def _channels_first(stored: np.ndarray) -> np.ndarray:
    return stored[None] if stored.ndim == 2 else stored.transpose(2, 0, 1)


def unit_of(dataset: Dataset) -> str:
    """What RescaleType says, HU for CT where it says nothing, else none."""
    told = str(dataset.get("RescaleType") or "")
    if told:
        return "" if told == "US" else told  # US: unspecified
    return "HU" if dataset.get("Modality") == "CT" else ""


def window_of(dataset: Dataset, stored: np.ndarray, pixels: np.ndarray, unit: str) -> Window:
    """The first VOI window (PS3.3 C.11.2), else all of 8 bits, else nearly all of the values there are."""
    centre, width = (_first(dataset.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if stored.ndim == 3:
        return Window(0, 255 if stored.dtype == np.uint8 else float(np.iinfo(stored.dtype).max), unit)
    if centre is not None and width is not None and width > 1:
        exact = str(dataset.get("VOILUTFunction") or "LINEAR") != "LINEAR"
        low, high = (centre - width / 2, centre + width / 2) if exact else (centre - width / 2, centre + width / 2 - 1)
        mirror = _mirror(dataset)
        return Window(low, high, unit) if mirror is None else Window(mirror - high, mirror - low, unit)
    if _limits(dataset) == (0, 255):
        slope, intercept = _rescale(dataset)
        ends = sorted((intercept, 255 * slope + intercept))
        return Window(ends[0], ends[1], unit)
    return range_window(pixels, unit)


def _first(value: Any) -> float | None:
    if value is None or value == "":
        return None
    many = value if isinstance(value, pydicom.multival.MultiValue) else [value]
    return float(many[0]) if len(many) else None


def affine_of(dataset: Dataset) -> np.ndarray | None:
    """(column, row, slice) to RAS+ millimetres, where the file says where the patient lay (PS3.3 C.7.6.2.1.1)."""
    position, orientation, spacing = (
        dataset.get(name) for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    )
    if not (position and orientation and spacing):
        return None
    along_row, along_column = np.array(orientation[:3], float), np.array(orientation[3:], float)
    affine = np.eye(4)
    affine[:3, 0] = along_row * float(spacing[1])
    affine[:3, 1] = along_column * float(spacing[0])
    affine[:3, 2] = np.cross(along_row, along_column) * float(dataset.get("SliceThickness") or 1)
    affine[:3, 3] = np.array(position, float)
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # DICOM counts to the left and to the back


def derived(dataset: Dataset, pixels: np.ndarray, what: str) -> Dataset:
    """The head of a derived copy: no patient, UIDs of its own, marked synthetic, pointing to its source.

    UIDs follow from the source and the pixels, so that the same result has the same UID.
    """
    result = anonymous(dataset)
    for keyword in STALE:
        if keyword in result:
            delattr(result, keyword)
    source_class, source_instance = sop_class(dataset), sop_instance(dataset)
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    result.SOPClassUID = source_class
    result.SOPInstanceUID = generate_uid(entropy_srcs=[source_instance, what, digest])
    result.SeriesInstanceUID = generate_uid(
        entropy_srcs=[str(dataset.get("SeriesInstanceUID") or source_instance), what]
    )
    result.StudyInstanceUID = str(
        dataset.get("StudyInstanceUID") or generate_uid(entropy_srcs=[source_instance, "StudyInstanceUID"])
    )
    result.SeriesNumber = int(dataset.get("SeriesNumber") or 0) + 9000
    result.ImageType = ["DERIVED", "SECONDARY", *list(_many(dataset.get("ImageType")))[2:]]
    result.DerivationDescription = f"Synthetic {what} by counterscan: not a recording of the patient, not for diagnosis"
    result.SeriesDescription = f"SYNTHETIC {what} (counterscan)"
    result.SourceImageSequence = [reference(source_class, source_instance)]
    return result


def _many(value: Any) -> list[str]:
    if not value:
        return []
    return [value] if isinstance(value, str) else [str(one) for one in value]


def sop_class(dataset: Dataset) -> str:
    """The SOP class, from the file's head or the modality where the data set leaves it empty."""
    told = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")
    return str(told or (CTImageStorage if dataset.get("Modality") == "CT" else SecondaryCaptureImageStorage))


def sop_instance(dataset: Dataset) -> str:
    """The SOP instance, or one made from the file's name where it is missing."""
    return str(dataset.get("SOPInstanceUID") or generate_uid(entropy_srcs=[str(dataset.filename)]))


def reference(source_class: str, source_instance: str) -> Dataset:
    """An item that points to the image a result came from."""
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "121322", "DCM"
    purpose.CodeMeaning = "Source image for image processing operation"
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source_class, source_instance
    item.PurposeOfReferenceCodeSequence = [purpose]
    return item


def set_pixels(result: Dataset, stored: np.ndarray) -> None:
    """Put stored values `(c, h, w)` into a data set whose bits and sign say how."""
    colour = len(stored) == 3
    kind = "i" if int(result.get("PixelRepresentation") or 0) else "u"
    dtype = np.dtype(f"<{kind}{int(result.BitsAllocated) // 8}")
    result.SamplesPerPixel = 3 if colour else 1
    if colour:
        result.PhotometricInterpretation, result.PlanarConfiguration = "RGB", 0
    content = np.ascontiguousarray(stored.transpose(1, 2, 0).astype(dtype)).tobytes()
    result.add_new(0x7FE00010, "OB" if dtype.itemsize == 1 else "OW", content + b"\0" * (len(content) % 2))


def save(result: Dataset, path: Path) -> Path:
    """Write as uncompressed explicit little endian."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = result.SOPClassUID, result.SOPInstanceUID
    result.file_meta = meta
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, result, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return write_whole(with_suffix(path, ".dcm", SUFFIXES["dicom"]), buffer.getvalue())
