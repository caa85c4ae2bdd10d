"""Originals as scanners and archives give them, where a folder of them is named by COUNTERSCAN_REAL_DATA."""

import os
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.pixels import apply_rescale

from counterscan.data.manifest import read_manifest
from counterscan.data.scans import read_scan

ROOT = Path(os.environ.get("COUNTERSCAN_REAL_DATA", "none"))
pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason="COUNTERSCAN_REAL_DATA names no folder")
NATIVE = ROOT / "native"


def some(pattern):
    return sorted(NATIVE.glob(pattern))[:3]


def change(scan):
    change = np.zeros((len(scan), 1, 16, 16), np.float32)
    change[..., 4:10, 4:10] = -0.4
    return change


DICOM = [*some("ct_dicom_series/*/image/*.dcm"), *some("ct_dicom_seg/0*.dcm"), *some("ct_dicom_jpeg2000/*.dcm")]


@pytest.mark.parametrize("path", [*DICOM, *some("cxr_dicom/*.dcm")], ids=lambda path: path.name)
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_dicom_values_masks_and_results_lie_where_the_source_lies(path, tmp_path):
    dataset, scan = pydicom.dcmread(path), read_scan(path)
    values = apply_rescale(dataset.pixel_array, dataset)
    inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
    assert np.allclose(scan.pixels[0, 0], 255 - values if inverted else values)
    result = pydicom.dcmread(scan.write_change(change(scan), tmp_path / "cf"))
    after = apply_rescale(result.pixel_array, result)
    outside = np.ones(values.shape, bool)
    outside[values.shape[0] // 8 : values.shape[0] * 3 // 4, values.shape[1] // 8 : values.shape[1] * 3 // 4] = False
    assert np.array_equal(after[outside], values[outside])
    assert not np.array_equal(after, values)
    mask = pydicom.dcmread(scan.write_mask(scan.pixels[:, 0] > scan.window.low, tmp_path / "mask"))
    assert np.array_equal(np.squeeze(mask.pixel_array) > 0, scan.pixels[0, 0] > scan.window.low)
    for keyword in ("FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        assert result.get(keyword) == dataset.get(keyword)
    assert mask.get("FrameOfReferenceUID") == dataset.get("FrameOfReferenceUID")
    if dataset.get("PatientName"):
        assert str(dataset.PatientName).encode() not in (tmp_path / "cf.dcm").read_bytes()


@pytest.mark.parametrize("tilted", [False, True])
@pytest.mark.parametrize("path", sorted(NATIVE.glob("ct_nifti/*.nii.gz")), ids=lambda path: path.name)
def test_nifti_values_masks_and_results_lie_where_the_source_lies(path, tmp_path, tilted):
    if tilted:  # the files lie straight: turn the patient, not the voxels
        source = nibabel.load(path)
        turn = nibabel.affines.from_matvec(nibabel.eulerangles.euler2mat(0.2, 0.1, -0.3))
        path = tmp_path / "tilted.nii.gz"
        nibabel.save(nibabel.Nifti1Image(np.asarray(source.dataobj), turn @ source.affine), path)
    source, scan = nibabel.load(path), read_scan(path)
    values = source.get_fdata()
    for voxel in np.random.default_rng(0).integers(0, values.shape, (20, 3)):
        column, row, slice_ = np.rint(np.linalg.inv(scan.affine) @ source.affine @ [*voxel, 1])[:3].astype(int)
        assert scan.pixels[slice_, 0, row, column] == np.float32(values[tuple(voxel)])
    result = nibabel.load(scan.write_change(change(scan), tmp_path / "cf"))
    assert np.array_equal(result.affine, source.affine)
    assert result.get_data_dtype() == source.get_data_dtype()
    assert np.array_equal(result.get_fdata()[:10, :10], values[:10, :10])
    mask = nibabel.load(scan.write_mask(scan.pixels[:, 0] > 0, tmp_path / "mask"))
    assert np.array_equal(mask.affine, source.affine)
    assert np.array_equal(np.asarray(mask.dataobj) > 0, values > 0)


@pytest.mark.parametrize("path", sorted(NATIVE.glob("*/*.nrrd")), ids=lambda path: path.name)
def test_nrrd_values_masks_and_results_lie_where_the_source_lies(path, tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    source, scan = sitk.ReadImage(str(path)), read_scan(path)
    values = sitk.GetArrayFromImage(source)
    for voxel in np.random.default_rng(0).integers(0, source.GetSize(), (20, 3)).tolist():
        place = np.array([*source.TransformIndexToPhysicalPoint(voxel), 1]) * [-1, -1, 1, 1]
        column, row, slice_ = np.rint(np.linalg.inv(scan.affine) @ place)[:3].astype(int)
        assert scan.pixels[slice_, 0, row, column] == values[tuple(voxel[::-1])]
    result = sitk.ReadImage(str(scan.write_change(change(scan), tmp_path / "cf")))
    mask = sitk.ReadImage(str(scan.write_mask(scan.pixels[:, 0] > 0, tmp_path / "mask")))
    for written in (result, mask):
        assert np.allclose(written.GetOrigin(), source.GetOrigin())
        assert np.allclose(written.GetDirection(), source.GetDirection())
        assert np.allclose(written.GetSpacing(), source.GetSpacing())
    assert result.GetPixelID() == source.GetPixelID()
    assert np.array_equal(sitk.GetArrayFromImage(mask) > 0, values > 0)


PICTURES = [*some("cxr_png_1024/*.png"), *some("oct_png/*.png"), *some("cxr_jpeg/*.jpeg"), *some("fundus_jpeg/*.jpg")]


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_pictures_are_read_as_pillow_reads_them_and_keep_their_size(path, tmp_path):
    scan = read_scan(path)
    with Image.open(path) as picture:
        values = np.asarray(picture).astype(np.float32)
    assert np.array_equal(scan.pixels[0].transpose(1, 2, 0).squeeze(), values)
    written = scan.write_change(change(scan), tmp_path / "cf")
    with Image.open(written) as after, Image.open(path) as before:
        assert (after.size, after.format, after.mode) == (before.size, before.format, before.mode)
        if before.format == "PNG":
            assert np.array_equal(np.asarray(after)[:20], np.asarray(before)[:20])


@pytest.mark.parametrize("table", sorted(ROOT.glob("*/labels.csv")), ids=lambda table: table.parent.name)
def test_every_manifest_is_read_with_its_classes(table):
    manifest = read_manifest(table)
    assert manifest.exclusive
    assert manifest.classes
    assert not manifest.leaks("fold")
    assert manifest.cases[0].path.is_file()
