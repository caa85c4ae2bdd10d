"""Volumes that stay in their files are the volumes that are read, slice by slice."""

import gzip

import nibabel
import numpy as np
import pytest

from counterscan.core import Card
from counterscan.data.lazy import Slices
from counterscan.data.opening import check_kind, open_scan, part_of, whole
from counterscan.data.scans import read_scan
from counterscan.errors import ScanError

RNG = np.random.default_rng(5)
OBLIQUE = np.array([[0, 0.9, 0.1, 1], [0.8, 0, 0, 2], [0, 0.1, -3, 5], [0, 0, 0, 1.0]])


@pytest.mark.parametrize("affine", [np.diag([-0.8, -0.7, 2.5, 1]), OBLIQUE], ids=["axial", "oblique"])
@pytest.mark.parametrize("end", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_a_nifti_volume_is_the_same_slice_by_slice(tmp_path, affine, end, kind):
    image = kind(RNG.integers(-1000, 1000, (11, 9, 6)).astype(np.int16), affine)
    image.header.set_slope_inter(2.0, -3.0)
    nibabel.save(image, tmp_path / f"v{end}")
    read, opened = read_scan(tmp_path / f"v{end}"), open_scan(tmp_path / f"v{end}")
    assert isinstance(opened.pixels, Slices)
    assert np.array_equal(opened.pixels, read.pixels)
    assert np.array_equal(opened.pixels[4], read.pixels[4]), "backwards, too"
    assert np.array_equal(opened.affine, read.affine)
    assert opened.spacing == read.spacing
    assert opened.window == read.window
    assert np.array_equal(part_of(opened, slice(2, 4)).images((1, 8, 8)), read.images((1, 8, 8))[2:4])
    assert np.array_equal(whole(opened).pixels, read.pixels)


def test_what_is_wrong_with_a_slice_is_said_when_it_is_read(tmp_path):
    values = RNG.random((5, 4, 6)).astype(np.float32)
    values[2, 2, 3] = np.nan
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "nan.nii")
    path = tmp_path / "nan.nii"
    header = nibabel.load(path).header
    header["cal_max"] = 1
    nibabel.save(nibabel.Nifti1Image(values, None, header), path)
    opened = open_scan(path)
    part_of(opened, slice(0, 3))
    with pytest.raises(ScanError, match="1 NaN"):
        part_of(opened, slice(3, 4))


def test_a_packed_file_that_ends_early_is_refused_by_name(tmp_path):
    image = nibabel.Nifti1Image(RNG.integers(0, 99, (30, 30, 20)).astype(np.int16), np.eye(4))
    content = gzip.compress(image.to_bytes())
    (tmp_path / "cut.nii.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(ScanError, match=r"cut\.nii\.gz is a damaged NIFTI"):
        whole(open_scan(tmp_path / "cut.nii.gz"))


def test_single_slices_and_other_formats_are_read(tmp_path):
    nibabel.save(nibabel.Nifti1Image(RNG.random((5, 4, 1)).astype(np.float32), np.eye(4)), tmp_path / "one.nii")
    assert isinstance(open_scan(tmp_path / "one.nii").pixels, np.ndarray)


@pytest.mark.parametrize(
    ("modality", "expected", "refused"),
    [("MR", "abdominal CT", True), ("CT", "abdominal CT", False), ("CT", "chest radiograph", True), ("CT", "", False),
     ("CR", "chest radiograph", False), ("OT", "abdominal CT", False)],
)  # fmt: skip
def test_another_modality_than_the_cards_is_refused(dicom, modality, expected, refused):
    scan = read_scan(dicom(np.zeros((4, 4), np.int16), Modality=modality))
    card = Card(name="judge", shape=(1, 4, 4), classes=("a",), modality=expected)
    if not refused:
        check_kind(scan, card)
        return
    with pytest.raises(ScanError, match=rf"a\.dcm is {modality}, but judge was trained on {expected}"):
        check_kind(scan, card)


def test_a_localiser_is_refused(dicom):
    scan = read_scan(dicom(np.zeros((4, 4), np.int16), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    with pytest.raises(ScanError, match="localiser"):
        check_kind(scan, Card(name="c", shape=(1, 4, 4), classes=("a",)))
