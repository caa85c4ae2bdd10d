import gzip

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from counterscan.data.nifti import View
from counterscan.data.scans import read_scan
from counterscan.errors import ScanError

RNG = np.random.default_rng(0)
SHAPE = (6, 5, 4)
OBLIQUE = nibabel.affines.from_matvec(
    nibabel.eulerangles.euler2mat(0.2, -0.15, 0.3) @ np.diag([-0.8, 1.1, 3.0]), [12.0, -40.5, 7.25]
)


def save(path, array, affine=OBLIQUE, scaling=None):
    image = nibabel.Nifti1Image(array, affine)
    if scaling:
        image.header.set_slope_inter(*scaling)
    nibabel.save(image, path)
    return path


def affines():
    """Any order and direction of the axes, tilted a little."""

    def build(order, signs, tilt):
        columns = np.zeros((3, 3))
        columns[list(order), range(3)] = np.array(signs) * [0.7, 0.9, 2.5]
        return nibabel.affines.from_matvec(nibabel.eulerangles.euler2mat(*tilt) @ columns, [3.0, -7.0, 11.0])

    signs = st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3)
    tilts = st.tuples(*[st.floats(-0.25, 0.25)] * 3)
    return st.builds(build, st.permutations(range(3)), signs, tilts)


@given(affines())
@settings(max_examples=40, deadline=None)
def test_showing_is_undone_exactly_for_any_orientation(affine):
    stored = RNG.normal(size=SHAPE)
    view = View.of(affine)
    assert np.array_equal(view.stored(view.shown(stored)), stored)
    shown = view.shown(stored)
    assert len(shown) == SHAPE[2]


@given(affines())
@settings(max_examples=40, deadline=None)
def test_the_patient_lies_as_on_a_light_box(affine):
    """Columns go to the patient's left or back, rows to the back or the feet, whatever the file's axes are."""
    shown = View.of(affine).affine(affine, SHAPE)
    column, row = shown[:3, 0], shown[:3, 1]
    across, down = np.abs(column).argmax(), np.abs(row).argmax()
    assert column[across] < 0  # RAS+: less right, or less front
    assert row[down] < 0
    assert (across, down) in {(0, 1), (0, 2), (1, 2)}


@given(affines())
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_volumes_come_back_with_their_geometry(tmp_path, affine):
    stored = RNG.integers(-1000, 1500, SHAPE).astype(np.int16)
    scan = read_scan(save(tmp_path / "v.nii.gz", stored, affine))
    written = scan.write(scan.pixels, tmp_path / "out")
    before, after = nibabel.load(tmp_path / "v.nii.gz"), nibabel.load(written)
    assert np.array_equal(before.affine, after.affine)
    assert np.array_equal(np.asarray(after.dataobj), stored)
    assert after.get_data_dtype() == np.int16
    assert after.header["qform_code"] == before.header["qform_code"]
    assert after.header["sform_code"] == before.header["sform_code"]


def test_a_shown_pixel_lies_where_its_stored_voxel_lies(tmp_path):
    stored = np.zeros(SHAPE, np.float32)
    stored[4, 1, 2] = 9
    scan = read_scan(save(tmp_path / "v.nii", stored))
    slice_, _, row, column = np.argwhere(scan.pixels == 9)[0]
    assert np.allclose(scan.affine @ [column, row, slice_, 1], OBLIQUE @ [4, 1, 2, 1])
    assert slice_ == 2
    assert np.allclose(sorted(scan.spacing), [0.8, 1.1, 3.0])


def test_an_axial_slice_shows_the_patients_right_on_the_left_and_the_front_on_top(tmp_path):
    stored = np.zeros((10, 8, 1), np.float32)  # RAS+: i grows to the right, j to the front
    stored[9, :, 0] += 1
    stored[:, 7, 0] += 2
    picture = read_scan(save(tmp_path / "v.nii", stored, np.eye(4))).pixels[0, 0]
    assert picture.shape == (8, 10)
    assert (picture[:, 0] >= 1).all()
    assert (picture[0] >= 2).all()
    assert picture[1:, 1:].max() == 0


