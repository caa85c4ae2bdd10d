import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_rescale
from pydicom.uid import ExplicitVRLittleEndian

from counterscan.data.scans import read_scan
from counterscan.errors import ScanError

RNG = np.random.default_rng(0)
SIGNED = RNG.integers(-1024, 1500, (7, 9)).astype(np.int16)
TWELVE = RNG.integers(0, 4096, (7, 9)).astype(np.uint16)
EIGHT = RNG.integers(0, 256, (7, 9)).astype(np.uint8)


@pytest.mark.parametrize(
    ("array", "tags"),
    [
        (SIGNED, {}),
        (TWELVE, {"RescaleSlope": 1, "RescaleIntercept": -1024, "BitsStored": 12, "HighBit": 11}),
        (TWELVE, {"RescaleSlope": 0.25, "RescaleIntercept": -3.5}),
        (TWELVE, {"RescaleSlope": None, "RescaleIntercept": None, "Modality": "CR"}),
        (EIGHT, {"Modality": "CR"}),
    ],
)
def test_values_are_those_of_an_independent_read_and_come_back(dicom, tmp_path, array, tags):
    path = dicom(array, **tags)
    scan = read_scan(path)
    dataset = pydicom.dcmread(path)
    assert np.allclose(scan.pixels[0, 0], apply_rescale(dataset.pixel_array, dataset))
    after = pydicom.dcmread(scan.write(scan.pixels, tmp_path / "out"))
    assert np.array_equal(after.pixel_array, array)
    assert after.pixel_array.dtype == array.dtype
    assert after.BitsStored == dataset.BitsStored


def test_a_changed_pixel_is_written_in_the_sources_units(dicom, tmp_path):
    scan = read_scan(dicom(TWELVE, RescaleSlope=0.5, RescaleIntercept=-1000))
    changed = scan.pixels.copy()
    changed[0, 0, 2, 3] = 40.2
    after = pydicom.dcmread(scan.write(changed, tmp_path / "out.dcm"))
    assert apply_rescale(after.pixel_array, after)[2, 3] == 40.0
    assert (after.pixel_array != TWELVE).sum() <= 1


def test_values_beyond_the_stored_bits_are_held_at_their_ends(dicom, tmp_path):
    scan = read_scan(dicom(TWELVE, BitsStored=12, HighBit=11, RescaleIntercept=-1024))
    after = pydicom.dcmread(scan.write(np.full_like(scan.pixels, 1e5), tmp_path / "out.dcm"))
    assert after.pixel_array.max() == 4095


def test_monochrome1_is_turned_bright_for_high_and_back(dicom, tmp_path):
    path = dicom(EIGHT, PhotometricInterpretation="MONOCHROME1", WindowCenter=100, WindowWidth=81, Modality="CR")
    scan = read_scan(path)
    assert np.array_equal(scan.pixels[0, 0], 255 - EIGHT.astype(float))
    assert scan.window.as_tuple()[:2] == (255 - 139.5, 255 - 59.5)
    after = pydicom.dcmread(scan.write(scan.pixels, tmp_path / "out.dcm"))
    assert after.PhotometricInterpretation == "MONOCHROME1"
    assert np.array_equal(after.pixel_array, EIGHT)


@pytest.mark.parametrize(
    ("tags", "window"),
    [
        ({"WindowCenter": 40, "WindowWidth": 400}, (-160, 239)),
        ({"WindowCenter": [40, 300], "WindowWidth": [400, 1500]}, (-160, 239)),
        ({"WindowCenter": 40, "WindowWidth": 400, "VOILUTFunction": "LINEAR_EXACT"}, (-160, 240)),
    ],
)
def test_the_first_voi_window_is_used(dicom, tags, window):
    scan = read_scan(dicom(SIGNED, **tags))
    assert scan.window.as_tuple() == (*window, "HU")


def test_without_a_voi_window_eight_bits_are_shown_whole_and_others_by_their_range(dicom):
    assert read_scan(dicom(EIGHT, Modality="CR")).window.as_tuple() == (0, 255, "")
    window = read_scan(dicom(SIGNED, WindowCenter=40, WindowWidth=0)).window
    assert SIGNED.min() <= window.low < window.high <= SIGNED.max()


