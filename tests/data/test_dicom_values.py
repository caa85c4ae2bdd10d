import numpy as np
import pydicom
import pydicom.data
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut

from counterscan.data.dicom_values import Values, cleaned
from counterscan.data.scans import read_scan
from counterscan.errors import ScanError

RNG = np.random.default_rng(1)
TWELVE = RNG.integers(0, 4096, (6, 8)).astype(np.uint16)
SIGNED = RNG.integers(-2048, 2048, (6, 8)).astype(np.int16)


def head(**tags):
    dataset = Dataset()
    for keyword, value in {"PhotometricInterpretation": "MONOCHROME2", "PixelRepresentation": 0, **tags}.items():
        setattr(dataset, keyword, value)
    return dataset


@given(st.integers(2, 16), st.booleans(), st.integers(0, 2**32 - 1), st.booleans())
def test_what_lies_above_the_stored_bits_does_not_matter(bits, signed, seed, wrong_high_bit):
    told = head(BitsAllocated=16, BitsStored=bits, HighBit=15 if wrong_high_bit else bits - 1)
    told.PixelRepresentation = int(signed)
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    rng = np.random.default_rng(seed)
    values = rng.integers(low, high + 1, (3, 4))
    clean = values.astype(np.int16 if signed else np.uint16)
    assert np.array_equal(cleaned(clean, told), clean)
    if not wrong_high_bit:
        dirt = rng.integers(0, 1 << 16 - bits, values.shape) << bits
        dirty = ((values & (1 << bits) - 1) | dirt).astype(np.uint16).view(clean.dtype)
        assert np.array_equal(cleaned(dirty, told), clean)


def test_values_that_stand_on_the_left_are_moved():
    told = head(BitsAllocated=16, BitsStored=12, HighBit=15)
    assert np.array_equal(cleaned(TWELVE << 4, told), TWELVE)


def test_dirty_bits_are_gone_from_the_scan_and_from_what_is_written(dicom, tmp_path):
    path = dicom(TWELVE | 0xA000, BitsStored=12, HighBit=11)
    scan = read_scan(path)
    assert np.array_equal(scan.pixels[0, 0], TWELVE)
    after = pydicom.dcmread(scan.write(scan.pixels, tmp_path / "out"))
    assert np.array_equal(after.pixel_array, TWELVE)
    assert after.HighBit == 11


def table(first, entries, bits, **tags):
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries), first, bits])
    item.add_new("LUTData", "OW", np.array(entries, "<u2").tobytes())
    for keyword, value in tags.items():
        setattr(item, keyword, value)
    return [item]


@pytest.mark.parametrize(("array", "first"), [(TWELVE, 100), (SIGNED, -700)])
@pytest.mark.parametrize("entries", [range(10, 5010, 5), range(5000, 0, -10)])
def test_a_modality_table_is_applied_and_undone(dicom, tmp_path, array, first, entries):
    lut = table(first, entries, 16, ModalityLUTType="OD")
    path = dicom(array, ModalityLUTSequence=lut, RescaleSlope=None, RescaleIntercept=None, BitsStored=12, HighBit=11)
    scan, dataset = read_scan(path), pydicom.dcmread(path)
    assert np.array_equal(scan.pixels[0, 0], apply_modality_lut(dataset.pixel_array, dataset))
    assert scan.unit == "OD"
    assert np.array_equal(pydicom.dcmread(scan.write(scan.pixels, tmp_path / "same")).pixel_array, array)
    changed = scan.pixels.copy()
    changed[0, 0, 2, 3] = entries[7] + 1
    again = read_scan(scan.write(changed, tmp_path / "out"))
    assert again.pixels[0, 0, 2, 3] == entries[7]


