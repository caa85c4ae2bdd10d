"""The numbers of an explanation as a DICOM measurement report (TID 1500), which points to images, mask and map."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.uid import SegmentationStorage, generate_uid

from counterscan.data.bits import Bits
from counterscan.data.derived import referable, series_uid, sop_instance
from counterscan.data.maker import NAME, Maker
from counterscan.data.segmentation import identity

SCHEME = "99COUNTERSCAN"  # of codes that no standard has


@dataclass(frozen=True)
class Numbers:
    """What a report says: the probability of each class before and after, of the slice `shown`, and what came of it.

    `after` and `found` are None for an attribution, which changes nothing; `already` says that the answer was the
    target before; `spacing` is (row, column[, slice]) in millimetres where it is known.
    """

    classes: tuple[str, ...]
    before: tuple[float, ...]
    after: tuple[float, ...] | None = None
    found: bool | None = None
    already: bool = False
    shown: int = 0
    spacing: tuple[float, ...] | None = None


def extent(mask: np.ndarray | Bits, spacing: tuple[float, ...] | None) -> tuple[float, str]:
    """How large a mask `(slices, h, w)` is: in `ml` for volumes, `mm2` for images, `pixels` without a spacing.

    A radiograph whose file knows the spacing at the detector only is measured there, magnified.
    """
    count = int(mask.sum())
    if spacing is not None and len(mask) == 1:
        return count * spacing[0] * spacing[1], "mm2"
    if spacing is not None and len(spacing) == 3:
        return count * spacing[0] * spacing[1] * spacing[2] / 1000, "ml"
    return float(count), "pixels"


def report(
    datasets: Sequence[Dataset], mask: np.ndarray | Bits, numbers: Numbers, beside: Sequence[Dataset], maker: Maker
) -> Dataset:
    """The report on the source images, in the order of the slices; `beside` are the other results (mask, map, copy).

    Raises ImportError without highdicom.
    """
    import highdicom
    from pydicom.sr.codedict import codes

    sources = [referable(dataset) for dataset in datasets]
    groups = [_evidence(sources, mask, numbers, beside, maker)]
    groups += [_answer(sources, index, numbers, maker) for index in range(len(numbers.classes))]
    content = highdicom.sr.MeasurementReport(
        observation_context=_observer(maker),
        procedure_reported=codes.SCT.ImagingProcedure,
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    told = np.frombuffer(repr((numbers, mask.shape, extent(mask, numbers.spacing))).encode(), np.uint8)
    return highdicom.sr.Comprehensive3DSR(
        evidence=[*sources, *beside],
        content=content[0],
        series_description="Numbers by counterscan",
        is_complete=True,
        **identity(datasets, told, "report", maker),
    )


def _observer(maker: Maker) -> Any:
    import highdicom
    from pydicom.sr.codedict import codes

    device = highdicom.sr.DeviceObserverIdentifyingAttributes(
        uid=generate_uid(entropy_srcs=[NAME, maker.version]),
        name=NAME,
        manufacturer_name=NAME,
        model_name=maker.name,
    )
    context = highdicom.sr.ObserverContext(codes.DCM.Device, device)
    return highdicom.sr.ObservationContext(observer_device_context=context)


def _evidence(
    sources: Sequence[Dataset], mask: np.ndarray | Bits, numbers: Numbers, beside: Sequence[Dataset], maker: Maker
) -> Any:
    """How large the mask is, and whether the answer was reached; on the segment, unless that is empty."""
    import highdicom
    from pydicom.sr.codedict import codes

    facts: dict[str, Any] = {
        "tracking_identifier": _tracking(sources, "evidence"),
        "finding_type": codes.SCT.Lesion,
        "finding_category": codes.SCT.MorphologicallyAbnormalStructure,
        "algorithm_id": _algorithm(maker),
        "measurements": [_size(mask, numbers)],
        "qualitative_evaluations": _outcome(numbers),
    }
    segments = [one for one in beside if one.SOPClassUID == SegmentationStorage]
    if not segments or not mask.any():
        facts["source_images"] = [_image(sources, numbers.shown)]
        return highdicom.sr.MeasurementsAndQualitativeEvaluations(**facts)
    where = {"sop_class_uid": SegmentationStorage, "sop_instance_uid": segments[0].SOPInstanceUID, "segment_number": 1}
    if len(mask) == 1:
        source = highdicom.sr.SourceImageForSegmentation(sources[0].SOPClassUID, sources[0].SOPInstanceUID)
        frame = highdicom.sr.ReferencedSegmentationFrame(**where, frame_number=1, source_image=source)
        del frame[0].ReferencedSOPSequence[0].ReferencedSegmentNumber  # PS3.3 table 10-3: not beside a frame number
        return highdicom.sr.PlanarROIMeasurementsAndQualitativeEvaluations(referenced_segment=frame, **facts)
    series = highdicom.sr.SourceSeriesForSegmentation(sources[0].SeriesInstanceUID)
    segment = highdicom.sr.ReferencedSegment(**where, source_series=series)
    return highdicom.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=segment, **facts)


def _size(mask: np.ndarray | Bits, numbers: Numbers) -> Any:
    import highdicom
    from pydicom.sr.codedict import codes

    value, unit = extent(mask, numbers.spacing)
    name = {
        "ml": highdicom.sr.CodedConcept("118565006", "SCT", "Volume"),
        "mm2": codes.SCT.Area,
        "pixels": highdicom.sr.CodedConcept("pixels", SCHEME, "Pixels in the mask"),
    }[unit]
    units = {
        "ml": highdicom.sr.CodedConcept("ml", "UCUM", "milliliter"),
        "mm2": codes.UCUM.SquareMillimeter,
        "pixels": highdicom.sr.CodedConcept("{pixels}", "UCUM", "pixels"),
    }
    return highdicom.sr.Measurement(name=name, value=round(value, 4), unit=units[unit])


def _outcome(numbers: Numbers) -> list[Any]:
    import highdicom
    from pydicom.sr.codedict import codes

    asked = [("already", "Answer was as asked for before", numbers.already)]
    if numbers.found is not None:
        asked.append(("found", "Counterfactual answers as asked for", numbers.found))
    return [
        highdicom.sr.QualitativeEvaluation(
            highdicom.sr.CodedConcept(value, SCHEME, meaning), codes.SCT.Yes if true else codes.SCT.No
        )
        for value, meaning, true in asked
    ]


def _answer(sources: Sequence[Dataset], index: int, numbers: Numbers, maker: Maker) -> Any:
    """What the classifier says of one class, before and after."""
    import highdicom
    from pydicom.sr.codedict import codes

    name = numbers.classes[index]
    told = [("before", "Probability on the image", numbers.before)]
    if numbers.after is not None:
        told.append(("after", "Probability on the counterfactual", numbers.after))
    return highdicom.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(sources, f"class {name}"),
        finding_type=highdicom.sr.CodedConcept(f"class {index}", SCHEME, name[:64]),
        algorithm_id=_algorithm(maker),
        measurements=[
            highdicom.sr.Measurement(
                name=highdicom.sr.CodedConcept(value, SCHEME, meaning),
                value=round(float(probabilities[index]), 6),
                unit=codes.UCUM.NoUnits,
            )
            for value, meaning, probabilities in told
        ],
        source_images=[_image(sources, numbers.shown)],
    )


def _image(sources: Sequence[Dataset], shown: int) -> Any:
    """The image, or the frame of it, that the numbers of slice `shown` are about."""
    import highdicom

    source = sources[min(shown, len(sources) - 1)]
    several = len(sources) == 1 and int(source.get("NumberOfFrames") or 1) > 1
    return highdicom.sr.SourceImageForMeasurementGroup(
        source.SOPClassUID, source.SOPInstanceUID, [shown + 1] if several else None
    )


def _tracking(sources: Sequence[Dataset], name: str) -> Any:
    import highdicom

    uid = generate_uid(entropy_srcs=[sop_instance(sources[0]), series_uid(sources[0], "report"), name])
    return highdicom.sr.TrackingIdentifier(uid=uid, identifier=name)


def _algorithm(maker: Maker) -> Any:
    import highdicom

    parameters = [f"{name}: {value}" for name, value in maker.parameters.items()]
    return highdicom.sr.AlgorithmIdentification(maker.name, maker.version, parameters or None)
