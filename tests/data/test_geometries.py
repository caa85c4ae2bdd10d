"""A mask is the same mask in the same space, whichever way it is written and whoever reads it back.

`COUNTERSCAN_GEOMETRIES=1000` tries that many random geometries instead of a few.
"""

import os
import tempfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydicom.uid import generate_uid
from pydicom.valuerep import format_number_as_ds
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from counterscan.data.scans import read_scan

TRIED = int(os.environ.get("COUNTERSCAN_GEOMETRIES", "25"))
TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
many = settings(
    max_examples=TRIED,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # volumes grow from a seed, so shrinking one would take minutes and show nothing
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@st.composite
def volumes(draw, fewest=1):
    """A mask `(slices, rows, columns)` and the LPS affine of its (slice, row, column): axial or oblique, flipped.

    At least 3 by 3, because highdicom loses bits of several frames that have fewer than 8 pixels.
    """
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.integers(fewest, 5)), draw(st.integers(3, 7)), draw(st.integers(3, 7)))
    straight = np.eye(3)[random.permutation(3)] * random.choice([-1, 1], 3)[:, None]
    axes = Rotation.random(random_state=random).as_matrix() if draw(st.booleans()) else straight
    axes[0] = np.cross(axes[2], axes[1]) * draw(st.sampled_from([-1, 1]))  # slices against the normal, too
    affine = np.eye(4)
    affine[:3, :3] = (axes * random.uniform(0.3, 6, 3)[:, None]).T
    affine[:3, 3] = random.uniform(-300, 300, 3)
    return random.random(shape) < draw(st.sampled_from([0.05, 0.5, 0.95])), affine


def places(mask, affine):
    """Where the voxels of a mask lie."""
    return np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3]


def same(first, second, affine):
    """Are these the same points, up to a hundredth of a voxel?"""
    if len(first) != len(second) or not len(first):
        return len(first) == len(second)
    near = np.linalg.norm(affine[:3, :3], axis=0).min() / 100
    return cKDTree(first).query(second)[0].max() < near and cKDTree(second).query(first)[0].max() < near


def text(values):
    return [format_number_as_ds(float(value)) for value in values]


@many
@given(volumes())
def test_as_a_segmentation_read_by_highdicom(tmp_path, dicom, volume):
    highdicom = pytest.importorskip("highdicom")
    mask, affine = volume
    frame, series, study = (generate_uid() for _ in range(3))
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    step, row, column = (np.linalg.norm(affine[:3, axis]) for axis in range(3))
    for number, slice_ in enumerate(mask):
        dicom(
            slice_.astype(np.int16) * 100,
            f"{folder.name}/{number}.dcm",
            FrameOfReferenceUID=frame,
            SeriesInstanceUID=series,
            StudyInstanceUID=study,
            InstanceNumber=number + 1,
            ImagePositionPatient=text(affine[:3, 3] + number * affine[:3, 0]),
            ImageOrientationPatient=text([*affine[:3, 2] / column, *affine[:3, 1] / row]),
            PixelSpacing=text([row, column]),
            SliceThickness=text([step])[0],
        )
    scan = read_scan(folder if len(mask) > 1 else folder / "0.dcm")
    written = scan.write_mask(scan.pixels[:, 0] > 50, folder.parent / f"{folder.name}.mask.dcm")
    found = highdicom.seg.segread(written).get_volume(combine_segments=True)
    assert same(places(mask, affine), places(found.array > 0, found.affine), affine)
    assert found.frame_of_reference_uid == frame


@many
@given(volumes(), st.permutations(range(3)))
def test_as_nifti_read_by_nibabel(tmp_path, volume, order):
    mask, affine = volume
    stored = np.transpose(mask, order)
    ras = TO_RAS @ affine[:, [*order, 3]]
    nibabel.save(nibabel.Nifti1Image(stored.astype(np.int16) * 100, ras), tmp_path / "scan.nii.gz")
    scan = read_scan(tmp_path / "scan.nii.gz")
    found = nibabel.load(scan.write_mask(scan.pixels[:, 0] > 50, tmp_path / "mask"))
    assert found.shape == stored.shape
    assert same(places(mask, affine), places(found.get_fdata() > 0, TO_RAS @ found.affine), affine)


@many
@given(volumes(fewest=2))
def test_the_scan_itself_knows_where_its_voxels_lie(tmp_path, volume):
    mask, affine = volume
    path = tmp_path / "scan.nii"
    nibabel.save(nibabel.Nifti1Image(mask.astype(np.int16), TO_RAS @ affine), path)
    scan = read_scan(path)
    columns_first = np.moveaxis(scan.pixels[:, 0] > 0, 0, -1).swapaxes(0, 1)
    assert same(places(mask, affine), places(columns_first, TO_RAS @ scan.affine), affine)
