"""What lies in a series beside its slices: gaps, copies, phases, localisers, other directions; each told in a line."""

import warnings

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from counterscan.data.manifest import find_cases
from counterscan.data.scans import read_scan

AXIAL, CORONAL = [1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1]
RNG = np.random.default_rng(4)


@pytest.fixture
def add(dicom, tmp_path):
    """Write one slice of the series in the folder `ct`."""
    (tmp_path / "ct").mkdir()
    series = generate_uid()

    def write(name, z, number=1, array=None, **tags):
        array = RNG.integers(-900, 900, (6, 7)).astype(np.int16) if array is None else array
        place = {"ImagePositionPatient": [0, 0, z], "ImageOrientationPatient": AXIAL, "PixelSpacing": [1, 1]}
        same = {"SeriesInstanceUID": series, "FrameOfReferenceUID": "1.2.4", "SliceThickness": 2}
        return dicom(array, f"ct/{name}.dcm", **{**place, **same, "InstanceNumber": number, **tags})

    return write


def found(tmp_path):
    """The sizes of the cases in the folder, and what was told."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        cases = find_cases(tmp_path / "ct").cases
    lines = [str(one.message) for one in told if issubclass(one.category, UserWarning)]
    assert all("\n" not in line and str(tmp_path / "ct") in line for line in lines)
    return sorted(len(case.files) or 1 for case in cases), lines


def test_a_series_with_missing_slices_is_a_volume_on_either_side(add, tmp_path):
    for number in (1, 2, 3, 6, 7, 8, 9):
        add(f"{number:02}", 2.0 * number, number)
    sizes, lines = found(tmp_path)
    assert sizes == [3, 4]
    (line,) = lines
    assert "lacks slices between 03.dcm and 06.dcm (6 mm apart, others 2 mm)" in line
    volumes = [case.read() for case in find_cases(tmp_path / "ct").cases]
    assert sorted(len(volume) for volume in volumes) == [3, 4]


def test_copies_of_slices_are_left_out(add, tmp_path):
    for number in range(1, 6):
        path = add(f"{number:02}", 2.0 * number, number)
    again = pydicom.dcmread(path)
    again.InstanceNumber = 77
    again.save_as(tmp_path / "ct" / "copy of 05.dcm")
    same = pydicom.dcmread(tmp_path / "ct" / "02.dcm").pixel_array
    add("doubled", 4.0, 78, array=same)
    sizes, lines = found(tmp_path)
    assert sizes == [5]
    (line,) = lines
    assert "left out (the same as another slice)" in line
    with pytest.warns(UserWarning, match="the same as another slice"):
        assert len(read_scan(tmp_path / "ct")) == 5


def test_phases_in_one_series_are_a_volume_each(add, tmp_path):
    for number in range(1, 5):
        for phase in (1, 2):
            add(f"{phase}-{number}", 2.0 * number, 10 * phase + number, AcquisitionNumber=phase)
    sizes, lines = found(tmp_path)
    assert sizes == [4, 4]
    assert "2 volumes share their places and differ in AcquisitionNumber" in lines[0]


def test_mixed_orientations_are_volumes_of_their_own(add, tmp_path):
    for number in range(1, 6):
        add(f"axial{number}", 2.0 * number, number)
    for number in range(6, 9):
        place = {"ImageOrientationPatient": CORONAL, "ImagePositionPatient": [0, 3.0 * number, 0]}
        add(f"coronal{number}", 0, number, **place)
    sizes, lines = found(tmp_path)
    assert sizes == [3, 5]
    assert "differ in orientation" in lines[0]


def test_a_localiser_among_the_slices_stands_alone(add, tmp_path):
    for number in range(1, 6):
        add(f"{number}", 2.0 * number, number)
    add("scout", 0, 0, ImageOrientationPatient=CORONAL, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    assert found(tmp_path)[0] == [1, 5]
    with pytest.warns(UserWarning, match=r"scout.dcm left out \(localiser"):
        assert len(read_scan(tmp_path / "ct")) == 5


def test_zero_spacing_is_told_and_nothing_is_measured(add, tmp_path):
    for number in range(1, 4):
        add(f"{number}", 2.0 * number, number, PixelSpacing=[0, 0])
    sizes, lines = found(tmp_path)
    assert sizes == [1, 1, 1]
    assert "1.dcm, 2.dcm, 3.dcm have a pixel spacing of zero" in lines[0]


def test_slices_of_another_size_are_apart(add, tmp_path):
    for number in range(1, 5):
        add(f"{number}", 2.0 * number, number)
    add("thumbnail", 3.0, 9, array=np.zeros((3, 3), np.int16))
    sizes, lines = found(tmp_path)
    assert sizes == [1, 4]
    assert "differ in Rows" in lines[0]
