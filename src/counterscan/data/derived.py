"""Derived DICOM objects: the head that every result shares, its pixels, and the file that is whole or not there."""

import hashlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from counterscan.data.anonymous import anonymous
from counterscan.data.files import SUFFIXES, with_suffix, written_whole
from counterscan.data.maker import NAME, Maker

STALE = (  # what the source says of its own pixels, and the result's pixels no longer bear out
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "PixelDataProviderURL",
)
SERIES = {"counterfactual": 9000, "mask": 9001, "heatmap": 9002, "report": 9003}  # added to the source's series number


def derived(dataset: Dataset, pixels: np.ndarray, what: str) -> Dataset:
    """The head of a derived copy: no patient, UIDs of its own, marked synthetic, pointing to its source.

    UIDs follow from the source and the pixels, so that the same result has the same UID.
    """
    result = anonymous(dataset)
    for keyword in STALE:
        if keyword in result:
            delattr(result, keyword)
    source_class, source_instance = sop_class(dataset), sop_instance(dataset)
    digest = hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()
    result.SOPClassUID = source_class
    result.SOPInstanceUID = generate_uid(entropy_srcs=[source_instance, what, digest])
    result.SeriesInstanceUID = series_uid(dataset, what)
    result.StudyInstanceUID = study_uid(dataset)
    result.SeriesNumber = series_number(dataset, what)
    _mark_type(result, dataset)
    result.SyntheticData = "YES"
    result.DerivationDescription = f"Synthetic {what} by counterscan: not a recording of the patient, not for diagnosis"
    result.SeriesDescription = f"SYNTHETIC {what} (counterscan)"
    result.SourceImageSequence = [reference(source_class, source_instance)]
    result.ContributingEquipmentSequence = [equipment()]
    return result


def _mark_type(result: Dataset, dataset: Dataset) -> None:
    """DERIVED\\SECONDARY; enhanced multi-frame classes allow DERIVED\\PRIMARY only, and say it of frames, too."""
    enhanced = "SharedFunctionalGroupsSequence" in result
    start = ["DERIVED", "PRIMARY" if enhanced else "SECONDARY"]
    result.ImageType = start + _many(dataset.get("ImageType"))[2:]
    if "ContentQualification" in result:
        result.ContentQualification = "RESEARCH"
    for item in _frame_types(result):
        item.FrameType = start + _many(item.FrameType)[2:]
    if enhanced:  # type 1 there, and taken out with all dates
        now = datetime.now()
        result.ContentDate, result.ContentTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")


def _frame_types(dataset: Dataset) -> Iterator[Dataset]:
    for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in dataset.get(name, []):
            for element in group:
                if element.VR == "SQ":
                    yield from (item for item in element.value if "FrameType" in item)


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


def study_uid(dataset: Dataset) -> str:
    """The study that the source is in, or one made for it."""
    made = generate_uid(entropy_srcs=[sop_instance(dataset), "StudyInstanceUID"])
    return str(dataset.get("StudyInstanceUID") or made)


def series_uid(dataset: Dataset, what: str) -> str:
    """The one new series for results of this kind on the source's series."""
    return generate_uid(entropy_srcs=[str(dataset.get("SeriesInstanceUID") or sop_instance(dataset)), what])


def series_number(dataset: Dataset, what: str) -> int:
    """A number far from those that scanners give, with the source's as its end."""
    return int(dataset.get("SeriesNumber") or 0) + SERIES[what]


def referable(dataset: Dataset) -> Dataset:
    """The source's head without its patient, with every UID that an object pointing to it needs."""
    source = anonymous(dataset)
    source.file_meta = dataset.file_meta
    source.SOPClassUID, source.SOPInstanceUID = sop_class(dataset), sop_instance(dataset)
    source.StudyInstanceUID = study_uid(dataset)
    if not source.get("SeriesInstanceUID"):
        source.SeriesInstanceUID = generate_uid(entropy_srcs=[source.SOPInstanceUID, "SeriesInstanceUID"])
    return source


LINKS = (  # what an object that points to the slices of a series asks of each; none of it tells who the patient is
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "Modality",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "InstanceNumber",
    "SpecificCharacterSet",
)


def linked(dataset: Dataset) -> Dataset:
    """`referable` of a slice that is not the first: its UIDs and its place, so that hundreds take little memory."""
    bare = Dataset()
    for keyword in LINKS:
        if keyword in dataset:
            bare[keyword] = dataset[keyword]
    bare.SOPClassUID, bare.SOPInstanceUID = sop_class(dataset), sop_instance(dataset)
    return bare


def reference(source_class: str, source_instance: str) -> Dataset:
    """An item that points to the image a result came from."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source_class, source_instance
    item.PurposeOfReferenceCodeSequence = [_dcm("121322", "Source image for image processing operation")]
    return item


def equipment() -> Dataset:
    """An item that says which program made a result out of what a scanner recorded."""
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [_dcm("109102", "Processing Equipment")]
    item.Manufacturer = item.ManufacturerModelName = NAME
    item.SoftwareVersions = Maker().version
    item.ContributionDescription = "Changed the pixels (synthetic image)"
    return item


def _dcm(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return code


def set_pixels(result: Dataset, stored: np.ndarray) -> None:
    """Put stored values `([frames,] c, h, w)` into a data set whose bits and sign say how."""
    frames = stored[None] if stored.ndim == 3 else stored
    colour = frames.shape[1] == 3
    kind = "i" if int(result.get("PixelRepresentation") or 0) else "u"
    dtype = np.dtype(f"<{kind}{int(result.BitsAllocated) // 8}")
    result.SamplesPerPixel = 3 if colour else 1
    if colour:
        result.PhotometricInterpretation, result.PlanarConfiguration = "RGB", 0
    content = np.ascontiguousarray(np.moveaxis(frames, 1, -1).astype(dtype)).tobytes()
    result.add_new(0x7FE00010, "OB" if dtype.itemsize == 1 else "OW", content + b"\0" * (len(content) % 2))


def save(result: Dataset, path: Path) -> Path:
    """Write as uncompressed explicit little endian."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = result.SOPClassUID, result.SOPInstanceUID
    result.file_meta = meta
    with written_whole(with_suffix(path, ".dcm", SUFFIXES["dicom"])) as part:
        pydicom.dcmwrite(part, result, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return with_suffix(path, ".dcm", SUFFIXES["dicom"])
