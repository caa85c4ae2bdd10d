import gzip

import numpy as np
import pydicom
import pydicom.data
import pytest
from pydicom.pixels import apply_rescale

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


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"NumberOfFrames": 4}, "damaged"),
        ({"PhotometricInterpretation": "CMYK"}, "CMYK"),
        ({"RescaleSlope": 0}, "slope of 0"),
        ({"Modality": "SEG"}, "segmentation"),
        ({"Modality": "RTDOSE"}, "radiotherapy dose"),
        ({"BitsAllocated": 12}, "12 bits"),
        ({"Rows": 700}, "damaged"),
        ({"Rows": 20000, "Columns": 20000}, "20000 x 20000 pixels, more than can be opened"),
        ({"NumberOfFrames": 2**24}, "more than can be opened"),
        ({"Columns": 0}, "no image"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(dicom, tags, words):
    path = dicom(SIGNED, **tags)
    with pytest.raises(ScanError, match=words) as caught:
        read_scan(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["FloatPixelData", "DoubleFloatPixelData"])
def test_a_parametric_map_is_refused(dicom, name):
    path = dicom(SIGNED)
    dataset = pydicom.dcmread(path)
    del dataset.PixelData
    setattr(dataset, name, np.zeros((7, 9), np.float32 if name[0] == "F" else np.float64).tobytes())
    dataset.save_as(path)
    with pytest.raises(ScanError, match="parametric map"):
        read_scan(path)


COMPRESSED = {
    "JPEG baseline": "SC_rgb_small_odd_jpeg.dcm",
    "JPEG baseline, subsampled": "SC_rgb_dcmtk_+eb+cy+s2.dcm",
    "JPEG lossless": "SC_rgb_jpeg_gdcm.dcm",
    "JPEG-LS": "MR_small_jpeg_ls_lossless.dcm",
    "JPEG-LS near lossless": "JPEGLSNearLossless_16.dcm",
    "JPEG 2000 lossless": "MR_small_jp2klossless.dcm",
    "JPEG 2000": "JPEG2000.dcm",
    "RLE": "MR_small_RLE.dcm",
    "RLE, 32 bits": "SC_rgb_rle_32bit.dcm",
    "deflated": "image_dfl.dcm",
    "big endian": "MR_small_bigendian.dcm",
    "implicit": "MR_small_implicit.dcm",
}


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("name", COMPRESSED.values(), ids=COMPRESSED)
def test_every_transfer_syntax_is_read_and_written_back(name, tmp_path):
    pytest.importorskip("gdcm")
    path = pydicom.data.get_testdata_file(name, download=False)
    dataset, scan = pydicom.dcmread(path), read_scan(path)
    stored = dataset.pixel_array.reshape(*scan.pixels.shape[2:], -1).transpose(2, 0, 1)
    assert np.array_equal(scan.pixels[0], apply_rescale(stored, dataset).astype(np.float32))
    after = pydicom.dcmread(scan.write(scan.pixels, tmp_path / "out"))
    assert after.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert np.array_equal(after.pixel_array, dataset.pixel_array)


def test_twelve_bit_lossy_jpeg_is_read_by_gdcm():
    pytest.importorskip("gdcm")
    scan = read_scan(pydicom.data.get_testdata_file("JPGExtended.dcm", download=False))
    values = (scan.pixels.shape, scan.pixels.max(), round(float(scan.pixels.mean()), 6))
    assert values == ((1, 1, 1024, 256), 264, 14.369991)  # what SimpleITK 2.5 reads


def broken(path, syntax=pydicom.uid.JPEGLosslessSV1):
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8 not a picture \xff\xd9"])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    return path


def test_a_compressed_file_without_a_decoder_names_the_extra(dicom, monkeypatch):
    path = broken(dicom(SIGNED))
    monkeypatch.setattr(pydicom.pixels.get_decoder(pydicom.uid.JPEGLosslessSV1), "_available", {})
    with pytest.raises(ScanError, match=r"pip install 'counterscan\[dicom\]'"):
        read_scan(path)


def test_a_damaged_compressed_file_is_told_from_a_missing_decoder(dicom):
    pytest.importorskip("gdcm")
    with pytest.raises(ScanError, match=r"damaged: .*copy it again$"):
        read_scan(broken(dicom(SIGNED)))


def test_a_transfer_syntax_of_films_is_refused_by_its_name(dicom):
    with pytest.raises(ScanError, match="MPEG2"):
        read_scan(broken(dicom(SIGNED), pydicom.uid.MPEG2MPML))


def test_a_small_file_that_unfolds_to_gibibytes_is_refused(dicom, monkeypatch):
    path = dicom(np.zeros((512, 512), np.uint16))
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    dataset.save_as(path)
    assert read_scan(path).pixels.shape == (1, 1, 512, 512)
    monkeypatch.setattr("counterscan.data.dicom.LARGEST", 500_000)
    with pytest.raises(ScanError, match="unfolds"):
        read_scan(path)


def test_a_zipped_file_and_a_length_that_lies(dicom, tmp_path):
    path = dicom(SIGNED)
    zipped = tmp_path / "a.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(ScanError, match="gunzip"):
        read_scan(zipped)
    content = path.read_bytes()
    at = content.index(b"\x10\x00\x10\x00PN")
    path.write_bytes(content[:at] + b"\x10\x00\x10\x00UT\0\0\xf0\xff\xff\xff" + content[at + 8 :])
    with pytest.raises(ScanError, match=r"without an image|damaged"):
        read_scan(path)


def test_frames_are_sorted_by_place_with_their_own_rescale_and_written_back_in_their_order(enhanced, tmp_path):
    array = RNG.integers(0, 4000, (4, 5, 6)).astype(np.uint16)
    slopes, intercepts = [1, 2, 0.5, 1], [0, -1000, 3, -1024]
    path = enhanced(array, [6, 0, 4, 2], slopes, intercepts)
    scan = read_scan(path)
    for slice_, frame in enumerate([1, 3, 2, 0]):
        assert np.array_equal(scan.pixels[slice_, 0], array[frame].astype(float) * slopes[frame] + intercepts[frame])
    assert scan.spacing == (0.5, 0.6, 2)
    assert scan.unit == "HU"
    assert scan.window.as_tuple() == (-0.5, 99.5, "HU")
    assert np.allclose(scan.affine @ [1, 2, 3, 1], [10 - 0.6, 20 - 1, 6, 1])
    assert np.array_equal(scan.source.as_stored(np.array([1, 3, 2, 0])), [0, 1, 2, 3])
    changed = scan.pixels.copy()
    changed[0] += 10
    after = pydicom.dcmread(scan.write(changed, tmp_path / "out"))
    assert np.array_equal(after.pixel_array[[0, 2, 3]], array[[0, 2, 3]])
    assert np.array_equal(after.pixel_array[1], array[1] + 5)
    assert np.array_equal(read_scan(tmp_path / "out.dcm").pixels, changed)


def test_frames_that_share_places_stay_in_the_order_of_the_file(enhanced):
    array = RNG.integers(0, 4000, (4, 5, 6)).astype(np.uint16)
    scan = read_scan(enhanced(array, [2, 0, 2, 0]))
    assert np.array_equal(scan.pixels[:, 0], array)
    assert scan.affine is None


def test_colour_frames_without_places_are_a_volume(tmp_path):
    path = pydicom.data.get_testdata_file("SC_rgb_rle_2frame.dcm", download=False)
    scan, stored = read_scan(path), pydicom.dcmread(path).pixel_array
    assert np.array_equal(scan.pixels, stored.transpose(0, 3, 1, 2))
    after = pydicom.dcmread(scan.write(scan.pixels, tmp_path / "out"))
    assert np.array_equal(after.pixel_array, stored)


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
