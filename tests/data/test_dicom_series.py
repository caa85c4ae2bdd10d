import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from counterscan.data.dicom_series import grouped
from counterscan.data.manifest import find_cases, read_manifest
from counterscan.data.scans import read_scan
from counterscan.errors import ScanError

RNG = np.random.default_rng(2)
STEP = np.array([0, 0.6, 0.8]) * 2.5  # along the normal of the planes below
TILTED = [1, 0, 0, 0, 0.8, -0.6]


@pytest.fixture
def series(dicom, tmp_path):
    """Write slices at multiples of a step, in a shuffled order of files; returns their folder and their arrays."""

    def write(folder="series", steps=(0, 1, 2, 3, 4), **tags):
        (tmp_path / folder).mkdir(exist_ok=True, parents=True)
        arrays = RNG.integers(-1000, 1000, (len(steps), 6, 7)).astype(np.int16)
        same = {"SeriesInstanceUID": generate_uid(), "FrameOfReferenceUID": "1.2.4", "StudyInstanceUID": "1.2.3"}
        place = {"ImageOrientationPatient": TILTED, "PixelSpacing": [0.7, 0.9], "SliceThickness": 2}
        names = RNG.permutation(len(steps))
        for index, step in enumerate(steps):
            each = {key: value[index] if isinstance(value, tuple) else value for key, value in tags.items()}
            position = [float(f"{x:.5f}") for x in [-30, 12, 100] + STEP * step]
            told = {**same, **place, "ImagePositionPatient": position, "InstanceNumber": index + 1, **each}
            dicom(arrays[index], f"{folder}/IM{names[index]:04}.dcm", **told)
        return tmp_path / folder, arrays

    return write


def test_a_folder_is_one_volume_sorted_along_its_normal(series):
    folder, arrays = series(RescaleSlope=(1, 2, 3, 4, 5), InstanceNumber=(3, 1, 5, 2, 4))
    scan = read_scan(folder)
    assert np.array_equal(scan.pixels[:, 0], arrays * np.arange(1.0, 6)[:, None, None])
    assert scan.spacing == (0.7, 0.9, 2.5)
    assert scan.unit == "HU"
    at = np.array([-30, 12, 100]) + STEP * 3 + np.array(TILTED[:3]) * 0.9 * 4 + np.array(TILTED[3:]) * 0.7 * 2
    assert np.allclose((scan.affine @ [4, 2, 3, 1])[:3], at * [-1, -1, 1], atol=1e-4)
    heads = scan.source.datasets()
    assert [head.InstanceNumber for head in heads] == [3, 1, 5, 2, 4]
    assert not any("PixelData" in head for head in heads)


def test_a_result_is_a_new_series_in_the_same_places(series, tmp_path):
    folder, _ = series()
    scan = read_scan(folder)
    changed = scan.pixels.copy()
    changed[2, 0, 1, 1] += 7
    written = scan.write(changed, tmp_path / "out")
    again = read_scan(written)
    assert written == tmp_path / "out"
    assert np.array_equal(again.pixels, changed)
    assert np.allclose(again.affine, scan.affine)
    heads = [pydicom.dcmread(path, stop_before_pixels=True) for path in again.source.paths]
    sources = scan.source.datasets()
    assert len({head.SeriesInstanceUID for head in heads}) == 1
    assert len({head.SOPInstanceUID for head in heads}) == 5
    assert heads[0].SeriesInstanceUID != sources[0].SeriesInstanceUID
    pointed = [head.SourceImageSequence[0].ReferencedSOPInstanceUID for head in heads]
    assert pointed == [source.SOPInstanceUID for source in sources]
    assert not any(b"Mustermann" in path.read_bytes() for path in written.iterdir())
    with pytest.raises(ScanError, match="new folder"):
        scan.write(changed, tmp_path / "out")


def test_a_result_that_could_not_be_written_whole_is_not_there(series, tmp_path):
    folder, _ = series()
    scan = read_scan(folder)
    next(iter(sorted(folder.iterdir(), reverse=True))).unlink()
    with pytest.raises((ScanError, OSError)):
        scan.write(scan.pixels, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_mask_of_a_series_is_one_segmentation_on_its_slices(series, tmp_path):
    highdicom = pytest.importorskip("highdicom")
    folder, _ = series()
    scan = read_scan(folder)
    mask = scan.pixels[:, 0] > 0
    seg = highdicom.seg.segread(scan.write_mask(mask, tmp_path / "mask"))
    uids = [head.SOPInstanceUID for head in scan.source.datasets()]
    frames = seg.get_pixels_by_source_instance(uids, segment_numbers=[1])
    assert np.array_equal(frames[..., 0] > 0, mask)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"steps": (0, 1, 1, 2)}, r"same place \(4 slices in 3 places"),
        (
            {"steps": (0, 1, 4, 5, 6), "InstanceNumber": (1, 2, 5, 6, 7)},
            r"lacks slices between .* \(7.5 mm apart, others",
        ),
        ({"ImageOrientationPatient": (TILTED, TILTED, [0, 1, 0, 0, 0, -1], TILTED, TILTED)}, "not lie parallel"),
        ({"ImagePositionPatient": (None, [0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 0, 3])}, "where in the patient"),
        ({"RescaleType": ("HU", "HU", "OD", "HU", "HU")}, "differ in RescaleType"),
        (
            {"SeriesInstanceUID": ("1.2", "1.2", "1.5", "1.5", "1.5"), "SeriesNumber": 8},
            "holds 2 series .*number 8, CT, 2",
        ),
    ],
)
def test_what_is_no_volume_is_refused_in_one_line(series, tags, words):
    if "ImagePositionPatient" in tags:
        tags = {**tags, "ImagePositionPatient": tuple(one or [] for one in tags["ImagePositionPatient"])}
    folder, _ = series(**tags)
    with pytest.raises(ScanError, match=words) as caught:
        read_scan(folder)
    assert "\n" not in str(caught.value)
    assert "Mustermann" not in str(caught.value)