def test_scaled_integers_are_read_and_written_in_their_units(tmp_path):
    stored = RNG.integers(0, 4000, SHAPE).astype(np.int16)
    path = save(tmp_path / "v.nii.gz", stored, scaling=(0.5, -1024.0))
    scan = read_scan(path)
    view = View.of(OBLIQUE)
    assert np.allclose(view.stored(scan.pixels[:, 0]), nibabel.load(path).get_fdata())
    changed = scan.pixels.copy()
    changed[1] += 10.1
    after = nibabel.load(scan.write(changed, tmp_path / "out.nii.gz"))
    assert (after.dataobj.slope, after.dataobj.inter) == (0.5, -1024.0)
    assert np.allclose(after.get_fdata(), view.stored(changed[:, 0]), atol=0.26)
    assert np.array_equal(after.dataobj.get_unscaled()[..., 0], stored[..., 0])


def test_doubles_that_float32_cannot_hold_stay_as_they_were(tmp_path):
    stored = RNG.normal(size=SHAPE) * 1e3
    scan = read_scan(save(tmp_path / "v.nii", stored))
    after = nibabel.load(scan.write(scan.pixels, tmp_path / "out.nii"))
    assert after.get_data_dtype() == np.float64
    assert np.array_equal(after.get_fdata(), stored)


def test_a_mask_is_bytes_in_the_same_space(tmp_path):
    stored = RNG.normal(size=SHAPE).astype(np.float32)
    scan = read_scan(save(tmp_path / "v.nii.gz", stored))
    after = nibabel.load(scan.write_mask(scan.pixels[:, 0] > 0, tmp_path / "mask"))
    assert after.get_data_dtype() == np.uint8
    assert np.array_equal(after.affine, nibabel.load(tmp_path / "v.nii.gz").affine)
    assert np.array_equal(np.asarray(after.dataobj) == 1, stored > 0)


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1), (6, 5, 1, 1), (6, 5, 4, 1)])
def test_shapes_of_slices_and_volumes_are_kept(tmp_path, shape):
    stored = RNG.integers(0, 255, shape).astype(np.uint8)
    scan = read_scan(save(tmp_path / "v.nii", stored))
    assert len(scan) == (4 if 4 in shape else 1)
    assert nibabel.load(scan.write(scan.pixels, tmp_path / "out.nii")).shape == shape


def test_what_names_the_patient_stays_behind(tmp_path):
    image = nibabel.Nifti1Image(np.zeros(SHAPE, np.int16), OBLIQUE)
    image.header["descrip"] = b"Mustermann"
    image.header["db_name"] = b"Mustermann"
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"Mustermann, Erika"))
    nibabel.save(image, tmp_path / "v.nii.gz")
    scan = read_scan(tmp_path / "v.nii.gz")
    for written in (scan.write(scan.pixels, tmp_path / "a"), scan.write_mask(scan.pixels[:, 0] > 0, tmp_path / "b")):
        assert b"Mustermann" not in gzip.decompress(written.read_bytes())


def test_a_window_in_the_header_is_used(tmp_path):
    image = nibabel.Nifti1Image(RNG.normal(size=SHAPE).astype(np.float32), OBLIQUE)
    image.header["cal_min"], image.header["cal_max"] = -2, 3
    nibabel.save(image, tmp_path / "v.nii")
    assert read_scan(tmp_path / "v.nii").window.as_tuple() == (-2, 3, "")


def test_what_cannot_be_shown_is_refused_by_name(tmp_path):
    nan = np.zeros(SHAPE, np.float32)
    nan[0, 0, 0] = np.nan
    cases = {
        "nan.nii": (nan, "NaN"),
        "time.nii": (np.zeros((4, 4, 3, 2), np.float32), "one volume"),
        "complex.nii": (np.zeros(SHAPE, np.complex64), "not plain numbers"),
    }
    for name, (array, words) in cases.items():
        with pytest.raises(ScanError, match=words) as caught:
            read_scan(save(tmp_path / name, array))
        assert name in str(caught.value)


def test_a_truncated_volume_is_refused_by_name(tmp_path):
    path = save(tmp_path / "v.nii.gz", RNG.normal(size=(20, 20, 20)))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ScanError, match=r"v\.nii\.gz is a damaged NIFTI"):
        read_scan(path)
