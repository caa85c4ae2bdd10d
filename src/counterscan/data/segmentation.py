"""Masks for DICOM: a segmentation object on its image or series."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.uid import generate_uid

from counterscan.data.bits import Bits
from counterscan.data.derived import derived, linked, referable, series_number, series_uid, sop_instance
from counterscan.data.maker import NAME, Maker

# How highdicom says that a source lacks something: a frame of reference, a position, an orientation for all frames.
REFUSALS = (ValueError, AttributeError, TypeError, KeyError, IndexError, RuntimeError)


def identity(datasets: Sequence[Dataset], content: np.ndarray, what: str, maker: Maker) -> dict[str, Any]:
    """Series, instance and equipment of a result that highdicom builds; UIDs follow from source and content."""
    return {
        "series_instance_uid": series_uid(datasets[0], what),
        "series_number": series_number(datasets[0], what),
        "sop_instance_uid": derived(datasets[0], content, what).SOPInstanceUID,
        "instance_number": 1,
        "manufacturer": NAME,
        "manufacturer_model_name": maker.name,
        "software_versions": maker.version,
        "device_serial_number": "0",
    }


def segmentation(datasets: Sequence[Dataset], mask: Bits, maker: Maker) -> Dataset:
    """A BINARY segmentation of `mask` on the source images, which are in the order of the slices.

    highdicom makes all but the pixels, of which it would need a byte each: it is shown a mask that takes no memory.
    Empty frames are kept, so that a reader gets the grid of the source. Raises ImportError without highdicom, one of
    `REFUSALS` for a source that a segmentation cannot refer to (a CT slice without a frame of reference, several frames
    without positions).
    """
    import highdicom

    result = highdicom.seg.Segmentation(
        source_images=[referable(datasets[0]), *(linked(dataset) for dataset in datasets[1:])],
        pixel_array=np.broadcast_to(np.uint8(0), mask.shape),
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_evidence(datasets, maker)],
        omit_empty_frames=False,
        content_label="EVIDENCE",
        content_description=f"Where the evidence lies, by {maker.name}"[:64],
        series_description="Mask by counterscan",
        **identity(datasets, mask.packed, "mask", maker),
    )
    if int(result.NumberOfFrames) != len(mask):  # so it does where the class of the source has no frames
        raise ValueError(f"the source has {len(mask)} slices, of which highdicom sees {result.NumberOfFrames}")
    result["PixelData"].value = mask.taken(_order(result, datasets)).content()
    shared = result.SharedFunctionalGroupsSequence[0]
    if "FrameOfReferenceUID" not in result and "PixelMeasuresSequence" in shared:
        del shared.PixelMeasuresSequence  # without a slice thickness highdicom could not read it back
    result.PatientOrientation = datasets[0].get("PatientOrientation") or ""  # highdicom leaves it out
    return result


def _order(result: Dataset, datasets: Sequence[Dataset]) -> list[int]:
    """The source slice that each frame of a result is of: highdicom sorts frames by where they lie."""
    place = {sop_instance(dataset): index for index, dataset in enumerate(datasets)}
    if len(place) < len(datasets):
        raise ValueError("several slices have the same SOPInstanceUID, so none can be pointed to")
    if int(result.NumberOfFrames) == 1:
        return [0]
    order = []
    for group in result.PerFrameFunctionalGroupsSequence:
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        frame = source.get("ReferencedFrameNumber")
        order.append(place[str(source.ReferencedSOPInstanceUID)] if frame is None else int(frame) - 1)
    return order


def _evidence(datasets: Sequence[Dataset], maker: Maker) -> Any:
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
            maker.name, codes.DCM.ArtificialIntelligence, maker.version, NAME, maker.parameters or None
        ),
        tracking_uid=generate_uid(entropy_srcs=[series_uid(datasets[0], "mask"), "evidence"]),
        tracking_id="evidence",
    )
