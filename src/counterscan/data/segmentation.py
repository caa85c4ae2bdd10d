"""Masks for DICOM: a segmentation object where highdicom is installed, else an 8-bit picture in the same place."""

import warnings
from importlib import metadata
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid

from counterscan.data.anonymous import anonymous
from counterscan.data.dicom import derived, set_pixels, sop_class, sop_instance

# Where the pixels lie and what they belong to; nothing else of the source goes into a mask picture.
_PLACE = """
FrameOfReferenceUID PositionReferenceIndicator ImagePositionPatient ImageOrientationPatient PixelSpacing
ImagerPixelSpacing SliceThickness SliceLocation InstanceNumber PatientOrientation Laterality Rows Columns
PatientName PatientID PatientBirthDate PatientSex PatientIdentityRemoved DeidentificationMethod
ReferringPhysicianName AccessionNumber StudyID StudyDate StudyTime StudyInstanceUID SpecificCharacterSet
"""
PLACE = tuple(_PLACE.split())


def segmentation(dataset: Dataset, mask: np.ndarray) -> Dataset | None:
    """A BINARY segmentation of `mask` `(1, h, w)` on the source image.

    None without highdicom, and for a source that lacks what a segmentation must refer to (a CT slice without a frame
    of reference, for example).
    """
    try:
        import highdicom
    except ImportError:
        return None
    head, version = derived(dataset, mask, "mask"), metadata.version("counterscan")
    try:
        return highdicom.seg.Segmentation(
            source_images=[_complete(dataset)],
            pixel_array=mask.astype(np.uint8),
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[_evidence(version)],
            series_instance_uid=head.SeriesInstanceUID,
            series_number=int(head.SeriesNumber) + 1,
            sop_instance_uid=head.SOPInstanceUID,
            instance_number=1,
            manufacturer="counterscan",
            manufacturer_model_name="counterscan",
            software_versions=version,
            device_serial_number="0",
            omit_empty_frames=False,
            series_description="Mask by counterscan",
        )
    except (ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())
        warnings.warn(f"{dataset.filename}: mask written as a picture, not as a segmentation ({reason})", stacklevel=4)
        return None


def _evidence(version: str) -> Any:
    """The one segment: a lesion, found by this program."""
    import highdicom
    from pydicom.sr.codedict import codes

    return highdicom.seg.SegmentDescription(
        segment_number=1,
        segment_label="evidence",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Lesion,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            "counterscan", codes.DCM.ArtificialIntelligence, version
        ),
    )


def _complete(dataset: Dataset) -> Dataset:
    """The source without its patient, with the attributes that a segmentation must refer to."""
    source = anonymous(dataset)
    source.file_meta = dataset.file_meta
    source.SOPClassUID, source.SOPInstanceUID = sop_class(dataset), sop_instance(dataset)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
        if not source.get(keyword):
            setattr(source, keyword, generate_uid(entropy_srcs=[source.SOPInstanceUID, keyword]))
    return source


def mask_capture(dataset: Dataset, mask: np.ndarray) -> Dataset:
    """The mask `(1, h, w)` as an 8-bit secondary capture (0 and 255) that lies where its source lies."""
    head = derived(dataset, mask, "mask")
    result = Dataset()
    for keyword in PLACE:
        if keyword in head:
            result[keyword] = head[keyword]
    result.SOPClassUID = SecondaryCaptureImageStorage
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "SourceImageSequence"):
        setattr(result, keyword, getattr(head, keyword))
    result.SeriesNumber = int(head.SeriesNumber) + 1
    result.Modality, result.ConversionType = "OT", "WSD"
    result.ImageType = ["DERIVED", "SECONDARY"]
    result.SeriesDescription = "Mask by counterscan"
    result.DerivationDescription = "Mask by counterscan: where the evidence lies (255)"
    result.PhotometricInterpretation, result.BurnedInAnnotation = "MONOCHROME2", "NO"
    result.BitsAllocated = result.BitsStored = 8
    result.HighBit, result.PixelRepresentation = 7, 0
    set_pixels(result, mask.astype(np.uint8) * 255)
    return result
