import gzip
import tracemalloc

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from counterscan.data.scans import read_scan
from counterscan.data.view import View
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
        "nan.nii": (nan, "1 NaN values"),
        "line.nii": (np.zeros(4, np.float32), "a line"),
        "time.nii": (np.zeros((4, 4, 3, 2), np.float32), "2 volumes"),
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


TYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("dtype", TYPES)
def test_every_type_of_number_in_either_order_of_bytes_comes_back(tmp_path, dtype, kind, order):
    stored = RNG.integers(0, 100, SHAPE).astype(dtype)
    image = kind(stored, OBLIQUE, kind.header_class(endianness=order))
    image.header.set_data_dtype(np.dtype(dtype).newbyteorder(order))
    nibabel.save(image, tmp_path / "v.nii")
    scan = read_scan(tmp_path / "v.nii")
    assert np.array_equal(View.of(OBLIQUE).stored(scan.pixels[:, 0]), stored.astype(np.float32))
    after = nibabel.load(scan.write(scan.pixels, tmp_path / "out"))
    assert type(after) is kind
    assert after.header.endianness == order
    assert after.get_data_dtype() == np.dtype(dtype).newbyteorder(order)
    assert np.array_equal(np.asarray(after.dataobj), stored)


@pytest.mark.parametrize("ending", [".hdr", ".img"])
def test_a_pair_is_read_by_its_header_and_written_as_one_file(tmp_path, ending):
    stored = RNG.integers(-500, 500, SHAPE).astype(np.int16)
    nibabel.save(nibabel.Nifti1Pair(stored, OBLIQUE), tmp_path / "v.hdr")
    if ending == ".img":
        with pytest.raises(ScanError, match=r"name its header, v\.hdr"):
            read_scan(tmp_path / "v.img")
        return
    scan = read_scan(tmp_path / "v.hdr")
    after = nibabel.load(scan.write(scan.pixels, tmp_path / "out"))
    assert type(after) is nibabel.Nifti1Image
    assert np.array_equal(np.asarray(after.dataobj), stored)
    assert np.array_equal(after.affine, OBLIQUE.astype(np.float32))
    (tmp_path / "v.img").unlink()
    with pytest.raises(ScanError, match=r"without its v\.img"):
        read_scan(tmp_path / "v.hdr")


@pytest.mark.parametrize("letters", ["RGB", "RGBA"])
def test_colour_comes_back_as_colour(tmp_path, letters):
    record = np.dtype([(letter, "u1") for letter in letters])
    values = RNG.integers(0, 256, (*SHAPE, len(letters))).astype(np.uint8)
    stored = values.view(record)[..., 0]
    nibabel.save(nibabel.Nifti1Image(stored, OBLIQUE), tmp_path / "v.nii.gz")
    scan = read_scan(tmp_path / "v.nii.gz")
    assert scan.pixels.shape[1] == 3
    assert np.array_equal(View.of(OBLIQUE).stored(np.moveaxis(scan.pixels, 1, -1)), values[..., :3])
    after = nibabel.load(scan.write(scan.pixels, tmp_path / "out"))
    assert np.array_equal(np.asarray(after.dataobj), stored)
    mask = nibabel.load(scan.write_mask(scan.pixels[:, 0] > 100, tmp_path / "mask"))
    assert np.array_equal(np.asarray(mask.dataobj) == 1, values[..., 0] > 100)


def test_the_content_says_whether_a_file_is_packed(tmp_path):
    save(tmp_path / "v.nii.gz", RNG.normal(size=SHAPE).astype(np.float32))
    (tmp_path / "v.nii.gz").rename(tmp_path / "scan.bin")
    scan = read_scan(tmp_path / "scan.bin")
    assert scan.write(scan.pixels, tmp_path / "out").name == "out.nii.gz"


def test_forms_that_disagree_are_told_and_both_are_kept(tmp_path):
    image = nibabel.Nifti1Image(RNG.normal(size=SHAPE).astype(np.float32), OBLIQUE)
    image.set_sform(OBLIQUE, 1)
    image.set_qform(OBLIQUE + np.outer([1, 0, 0, 0], [0, 0, 0, 25]), 1)
    nibabel.save(image, tmp_path / "v.nii")
    with pytest.warns(UserWarning, match="up to 25 apart; the sform"):
        scan = read_scan(tmp_path / "v.nii")
    after = nibabel.load(scan.write(scan.pixels, tmp_path / "out"))
    assert np.allclose(after.get_sform(), image.get_sform(), atol=1e-4)
    assert np.allclose(after.get_qform(), image.get_qform(), atol=1e-4)


def test_metres_become_millimetres(tmp_path):
    image = nibabel.Nifti1Image(np.zeros(SHAPE, np.int16), np.diag([0.001, 0.001, 0.004, 1]))
    image.header.set_xyzt_units("meter")
    nibabel.save(image, tmp_path / "v.nii")
    assert np.allclose(read_scan(tmp_path / "v.nii").spacing, [1, 1, 4])


def claiming(path, shape, dtype=64, offset=352, content=b""):
    header = nibabel.Nifti1Header()
    header["dim"][: len(shape) + 1] = [len(shape), *shape]
    header["datatype"], header["bitpix"] = dtype, 64
    header["vox_offset"] = offset
    header["magic"] = b"n+1"
    data = header.binaryblock + bytes(4) + content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
def test_a_header_that_claims_terabytes_takes_neither_memory_nor_time(tmp_path, name):
    with pytest.raises(ScanError, match="more than can be opened safely"):
        read_scan(claiming(tmp_path / name, (30000, 30000, 30000)))
    tracemalloc.start()
    with pytest.raises(ScanError, match="claims 1,073,741,824 bytes"):
        read_scan(claiming(tmp_path / name, (512, 512, 512), content=bytes(5000)))
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


def test_values_far_behind_the_header_are_not_looked_for_in_a_bomb(tmp_path):
    for offset, words in ((2e9, "begin 2,000,000,000 bytes"), (1e7, "claims 10,000,000 bytes"), (5000, "ends after")):
        with pytest.raises(ScanError, match=words):
            read_scan(claiming(tmp_path / "v.nii.gz", (4, 4, 4), offset=offset))


def test_packed_values_are_compared_with_their_check_sum(tmp_path):
    path = save(tmp_path / "v.nii.gz", np.zeros((20, 20, 20), np.int16))
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    with pytest.raises(ScanError, match="damaged"):
        read_scan(path)
