from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from counterscan.data.bits import Bits
from counterscan.data.derived import save
from counterscan.data.maker import Maker
from counterscan.data.measurements import Numbers, extent, report
from counterscan.data.segmentation import segmentation

highdicom = pytest.importorskip("highdicom")
MAKER = Maker("Inpainting", "chest/classifier", "effusion=0")
NUMBERS = Numbers(("effusion", "nodule"), (0.91, 0.2), (0.1, 0.25), found=True, spacing=(0.7, 0.9))
MASK = np.arange(3 * 8 * 12).reshape(3, 8, 12) % 5 == 0


@pytest.fixture
def heads(dicom, place):
    """The heads of three slices."""
    common = {**place, "SeriesInstanceUID": generate_uid(), "StudyInstanceUID": generate_uid()}
    paths = [
        dicom(
            np.zeros((8, 12), np.int16),
            f"{number}.dcm",
            **{**common, "ImagePositionPatient": [-30, 12.5 + number * 2.4, 100 + number * 3.2]},
        )
        for number in range(3)
    ]
    return [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]


def read(heads, mask, numbers, tmp_path, *, segment=True):
    beside = [segmentation(heads, Bits.of(mask, mask.shape), MAKER)] if segment else []
    return highdicom.sr.srread(save(report(heads, mask, numbers, beside, MAKER), tmp_path / "report")), beside


def told(group):
    """The numbers of a group by their names."""
    return {one.name.meaning: (one.value, one.unit.value) for one in group.get_measurements()}


@pytest.mark.parametrize(
    ("mask", "spacing", "size"),
    [
        (MASK[:1], (0.5, 2.0), (20.0, "mm2")),
        (MASK, (0.5, 2.0, 10.0), (0.58, "ml")),
        (MASK[:1], None, (20.0, "pixels")),
        (MASK, (0.5, 2.0), (58.0, "pixels")),
        (MASK[:1] & False, (1.0, 1.0), (0.0, "mm2")),
    ],
)
def test_the_extent_of_a_mask(mask, spacing, size):
    assert extent(mask, spacing) == (pytest.approx(size[0]), size[1])


def test_an_image_has_an_area_on_its_segment(heads, tmp_path):
    found, beside = read(heads[:1], MASK[:1], NUMBERS, tmp_path)
    (roi,) = found.content.get_planar_roi_measurement_groups()
    assert told(roi) == {"Area": (pytest.approx(20 * 0.63), "mm2")}
    pointer = roi.referenced_segmentation_frame[0].ReferencedSOPSequence[0]
    assert pointer.ReferencedSOPInstanceUID == beside[0].SOPInstanceUID
    answers = {one.name.meaning: one.value.meaning for one in roi.get_qualitative_evaluations()}
    assert answers["Answer was as asked for before"] == "No"
    assert answers["Counterfactual answers as asked for"] == "Yes"


def test_a_volume_has_a_volume_and_points_to_the_slice_that_was_judged(heads, tmp_path):
    found, _ = read(heads, MASK, replace(NUMBERS, spacing=(0.7, 0.9, 4.0), shown=2), tmp_path)
    (roi,) = found.content.get_volumetric_roi_measurement_groups()
    assert told(roi) == {"Volume": (pytest.approx(58 * 0.7 * 0.9 * 4 / 1000, abs=1e-4), "ml")}
    effusion = found.content.get_image_measurement_groups()[0]
    assert effusion.source_images[0].referenced_sop_instance_uid == heads[2].SOPInstanceUID
    assert {item.ReferencedSOPInstanceUID for item in pointed(found)} >= {head.SOPInstanceUID for head in heads}


def pointed(found):
    """The instances that a report lists as its evidence."""
    for study in found.CurrentRequestedProcedureEvidenceSequence:
        for series in study.ReferencedSeriesSequence:
            yield from series.ReferencedSOPSequence


def test_each_class_has_its_probabilities(heads, tmp_path):
    found, _ = read(heads[:1], MASK[:1], NUMBERS, tmp_path)
    groups = found.content.get_image_measurement_groups()
    assert [group.finding_type.meaning for group in groups] == ["effusion", "nodule"]
    assert told(groups[0]) == {
        "Probability on the image": (0.91, "1"),
        "Probability on the counterfactual": (0.1, "1"),
    }


def test_an_attribution_has_no_second_answer_and_an_empty_mask_no_segment(heads, tmp_path):
    numbers = replace(NUMBERS, after=None, found=None)
    found, _ = read(heads[:1], MASK[:1] & False, numbers, tmp_path)
    assert not found.content.get_planar_roi_measurement_groups()
    evidence, effusion, _ = found.content.get_image_measurement_groups()
    assert told(evidence) == {"Area": (0, "mm2")}
    assert list(told(effusion)) == ["Probability on the image"]


def test_a_report_needs_no_segment(heads, tmp_path):
    found, _ = read(heads[:1], MASK[:1], NUMBERS, tmp_path, segment=False)
    assert len(found.content.get_image_measurement_groups()) == 3


def test_the_observer_is_the_program_and_the_patient_nobody(heads, tmp_path):
    found, _ = read(heads[:1], MASK[:1], NUMBERS, tmp_path)
    (observer,) = found.content.get_observer_contexts()
    assert observer.observer_identifying_attributes.name == "counterscan"
    assert not found.PatientName
    assert found.VerificationFlag == "UNVERIFIED"


def test_the_same_numbers_have_the_same_uid(heads):
    one, same, other = (
        report(heads[:1], MASK[:1], numbers, [], MAKER).SOPInstanceUID
        for numbers in (NUMBERS, NUMBERS, replace(NUMBERS, found=False))
    )
    assert one == same != other
