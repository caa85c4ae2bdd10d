import sys

import numpy as np
import pytest

from counterscan.data import itk
from counterscan.data.scans import read_scan
from counterscan.errors import MissingExtra, ScanError

sitk = pytest.importorskip("SimpleITK")
RNG = np.random.default_rng(0)
TURNED = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, -1.0)
ENDINGS = ["a.mha", "a.mhd", "a.nrrd", "a.nhdr"]


def volume(array, colour=False):
    image = sitk.GetImageFromArray(array, isVector=colour)
    image.SetSpacing((0.7, 0.9, 2.5)[: image.GetDimension()])
    image.SetOrigin((12.0, -40.5, 7.25)[: image.GetDimension()])
    if image.GetDimension() == 3:
        image.SetDirection(TURNED)
    image.SetMetaData("0010|0010", "Mustermann^Erika")
    return image


def save(path, image, packed=True):
    sitk.WriteImage(image, str(path), useCompression=packed)
    return path


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ENDINGS)
def test_volumes_come_back_in_their_place_and_type_without_the_patient(tmp_path, name, packed):
    stored = RNG.integers(-1000, 1500, (4, 5, 6)).astype(np.int16)
    source = volume(stored)
    scan = read_scan(save(tmp_path / name, source, packed))
    assert scan.pixels.shape[:2] == (4, 1)
    written = scan.write(scan.pixels, tmp_path / "out")
    assert written.suffix == {"h": ".nrrd", "n": ".nrrd", "m": ".mha"}[name[2]]
    after = sitk.ReadImage(str(written))
    mask = sitk.ReadImage(str(scan.write_mask(scan.pixels[:, 0] > 0, tmp_path / "mask")))
    assert np.array_equal(sitk.GetArrayFromImage(after), stored)
    assert after.GetPixelID() == source.GetPixelID()
    assert np.array_equal(sitk.GetArrayFromImage(mask), stored > 0)
    assert mask.GetPixelID() == sitk.sitkUInt8
    for result in (after, mask):
        assert np.allclose(result.GetOrigin(), source.GetOrigin())
        assert np.allclose(result.GetSpacing(), source.GetSpacing())
        assert np.allclose(result.GetDirection(), TURNED)
    assert b"Mustermann" not in written.read_bytes()
    assert (b"gzip" in written.read_bytes() or b"CompressedData = True" in written.read_bytes()) == packed


def test_a_shown_pixel_lies_where_the_library_says(tmp_path):
    stored = np.zeros((4, 5, 6), np.float32)
    stored[2, 1, 4] = 9
    source = volume(stored)
    scan = read_scan(save(tmp_path / "a.nrrd", source))
    slice_, _, row, column = np.argwhere(scan.pixels == 9)[0]
    place = scan.affine @ [column, row, slice_, 1]
    assert np.allclose(place[:3] * [-1, -1, 1], source.TransformIndexToPhysicalPoint((4, 1, 2)))
    assert slice_ == 2
    assert np.allclose(sorted(scan.spacing), [0.7, 0.9, 2.5])


@pytest.mark.parametrize("name", ["a.mhd", "a.nrrd"])
def test_a_map_lies_where_its_scan_does(tmp_path, name):
    source = volume(RNG.integers(0, 9, (4, 5, 6)).astype(np.uint8))
    scan = read_scan(save(tmp_path / name, source))
    heat = RNG.random(scan.pixels[:, 0].shape).astype(np.float32)
    written = scan.source.write_map(heat, tmp_path / "heatmap")
    assert np.array_equal(read_scan(written).pixels[:, 0], heat)
    after = sitk.ReadImage(str(written))
    assert np.allclose(after.GetDirection(), TURNED)
    assert np.allclose(after.GetOrigin(), source.GetOrigin())
    assert b"Mustermann" not in written.read_bytes()


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
def test_every_type_of_number_comes_back(tmp_path, name, dtype):
    stored = RNG.integers(0, 100, (3, 4, 5)).astype(dtype)
    scan = read_scan(save(tmp_path / name, volume(stored)))
    assert scan.stored == str(stored.dtype)
    after = sitk.GetArrayFromImage(sitk.ReadImage(str(scan.write(scan.pixels + 1, tmp_path / "out"))))
    assert after.dtype == stored.dtype
    assert np.array_equal(after, stored + 1)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
