"""What is written for each kind of source, and whether an independent validator finds a fault that the source has not.

`dciodvfy` is in Debian's package dicom3tools.
"""

import shutil
import subprocess
from dataclasses import replace

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.uid import ComputedRadiographyImageStorage, generate_uid

from counterscan.data import results
from counterscan.data.maker import Maker
from counterscan.data.measurements import Numbers
from counterscan.data.opening import open_scan
from counterscan.data.results import write_change, write_heatmap, write_mask, write_report
from counterscan.data.scans import read_scan
from counterscan.errors import ScanError

MAKER = Maker("Inpainting", "chest/classifier", "effusion=0", changes=True)
NUMBERS = Numbers(("effusion",), (0.9,), (0.1,), found=True)
ARRAY = np.arange(96, dtype=np.int16).reshape(8, 12)
SYNTHETIC = "(0x0008,0x001c)"  # SyntheticData came into the standard after dicom3tools 2022


def everything(scan, folder):
    """Each result that a scan gets, by its name."""
    low = scan.pixels.mean(1)
    mask, heat = low > np.quantile(low, 0.9), np.abs(low / np.abs(low).max()) / 3
    files = {
        "mask": write_mask(scan, mask, folder / "mask", MAKER),
        "counterfactual": scan.write(scan.pixels - 1, folder / f"counterfactual{scan.suffix}"),
        "heatmap": write_heatmap(scan, heat, folder / "heatmap", MAKER),
    }
    beside = [path for path in files.values() if path]
    return files | {"report": write_report(scan, mask, NUMBERS, beside, folder / "report", MAKER)}, mask, heat


@pytest.fixture
def sources(dicom, tmp_path, place):
    """A file or a folder of every kind of DICOM source."""
    series = {**place, "SeriesInstanceUID": generate_uid(), "StudyInstanceUID": generate_uid()}
    (tmp_path / "series").mkdir()
    for number in range(3):
        position = [-30, 12.5 + number * 2.4, 100 + number * 3.2]
        tags = {**series, "ImagePositionPatient": position, "InstanceNumber": number + 1}
        dicom(ARRAY + number, f"series/{number}.dcm", **tags)
    radiograph = {"Modality": "CR", "SOPClassUID": ComputedRadiographyImageStorage, "ImagerPixelSpacing": [0.2, 0.2]}
    return {
        "slice": dicom(ARRAY, "slice.dcm", **place),
        "series": tmp_path / "series",
        "radiograph": dicom(ARRAY, "radiograph.dcm", **radiograph),
        "ct": get_testdata_file("CT_small.dcm"),
        "mr": get_testdata_file("MR_small.dcm"),
        "colour": get_testdata_file("SC_rgb_small_odd.dcm"),
        "frames": enhanced(tmp_path),
    }


def enhanced(tmp_path):
    """The series as one multi-frame file, where highdicom can make one of it."""
    highdicom = pytest.importorskip("highdicom")
    slices = [pydicom.dcmread(path) for path in sorted((tmp_path / "series").iterdir())]
    for one in slices:
        one.BodyPartExamined = "ABDOMEN"
    new = {"series_instance_uid": generate_uid(), "sop_instance_uid": generate_uid()}
    result = highdicom.legacy.LegacyConvertedEnhancedCTImage(slices, series_number=4, instance_number=1, **new)
    result.save_as(tmp_path / "frames.dcm")
    return tmp_path / "frames.dcm"


