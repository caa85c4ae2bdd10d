"""Masks and heat maps as secondary captures: pictures for sources that no DICOM segmentation or map can refer to."""

from collections.abc import Sequence

import numpy as np
from pydicom import Dataset
from pydicom.tag import Tag
from pydicom.uid import (
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from counterscan.data.derived import derived, set_pixels
from counterscan.data.maker import Maker

# Where the pixels lie and what they belong to; nothing else of the source goes into such a picture.
_PLACE = """
FrameOfReferenceUID PositionReferenceIndicator ImagePositionPatient ImageOrientationPatient PixelSpacing
ImagerPixelSpacing SliceThickness SliceLocation InstanceNumber PatientOrientation Rows Columns
PatientName PatientID PatientBirthDate PatientSex PatientIdentityRemoved DeidentificationMethod
ReferringPhysicianName AccessionNumber StudyID StudyDate StudyTime StudyInstanceUID SpecificCharacterSet
"""
PLACE = tuple(_PLACE.split())
SEVERAL = {
    8: MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    16: MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
}


def mask_capture(datasets: Sequence[Dataset], mask: np.ndarray, maker: Maker) -> Dataset:
    """The mask `(slices, h, w)` as 8-bit pictures (0 and 255) that lie where their source lies."""
    words = f"Mask by {maker.words}: where the evidence lies (255)"
    return _capture(datasets, mask.astype(np.uint8) * 255, "mask", words)


def heatmap_capture(datasets: Sequence[Dataset], values: np.ndarray, maker: Maker) -> Dataset:
    """The map `(slices, h, w)` as 16-bit pictures, whose description says what 65535 stands for."""
    top = float(values.max()) or 1.0
    stored = np.rint(values.clip(0) / top * 65535).astype(np.uint16)
    unit = " of the window changed" if maker.changes else ""
    return _capture(datasets, stored, "heatmap", f"Heat map by {maker.words}: 65535 is {top:.6g}{unit}")


def _capture(datasets: Sequence[Dataset], stored: np.ndarray, what: str, words: str) -> Dataset:
    head = derived(datasets[0], stored, what)
    result = Dataset()
    for keyword in PLACE:
        if keyword in head:
            result[keyword] = head[keyword]
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SourceImageSequence"):
        setattr(result, keyword, getattr(head, keyword))
    bits = stored.dtype.itemsize * 8
    result.SOPClassUID = SecondaryCaptureImageStorage
    result.Modality, result.ConversionType, result.Manufacturer = "OT", "WSD", "counterscan"
    result.ImageType = ["DERIVED", "SECONDARY"]
    result.Laterality = head.get("Laterality") or ""
    result.SeriesDescription = f"{'Mask' if what == 'mask' else 'Heat map'} by counterscan"
    result.DerivationDescription = words[:1024]
    result.PhotometricInterpretation, result.BurnedInAnnotation = "MONOCHROME2", "NO"
    result.BitsAllocated = result.BitsStored = bits
    result.HighBit, result.PixelRepresentation = bits - 1, 0
    if len(stored) > 1:
        _several(result, len(stored), bits)
    set_pixels(result, stored[:, None])
    return result


def _several(result: Dataset, frames: int, bits: int) -> None:
    """What the multi-frame classes ask for; the place of the first slice is not that of all."""
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "SliceLocation", "PixelSpacing"):
        if keyword in result:
            delattr(result, keyword)
    result.SOPClassUID = SEVERAL[bits]
    result.NumberOfFrames, result.InstanceNumber = frames, 1
    result.FrameIncrementPointer = Tag("PageNumberVector")
    result.PageNumberVector = list(range(1, frames + 1))
    result.RescaleSlope, result.RescaleIntercept, result.RescaleType = 1, 0, "US"
    result.PresentationLUTShape = "IDENTITY"
