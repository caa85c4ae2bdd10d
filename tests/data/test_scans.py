import numpy as np
import pytest
import torch
from PIL import Image

from counterscan.data.scans import read_scan
from counterscan.data.window import Window
from counterscan.errors import ScanError

RAMP = np.tile(np.linspace(0, 255, 60).astype(np.uint8), (40, 1))


@pytest.fixture
def scan(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "ramp.png")
    return read_scan(tmp_path / "ramp.png")


def test_images_are_fitted_in_size_and_channels_and_stay_within_bounds(scan):
    images = scan.images((3, 20, 20))
    assert images.shape == (1, 3, 20, 20)
    assert images.dtype == torch.float32
    assert images.min() >= -1
    assert images.max() <= 1
    assert torch.allclose(images[0, 0, 5], torch.linspace(-1, 1, 20), atol=0.06)


def test_an_arbitrary_window_gives_way_to_the_scans_own(scan):
    assert scan.window_for(Window(0, 1, "intensity")) == scan.window
    assert scan.window_for(None) == scan.window


def test_a_physical_window_needs_a_scan_in_its_unit(scan, dicom):
    with pytest.raises(ScanError, match=r"grey values.*expects HU.*dataset\.toml"):
        scan.images((1, 8, 8), Window(-160, 240, "HU"))
    ct = read_scan(dicom(np.array([[-160, 240], [40, 3000]], np.int16)))
    images = ct.images((1, 2, 2), Window(-160, 240, "HU"))
    assert images.flatten().tolist() == [-1, 1, 0, 1]


def test_a_window_cannot_be_declared_in_another_unit_than_the_files(dicom):
    ct = read_scan(dicom(np.array([[0, 1], [2, 3]], np.int16)))
    assert ct.declared(Window(-100, 100, "HU")).window == Window(-100, 100, "HU")
    with pytest.raises(ScanError, match="holds HU"):
        ct.declared(Window(0, 10, "SUV"))


def test_a_change_at_another_size_is_brought_to_the_scan(scan, tmp_path):
    change = torch.zeros(1, 1, 10, 10)
    change[..., 2:8, 2:8] = -0.5
    written = read_scan(scan.write_change(change, tmp_path / "cf"))
    difference = written.pixels - scan.pixels
    assert written.pixels.shape == scan.pixels.shape
    assert np.abs(difference[..., :4, :]).max() == 0
    expected = np.maximum(-0.5 * 127.5, -scan.pixels[..., 20, 30])
    assert abs(difference[..., 20, 30] - expected) <= 0.5


def test_a_colour_change_meets_a_grey_scan_and_the_other_way_round(scan, tmp_path):
    assert scan.changed(torch.full((1, 3, 8, 8), 0.1)).shape == scan.pixels.shape
    Image.fromarray(np.dstack([RAMP] * 3)).save(tmp_path / "c.png")
    colour = read_scan(tmp_path / "c.png")
    changed = colour.changed(np.full((1, 1, 8, 8), 0.1, np.float32))
    assert np.allclose(changed - colour.pixels, 0.1 * 127.5, atol=1e-3)


def test_results_of_the_wrong_shape_or_with_nan_are_not_written(scan, tmp_path):
    with pytest.raises(ScanError, match="resize"):
        scan.write(scan.pixels[..., :5], tmp_path / "a.png")
    with pytest.raises(ScanError, match="NaN"):
        scan.write(scan.pixels * np.nan, tmp_path / "a.png")
    with pytest.raises(ScanError, match="mask"):
        scan.write_mask(np.zeros((1, 3, 3)), tmp_path / "a.png")
    with pytest.raises(ScanError, match="1 slices"):
        scan.changed(torch.zeros(2, 1, 8, 8))
    assert not (tmp_path / "a.png").exists()


def test_a_mask_tensor_is_taken_like_an_array(scan, tmp_path):
    mask = torch.zeros(1, 40, 60, dtype=torch.bool)
    mask[0, 3, 4] = True
    written = read_scan(scan.write_mask(mask, tmp_path / "mask"))
    assert written.pixels[0, 0, 3, 4] == 255
    assert (written.pixels > 0).sum() == 1


def test_the_repr_is_short(scan):
    assert len(repr(scan)) < 400


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (KeyError("(0073,0a13)\nsecond line"), "is a damaged PNG file"),
        (MemoryError(), "takes more memory than there is"),
        (OSError(28, "No space left on device"), "No space left on device; make room"),
        (OSError("image file is truncated"), "is a damaged PNG file"),
    ],
)
def test_whatever_a_library_raises_is_one_line_when_reading_and_when_writing(scan, tmp_path, monkeypatch, fault, words):
    def broken(*_):
        raise fault

    monkeypatch.setattr("counterscan.data.raster.load", broken)
    for ask in (
        lambda: read_scan(scan.path),
        lambda: scan.write(scan.pixels, tmp_path / "out"),
        lambda: scan.write_mask(scan.pixels[:, 0] > 0, tmp_path / "mask"),
    ):
        with pytest.raises(ScanError, match=words) as caught:
            ask()
        assert str(scan.path) in str(caught.value)
        assert "\n" not in str(caught.value)