def test_colour_comes_back_as_colour(dicom, tmp_path):
    colour = RNG.integers(0, 256, (6, 5, 3)).astype(np.uint8)
    scan = read_scan(dicom(colour, Modality="XC", RescaleSlope=None, RescaleIntercept=None))
    assert np.array_equal(scan.pixels[0], colour.transpose(2, 0, 1))
    assert np.array_equal(pydicom.dcmread(scan.write(scan.pixels, tmp_path / "o.dcm")).pixel_array, colour)


def test_the_affine_takes_pixels_to_where_dicom_says(dicom, place):
    scan = read_scan(dicom(SIGNED, **place))
    column, row = 4, 2
    left_back_up = (
        np.array(place["ImagePositionPatient"])
        + np.array(place["ImageOrientationPatient"][:3]) * 0.9 * column
        + np.array(place["ImageOrientationPatient"][3:]) * 0.7 * row
    )
    assert np.allclose((scan.affine @ [column, row, 0, 1])[:3], left_back_up * [-1, -1, 1])
    assert scan.spacing == (0.7, 0.9)
    assert read_scan(dicom(SIGNED)).affine is None


def test_a_result_is_a_derived_synthetic_copy_in_the_same_place(dicom, tmp_path, place):
    path = dicom(SIGNED, BurnedInAnnotation="NO", SmallestImagePixelValue=5, **place)
    scan = read_scan(path)
    before, after = pydicom.dcmread(path), pydicom.dcmread(scan.write(scan.pixels - 3, tmp_path / "out"))
    assert list(after.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
    assert "ynthetic counterfactual by counterscan" in after.DerivationDescription
    assert after.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID != before.SOPInstanceUID
    assert after.SeriesInstanceUID != before.SeriesInstanceUID
    assert after.SourceImageSequence[0].ReferencedSOPInstanceUID == before.SOPInstanceUID
    assert "SmallestImagePixelValue" not in after
    for keyword in (*place, "SOPClassUID", "StudyInstanceUID", "BurnedInAnnotation", "PhotometricInterpretation"):
        assert after[keyword].value == before[keyword].value


def test_the_same_result_has_the_same_uid_and_another_one_another(dicom, tmp_path):
    scan = read_scan(dicom(SIGNED))
    one, same, other = (
        pydicom.dcmread(scan.write(scan.pixels + shift, tmp_path / f"{number}.dcm"))
        for number, shift in enumerate((1, 1, 2))
    )
    assert one.SOPInstanceUID == same.SOPInstanceUID != other.SOPInstanceUID
    assert one.SeriesInstanceUID == other.SeriesInstanceUID


def test_a_source_without_uids_gets_a_whole_result(dicom, tmp_path, place):
    path = dicom(SIGNED, **place)
    dataset = pydicom.dcmread(path)
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "ImageType"):
        setattr(dataset, keyword, "")
    dataset.save_as(path)
    scan = read_scan(path)
    after = pydicom.dcmread(scan.write(scan.pixels, tmp_path / "out.dcm"))
    assert after.SOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
    assert after.StudyInstanceUID
    assert scan.write_mask(scan.pixels[:, 0] > 0, tmp_path / "mask.dcm").is_file()


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"NumberOfFrames": 4}, "4 frames"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "PALETTE COLOR"),
        ({"RescaleSlope": 0}, "slope of 0"),
        ({"Modality": "SEG"}, "segmentation"),
        ({"ModalityLUTSequence": [pydicom.Dataset()]}, "look-up table"),
        ({"Rows": 700}, "damaged"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(dicom, tags, words):
    path = dicom(SIGNED, **tags)
    with pytest.raises(ScanError, match=words) as caught:
        read_scan(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_compressed_file_without_a_decoder_names_the_extra(dicom, monkeypatch):
    path = dicom(SIGNED)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLosslessSV1  # no decoder of the core knows it
    dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8 not a picture \xff\xd9"])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    with pytest.raises(ScanError, match=r"pip install 'counterscan\[dicom\]'"):
        read_scan(path)


def test_a_dicom_file_without_pixels_and_one_without_a_head(dicom, tmp_path):
    path = dicom(SIGNED)
    dataset = pydicom.dcmread(path)
    bare = tmp_path / "bare.dcm"
    content = path.read_bytes()
    bare.write_bytes(content[132:])  # as some old exports are: no preamble
    assert np.array_equal(read_scan(bare).pixels[0, 0], SIGNED)
    del dataset.PixelData
    dataset.Modality = "RTSTRUCT"
    dataset.save_as(path)
    with pytest.raises(ScanError, match="without an image"):
        read_scan(path)