def test_uneven_steps_without_a_missing_number_are_told_and_have_no_affine(series):
    folder, arrays = series(steps=(0, 1, 2, 4, 6))
    with pytest.warns(UserWarning, match=r"unevenly \(2.5 to 5 mm\)"):
        scan = read_scan(folder)
    assert np.array_equal(scan.pixels[:, 0], arrays)
    assert scan.affine is None
    assert scan.spacing == (0.7, 0.9)


def test_a_tilted_gantry_is_even(series):
    shifted = tuple([-30.0, 12 + 0.4 * index, 100 + 2.0 * index] for index in range(5))
    folder, _ = series(ImagePositionPatient=shifted)
    assert np.allclose(read_scan(folder).affine[:3, 2], [0, -0.4, 2])


def test_a_folder_without_dicom_and_one_with_other_objects(series, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ScanError, match="holds no DICOM"):
        read_scan(tmp_path / "empty")
    folder, arrays = series()
    structure = pydicom.dcmread(folder / "IM0000.dcm")
    del structure.PixelData, structure.Rows
    structure.Modality, structure.SeriesInstanceUID = "RTSTRUCT", generate_uid()
    structure.save_as(folder / "RS.dcm")
    (folder / "readme.txt").write_text("notes")
    assert np.array_equal(read_scan(folder).pixels[:, 0], arrays)


def test_a_folder_of_slices_is_one_case_and_each_picture_another(series, dicom, tmp_path):
    folder, arrays = series("patient/ct")
    dicom(arrays[0], "patient/thorax.dcm", Modality="CR")
    dicom(arrays[1], "patient/thorax2.dcm", Modality="CR")
    manifest = find_cases(tmp_path / "patient")
    assert [case.name for case in manifest.cases] == ["ct", "thorax", "thorax2"]
    assert manifest.cases[0].path == folder
    assert [len(case.read()) for case in manifest.cases] == [5, 1, 1]
    alone = find_cases(folder)
    assert [(case.name, case.path) for case in alone.cases] == [("ct", folder)]
    assert folder.is_relative_to(alone.root)
    assert folder != alone.root


def test_two_series_in_one_folder_are_two_cases(series):
    folder, first = series("both", SliceThickness=2)
    _, second = series("other")
    for path in sorted((folder.parent / "other").iterdir()):
        path.rename(folder / f"second-{path.name}")
    manifest = find_cases(folder)
    found = [case.read().pixels[:, 0] for case in manifest.cases]
    assert len(found) == 2
    assert all(any(np.array_equal(one, arrays) for one in found) for arrays in (first, second))
    assert len({case.name for case in manifest.cases}) == 2
    assert len({case.path for case in manifest.cases}) == 2


def test_slices_that_make_no_volume_stay_cases_of_their_own_with_a_warning(series):
    folder, _ = series(steps=(0, 1, 1, 2))
    with pytest.warns(UserWarning, match="same place"):
        assert len(find_cases(folder)) == 4


def test_a_manifest_row_can_name_the_folder_of_a_series(series, tmp_path):
    folder, arrays = series()
    (tmp_path / "labels.csv").write_text("path,tumour\nseries,1\n")
    (case,) = read_manifest(tmp_path).cases
    assert case.path == folder
    assert np.array_equal(case.read().pixels[:, 0], arrays)


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_a_file_that_cannot_be_read_is_a_case_that_says_why(series, dicom):
    folder, arrays = series()
    bad = dicom(arrays[0], "series/bad.dcm", NumberOfFrames=12)
    bad.write_bytes(bad.read_bytes().replace(b"IS\x02\x0012", b"IS\x02\x001A"))
    assert [len(group) for group in grouped(sorted(folder.iterdir()))] == [5, 1]
    for path in (bad, folder):
        with pytest.raises(ScanError, match=r"bad.dcm is a damaged DICOM file"):
            read_scan(path)


def test_slices_without_a_series_are_one_by_their_folder_and_so_is_the_result(series, tmp_path):
    folder, arrays = series(SeriesInstanceUID="", StudyInstanceUID="")
    (case,) = find_cases(folder).cases
    scan = case.read()
    assert np.array_equal(scan.pixels[:, 0], arrays)
    assert len({head.SeriesInstanceUID for head in scan.source.datasets()}) == 1
    assert np.array_equal(read_scan(scan.write(scan.pixels, tmp_path / "out")).pixels, scan.pixels)


@pytest.mark.filterwarnings("ignore:.*differ in Modality")
def test_a_head_with_values_that_cannot_be_is_a_case_and_stops_nothing(series):
    """Found by bench/fuzz.py: two modalities in one file."""
    folder, _ = series()
    damaged = sorted(folder.glob("*.dcm"))[0]
    head = pydicom.dcmread(damaged)
    head.Modality = ["CT", "MR"]
    head.save_as(damaged)
    assert damaged in {file for case in find_cases(folder).cases for file in (case.path, *case.files)}