def test_colour_comes_back_as_colour(tmp_path, name, channels):
    stored = RNG.integers(0, 256, (5, 6, channels)).astype(np.uint8)
    scan = read_scan(save(tmp_path / name, volume(stored, colour=True)))
    assert np.array_equal(np.moveaxis(scan.pixels[0], 0, -1), stored[..., :3])
    after = sitk.GetArrayFromImage(sitk.ReadImage(str(scan.write(255 - scan.pixels, tmp_path / "out"))))
    assert np.array_equal(after[..., :3], 255 - stored[..., :3])
    assert np.array_equal(after[..., 3:], stored[..., 3:])


def test_what_is_no_volume_is_refused(tmp_path):
    cases = {
        "vectors.mha": (volume(np.zeros((3, 4, 5, 2), np.float32), colour=True), "2 numbers a voxel"),
        "time.mha": (
            sitk.GetImageFromArray(np.zeros((2, 3, 4, 5), np.float32), isVector=False),
            r"shape \(5, 4, 3, 2\)",
        ),
        "time.nrrd": (
            sitk.GetImageFromArray(np.zeros((2, 3, 4, 5), np.float32), isVector=False),
            r"shape \(5, 4, 3, 2\)",
        ),
        "nan.nrrd": (volume(np.full((3, 4, 5), np.nan, np.float32)), "60 NaN"),
    }
    for name, (image, words) in cases.items():
        with pytest.raises(ScanError, match=words) as caught:
            read_scan(save(tmp_path / name, image))
        assert name in str(caught.value)


@pytest.mark.parametrize("name", ENDINGS)
def test_truncated_values_are_refused_by_name(tmp_path, name, capfd):
    path = save(tmp_path / name, volume(RNG.normal(size=(8, 20, 20)).astype(np.float32)))
    data = next(file for file in tmp_path.iterdir() if len(list(tmp_path.iterdir())) == 1 or file != path)
    data.write_bytes(data.read_bytes()[:5000])
    with pytest.raises(ScanError, match="damaged") as caught:
        read_scan(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_pictures_of_sixteen_bit_colour_keep_all_of_it(tmp_path, name, channels):
    stored = RNG.integers(0, 65536, (6, 5, channels)).astype(np.uint16)
    sitk.WriteImage(sitk.GetImageFromArray(stored, isVector=True), str(tmp_path / name))
    scan = read_scan(tmp_path / name)
    assert np.array_equal(np.moveaxis(scan.pixels[0], 0, -1), stored[..., :3])
    after = sitk.GetArrayFromImage(sitk.ReadImage(str(scan.write(scan.pixels, tmp_path / "out"))))
    assert np.array_equal(after, stored)


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd", "a.png"])
def test_without_the_library_the_cure_is_named(tmp_path, name, monkeypatch):
    colour = RNG.integers(0, 65536, (6, 5, 3)).astype(np.uint16)
    save(tmp_path / name, volume(colour, colour=True))
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(MissingExtra, match=r"pip install 'counterscan\[itk\]'"):
        read_scan(tmp_path / name)


def test_a_file_that_does_not_come_back_as_it_was_written_is_told(tmp_path, monkeypatch):
    """ITK writes what fits on a full disk and says nothing."""
    scan = read_scan(save(tmp_path / "a.mha", volume(RNG.normal(size=(3, 4, 5)).astype(np.float32)), packed=False))
    write = sitk.WriteImage
    monkeypatch.setattr(itk.simple_itk(), "WriteImage", lambda image, *rest, **more: write(image * 0, *rest, **more))
    with pytest.raises(ScanError, match="cannot be written whole"):
        scan.write(scan.pixels, tmp_path / "out.mha")
    assert not (tmp_path / "out.mha").exists()
