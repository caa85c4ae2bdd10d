import gzip

import nibabel
import numpy as np
import pytest

from counterscan.data import nifti
from counterscan.data.nifti_slices import write_images, write_maps, write_masks
from counterscan.data.scans import read_scan
from counterscan.data.view import View
from counterscan.errors import ScanError

RNG = np.random.default_rng(1)


@pytest.fixture(params=[".nii", ".nii.gz"])
def volume(request, tmp_path):
    affine = np.array([[0, 0.9, 0.1, 1], [0.8, 0, 0, 2], [0, 0.1, -3, 5], [0, 0, 0, 1.0]])
    image = nibabel.Nifti1Image(RNG.integers(-99, 99, (7, 9, 5)).astype(np.int16), affine)
    image.header["db_name"], image.header["cal_max"] = b"Mustermann", 40
    nibabel.save(image, tmp_path / f"v{request.param}")
    return tmp_path / f"v{request.param}"


def test_a_mask_is_the_file_that_nibabel_would_write(volume, tmp_path):
    scan = read_scan(volume)
    mask = RNG.random(scan.pixels[:, 0].shape) > 0.5
    written = write_masks(volume, iter(mask), tmp_path / f"m{scan.suffix}")
    source = nifti.load(volume)
    source.header["cal_min"] = source.header["cal_max"] = 0
    stored = View.of(source.affine).stored(mask).astype(np.uint8)
    wanted = nifti.result_image(source.header, stored, "mask by counterscan", (1.0, 0.0)).to_bytes()
    content = written.read_bytes()
    assert (gzip.decompress(content) if written.suffix == ".gz" else content) == wanted
    assert np.allclose(nibabel.load(written).affine, nibabel.load(volume).affine)
    assert b"Mustermann" not in wanted
    assert not list(tmp_path.glob("*.part"))


def test_a_counterfactual_and_a_map_are_the_files_that_nibabel_would_write(volume, tmp_path):
    scan, source = read_scan(volume), nifti.load(volume)
    values = scan.pixels + (RNG.random(scan.pixels.shape) > 0.7)
    heat = RNG.random(scan.pixels[:, 0].shape).astype(np.float32)
    view, shape = View.of(source.affine), source.header.get_data_shape()
    encoded = source.encoded(view.stored(np.moveaxis(values, 1, -1)))[..., 0].reshape(shape, order="F")
    plain = source.header.copy()
    plain["cal_min"] = plain["cal_max"] = 0
    wanted = {
        "c": nifti.result_image(source.header, encoded, "synthetic counterfactual by counterscan", (1.0, 0.0)),
        "h": nifti.result_image(plain, view.stored(heat), "heat map by counterscan", (1.0, 0.0)),
    }
    suffix = scan.suffix
    written = {
        "c": write_images(volume, iter(values), tmp_path / f"c{suffix}"),
        "h": write_maps(volume, iter(heat), tmp_path / f"h{suffix}"),
    }
    for name, path in written.items():
        content = path.read_bytes()
        assert (gzip.decompress(content) if suffix == ".nii.gz" else content) == wanted[name].to_bytes()


def test_a_mask_that_cannot_be_written_is_not_there(volume, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ScanError, match="cannot be written"):
        write_masks(volume, iter(np.zeros((5, 7, 9), bool)), tmp_path / "file" / "m.nii")

    def fails():
        yield np.zeros((9, 7), bool)
        raise OSError("no room")

    with pytest.raises(ScanError):
        write_masks(volume, fails(), tmp_path / "m.nii")
    assert not (tmp_path / "m.nii").exists()