def faults(path):
    """The errors that the validator finds in a file."""
    said = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    return {line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")}


KINDS = ("slice", "series", "radiograph", "ct", "mr", "colour", "frames")


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dicom3tools is not installed")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_a_validator_finds_no_fault_that_the_source_has_not(sources, tmp_path, kind):
    source = read_scan(sources[kind])
    known = set().union(*(faults(file) for file in files_of(source.path)))
    written, _, _ = everything(source, tmp_path / "out")
    assert set(written) == {"mask", "counterfactual", "heatmap", "report"}
    for path in written.values():
        for file in files_of(path):
            assert not {one for one in faults(file) - known if SYNTHETIC not in one}, file.name


def files_of(path):
    return sorted(path.glob("*.dcm")) if path.is_dir() else [path]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_masks_and_maps_come_back_slice_by_slice(sources, tmp_path, kind):
    scan = read_scan(sources[kind])
    written, mask, heat = everything(scan, tmp_path / "out")
    assert np.array_equal(in_order(written["mask"], scan) > 0, mask)
    found = in_order(written["heatmap"], scan)
    assert np.allclose(found * heat.max() / found.max(), heat, atol=1e-5)


def in_order(path, scan):
    """The frames of a result from the scan's first slice to its last, as their positions tell."""
    dataset = pydicom.dcmread(path)
    frames = dataset.pixel_array.reshape(len(scan), *scan.pixels.shape[2:])
    if len(scan) == 1:
        return frames
    places = [
        [float(one) for one in group.PlanePositionSequence[0].ImagePositionPatient]
        for group in dataset.PerFrameFunctionalGroupsSequence
    ]
    along = (np.diag([-1, -1, 1]) @ scan.affine[:3, 2]) / np.linalg.norm(scan.affine[:3, 2])
    return frames[np.argsort(np.array(places) @ along)]


@pytest.mark.parametrize("kind", ["series", "nifti"])
def test_a_change_written_slice_by_slice_is_that_of_the_whole(sources, tmp_path, kind):
    nibabel.save(nibabel.Nifti1Image(ARRAY.reshape(4, 8, 3), np.diag([0.7, -0.9, 3, 1])), tmp_path / "v.nii.gz")
    path = sources["series"] if kind == "series" else tmp_path / "v.nii.gz"
    scan, waiting = read_scan(path), replace(open_scan(path), window=read_scan(path).window)
    change = np.random.default_rng(2).normal(size=(3, 1, 4, 4)).astype(np.float32) * [[[[0]]], [[[1]]], [[[1]]]]
    first = scan.write_change(change, tmp_path / f"whole{scan.suffix}")
    second = write_change(waiting, change, tmp_path / f"slices{scan.suffix}")
    assert [file.read_bytes() for file in files_of(first)] == [file.read_bytes() for file in files_of(second)]
    assert np.array_equal(read_scan(second).pixels[0], scan.pixels[0])
    assert not np.array_equal(read_scan(second).pixels[1], scan.pixels[1])
    with pytest.raises(ScanError, match="NaN"):
        write_change(waiting, change * np.nan, tmp_path / f"none{scan.suffix}")
    assert not [one for one in tmp_path.iterdir() if one.name.startswith("none") and "part" not in one.name]


@pytest.mark.filterwarnings("ignore")
def test_a_report_points_to_all_that_lies_beside_it(sources, tmp_path):
    written, _, _ = everything(read_scan(sources["series"]), tmp_path / "out")
    report = pydicom.dcmread(written.pop("report"))
    listed = {
        item.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    files = [file for path in (*written.values(), sources["series"]) for file in files_of(path)]
    assert listed == {pydicom.dcmread(file).SOPInstanceUID for file in files}


def test_a_radiograph_gets_its_map_as_a_picture_without_a_warning(sources, tmp_path, recwarn):
    scan = read_scan(sources["radiograph"])
    written = pydicom.dcmread(write_heatmap(scan, scan.pixels[:, 0], tmp_path / "heat", MAKER))
    assert written.SOPClassUID.name == "Secondary Capture Image Storage"
    assert not [one for one in recwarn if "picture" in str(one.message)]


@pytest.mark.filterwarnings("ignore:.*written as a picture")
def test_a_head_that_highdicom_cannot_use_is_told_in_one_line_with_the_file(dicom, tmp_path, place, monkeypatch):
    scan = read_scan(dicom(ARRAY, "private.dcm", SOPClassUID="1.2.826.0.1.3680043.8.498.99", **place))
    with pytest.raises(ScanError, match=r"private.dcm: no report can be made of its head \(KeyError") as told:
        write_report(scan, scan.pixels[:, 0] > 9, NUMBERS, [], tmp_path / "report", MAKER)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "report.dcm").exists()

    def breaks(*_):
        raise ZeroDivisionError("a\nlibrary's\nown words")

    monkeypatch.setattr(results, "save", breaks)
    for write, what in ((write_mask, "mask"), (write_heatmap, "heat map")):
        with pytest.raises(ScanError, match=f"private.dcm: no {what} .*own words"):
            write(scan, abs(scan.pixels[:, 0]) > 9, tmp_path / "x", MAKER)


def test_pictures_have_no_map_and_no_report(tmp_path):
    Image.fromarray(ARRAY.astype(np.uint8)).save(tmp_path / "a.png")
    scan = read_scan(tmp_path / "a.png")
    assert write_heatmap(scan, scan.pixels[:, 0], tmp_path / "heat", MAKER) is None
    assert write_report(scan, scan.pixels[:, 0] > 9, NUMBERS, [], tmp_path / "report", MAKER) is None
    assert write_mask(scan, scan.pixels[:, 0] > 9, tmp_path / "mask", MAKER).suffix == ".png"


def test_nifti_gets_its_map_as_nifti_in_the_same_place(tmp_path):
    affine = np.diag([0.7, -0.9, 3, 1])
    nibabel.save(nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), affine), tmp_path / "a.nii.gz")
    scan = read_scan(tmp_path / "a.nii.gz")
    heat = scan.pixels[:, 0] / 77
    found = nibabel.load(write_heatmap(scan, heat, tmp_path / "heat", MAKER))
    assert found.get_data_dtype() == np.float32
    assert np.allclose(found.affine, affine)
    assert np.allclose(found.get_fdata(), np.arange(60).reshape(3, 4, 5) / 77)
    assert write_report(scan, heat > 1, NUMBERS, [], tmp_path / "report", MAKER) is None