def test_a_palette_becomes_colour_and_is_written_as_colour(tmp_path):
    path = pydicom.data.get_testdata_file("examples_palette.dcm", download=False)
    scan, dataset = read_scan(path), pydicom.dcmread(path)
    colours = apply_color_lut(dataset.pixel_array, dataset) >> 8
    assert np.array_equal(scan.pixels[0], colours.transpose(2, 0, 1))
    assert scan.window.as_tuple() == (0, 255, "")
    after = pydicom.dcmread(scan.write(scan.pixels, tmp_path / "out"))
    assert np.array_equal(after.pixel_array, colours)
    assert after.PhotometricInterpretation == "RGB"
    assert not after.dir("Palette")


@pytest.mark.parametrize(
    ("tags", "first", "others"),
    [
        (
            {"WindowCenter": [40, -600], "WindowWidth": [400, 1500], "WindowCenterWidthExplanation": ["SOFT", "LUNG"]},
            (-160, 239),
            {"LUNG": (-1350, 149)},
        ),
        ({"WindowCenter": [40, 50], "WindowWidth": [400, 0]}, (-160, 239), {}),
        ({"WindowCenter": 40, "WindowWidth": 400, "VOILUTFunction": "SIGMOID"}, (-160, 240), {}),
        ({"VOILUTSequence": table(100, [0, 0, 1, 2, 3, 3], 8)}, (101, 104), {}),
        (
            {"WindowCenter": 40, "WindowWidth": 400, "VOILUTSequence": table(0, [0, 9], 8, LUTExplanation="BONE")},
            (-160, 239),
            {"BONE": (0, 1)},
        ),
    ],
)
def test_the_first_window_is_used_and_the_others_are_named(dicom, tags, first, others):
    scan = read_scan(dicom(SIGNED, **tags))
    assert (scan.window.low, scan.window.high) == first
    found = {name: (window.low, window.high) for name, window in list(scan.source.windows.items())[1:]}
    assert found == others


@pytest.mark.parametrize("padding", [{"PixelPaddingValue": -2000}, {"PixelPaddingValue": -2000 & 0xFFFF}])
def test_padding_does_not_widen_the_estimated_window(dicom, padding):
    array = np.full((50, 50), -2000, np.int16)
    array[10:40, 10:40] = RNG.integers(0, 100, (30, 30))
    path = dicom(array)
    assert read_scan(path).window.low == -2000
    dataset = pydicom.dcmread(path)
    dataset.add_new("PixelPaddingValue", "US" if padding["PixelPaddingValue"] > 0 else "SS", *padding.values())
    dataset.save_as(path)
    window = read_scan(path).window
    assert 0 <= window.low < window.high <= 100


def test_a_range_of_padding_is_left_out_too(dicom):
    array = RNG.integers(0, 100, (50, 50)).astype(np.int16)
    array[:5] = RNG.integers(-2000, -1500, (5, 50))
    window = read_scan(dicom(array, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1500)).window
    assert window.low >= 0


def test_a_pet_slice_is_in_its_units(dicom):
    assert read_scan(dicom(TWELVE, Modality="PT", Units="BQML")).unit == "BQML"
    assert read_scan(dicom(TWELVE, RescaleType="US")).unit == ""


@given(
    st.floats(0.01, 50) | st.floats(-50, -0.01),
    st.floats(-2000, 2000),
    st.sampled_from(["MONOCHROME1", "MONOCHROME2"]),
)
def test_stored_values_come_back_from_their_physical_ones(slope, intercept, photometric):
    told = head(BitsAllocated=16, BitsStored=12, PhotometricInterpretation=photometric)
    told.RescaleSlope, told.RescaleIntercept = f"{slope:.8g}", f"{intercept:.8g}"
    values = Values.of(told)
    assert np.array_equal(values.rewritten(TWELVE, values.physical(TWELVE))[0], TWELVE)
    assert np.abs(values.stored(values.physical(TWELVE))[0] - TWELVE.astype(int)).max() <= 1


def test_a_slope_of_nothing_is_refused():
    with pytest.raises(ScanError, match="slope of 0"):
        Values.of(head(BitsAllocated=16, RescaleSlope="0"))
