import builtins

import numpy as np
import pydicom
import pytest
from pydicom.uid import ComputedRadiographyImageStorage, generate_uid

from counterscan.data.bits import Bits
from counterscan.data.maker import Maker
from counterscan.data.results import write_mask
from counterscan.data.scans import read_scan
from counterscan.data.segmentation import segmentation

ARRAY = np.arange(96, dtype=np.int16).reshape(8, 12)


@pytest.fixture
def without_highdicom(monkeypatch):
    """As where the extra is not installed."""
    real = builtins.__import__

    def refuse(name, *rest):
        if name.startswith("highdicom"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)


def test_with_highdicom_a_mask_is_a_segmentation_on_its_image(dicom, tmp_path, place):
    pytest.importorskip("highdicom")
    path = dicom(ARRAY, **place)
    source, scan = pydicom.dcmread(path), read_scan(path)
    mask = pydicom.dcmread(scan.write_mask(scan.pixels[:, 0] > 50, tmp_path / "mask"))
    assert mask.Modality == "SEG"
    assert mask.SegmentationType == "BINARY"
    assert np.array_equal(mask.pixel_array.reshape(8, 12) == 1, ARRAY > 50)
    assert mask.FrameOfReferenceUID == source.FrameOfReferenceUID
    shared = mask.SharedFunctionalGroupsSequence[0]
    assert shared.PixelMeasuresSequence[0].PixelSpacing == source.PixelSpacing
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == source.ImageOrientationPatient
    frame = mask.PerFrameFunctionalGroupsSequence[0]
    assert frame.PlanePositionSequence[0].ImagePositionPatient == source.ImagePositionPatient
    assert mask.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID


def test_a_segment_says_who_found_it(dicom, tmp_path, place):
    pytest.importorskip("highdicom")
    scan = read_scan(dicom(ARRAY, **place))
    maker = Maker("Inpainting", "chest/classifier", "effusion=0")
    mask = pydicom.dcmread(write_mask(scan, scan.pixels[:, 0] > 50, tmp_path / "mask.dcm", maker))
    (segment,) = mask.SegmentSequence
    assert segment.SegmentAlgorithmType == "AUTOMATIC"
    algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("counterscan Inpainting", maker.version)
    assert "chest/classifier" in algorithm.AlgorithmParameters
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Lesion"


def test_a_series_gets_one_segmentation_that_points_to_every_slice(dicom, tmp_path, place):
    highdicom = pytest.importorskip("highdicom")
    same = {**place, "SeriesInstanceUID": generate_uid(), "StudyInstanceUID": generate_uid()}
    (tmp_path / "series").mkdir()
    for number in (1, 2, 0):  # the files' order is not that of the slices
        position = [-30, 12.5 + number * 2.4, 100 + number * 3.2]
        tags = {**same, "ImagePositionPatient": position, "InstanceNumber": number + 1}
        dicom(ARRAY + 100 * number, f"series/{(number * 2) % 3}.dcm", **tags)
    scan = read_scan(tmp_path / "series")
    volume = highdicom.seg.segread(scan.write_mask(scan.pixels[:, 0] > 250, tmp_path / "mask"))
    sources = {pydicom.dcmread(path).SOPInstanceUID for path in (tmp_path / "series").iterdir()}
    assert {str(uid) for _, _, uid in volume.get_source_image_uids()} == sources
    assert [int(frame.any()) for frame in volume.get_volume(combine_segments=True).array] in ([0, 0, 1], [1, 0, 0])


def test_frames_that_highdicom_would_drop_are_not_lost(dicom, tmp_path):
    pytest.importorskip("highdicom")
    path = dicom(ARRAY.astype(np.uint8), Modality="CR", SOPClassUID=ComputedRadiographyImageStorage)
    head = pydicom.dcmread(path, stop_before_pixels=True)
    with pytest.raises(ValueError, match="2 slices"):
        segmentation([head], Bits.of(np.ones((2, 8, 12)), (2, 8, 12)), Maker())


@pytest.mark.parametrize("full", [True, False])
def test_a_mask_may_be_full_or_empty(dicom, tmp_path, place, full):
    pytest.importorskip("highdicom")
    scan = read_scan(dicom(ARRAY, **place))
    wanted = np.full((1, 8, 12), full)
    mask = pydicom.dcmread(scan.write_mask(wanted, tmp_path / "mask.dcm"))
    assert np.array_equal(mask.pixel_array.reshape(1, 8, 12) == 1, wanted)


def test_a_plain_radiograph_has_no_frame_of_reference_and_gets_a_segmentation(dicom, tmp_path):
    highdicom = pytest.importorskip("highdicom")
    tags = {"Modality": "CR", "SOPClassUID": ComputedRadiographyImageStorage, "PixelSpacing": [0.2, 0.2]}
    scan = read_scan(dicom(ARRAY.astype(np.uint8), **tags))
    mask = pydicom.dcmread(scan.write_mask(scan.pixels[:, 0] > 50, tmp_path / "mask.dcm"))
    assert mask.Modality == "SEG"
    assert "FrameOfReferenceUID" not in mask
    assert np.array_equal(mask.pixel_array.reshape(8, 12) == 1, ARRAY > 50)
    assert highdicom.seg.segread(tmp_path / "mask.dcm").number_of_segments == 1


def test_a_source_that_no_segmentation_can_refer_to_gets_a_picture_and_a_word(dicom, tmp_path):
    pytest.importorskip("highdicom")
    scan = read_scan(dicom(ARRAY))  # a CT slice must have a frame of reference, and this one has none
    with pytest.warns(UserWarning, match="mask written as a picture"):
        mask = pydicom.dcmread(scan.write_mask(scan.pixels[:, 0] > 50, tmp_path / "mask.dcm"))
    assert np.array_equal(mask.pixel_array, np.where(ARRAY > 50, 255, 0))


@pytest.mark.usefixtures("without_highdicom")
def test_without_highdicom_a_mask_is_a_picture_in_the_same_place(dicom, tmp_path, place):
    path = dicom(ARRAY, **place)
    source, scan = pydicom.dcmread(path), read_scan(path)
    mask = pydicom.dcmread(scan.write_mask(scan.pixels[:, 0] > 50, tmp_path / "mask.dcm"))
    assert mask.SOPClassUID.name == "Secondary Capture Image Storage"
    assert np.array_equal(mask.pixel_array, np.where(ARRAY > 50, 255, 0))
    for keyword in ("FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        assert mask[keyword].value == source[keyword].value
    assert "WindowCenter" not in mask
    assert np.array_equal(read_scan(tmp_path / "mask.dcm").pixels[0, 0] > 0, ARRAY > 50)


@pytest.mark.usefixtures("without_highdicom")
def test_without_highdicom_a_plain_radiograph_gets_its_mask_too(dicom, tmp_path):
    scan = read_scan(dicom(ARRAY.astype(np.uint8), Modality="CR"))
    mask = pydicom.dcmread(scan.write_mask(scan.pixels[:, 0] > 50, tmp_path / "mask.dcm"))
    assert "FrameOfReferenceUID" not in mask
    assert mask.pixel_array.max() == 255
