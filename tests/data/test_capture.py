import numpy as np
import pydicom
import pytest

from counterscan.data.capture import heatmap_capture, mask_capture
from counterscan.data.derived import save
from counterscan.data.maker import Maker

MASK = np.arange(2 * 8 * 12).reshape(2, 8, 12) % 5 == 0


@pytest.fixture
def head(dicom, place):
    return pydicom.dcmread(dicom(np.zeros((8, 12), np.int16), **place), stop_before_pixels=True)


def test_one_slice_is_a_picture_in_the_place_of_its_source(head, tmp_path):
    written = pydicom.dcmread(save(mask_capture([head], MASK[:1], Maker("Inpainting")), tmp_path / "mask"))
    assert written.SOPClassUID.name == "Secondary Capture Image Storage"
    assert np.array_equal(written.pixel_array == 255, MASK[0])
    assert written.ImagePositionPatient == head.ImagePositionPatient
    assert "counterscan Inpainting" in written.DerivationDescription
    assert written.BurnedInAnnotation == "NO"


def test_several_slices_are_several_frames_without_the_place_of_the_first(head, tmp_path):
    written = pydicom.dcmread(save(mask_capture([head], MASK, Maker()), tmp_path / "mask"))
    assert written.SOPClassUID.name == "Multi-frame Grayscale Byte Secondary Capture Image Storage"
    assert np.array_equal(written.pixel_array == 255, MASK)
    assert "ImagePositionPatient" not in written


@pytest.mark.parametrize("slices", [1, 2])
def test_a_map_says_what_its_white_stands_for(head, tmp_path, slices):
    heat = np.random.default_rng(0).random((slices, 8, 12)).astype(np.float32) * 0.3
    written = pydicom.dcmread(save(heatmap_capture([head], heat, Maker(changes=True)), tmp_path / "heat"))
    top = float(written.DerivationDescription.partition("65535 is ")[2].split()[0])
    assert np.allclose(written.pixel_array.reshape(heat.shape) / 65535 * top, heat, atol=1e-5)
    assert written.DerivationDescription.endswith("of the window changed")


def test_an_empty_map_is_black(head):
    assert not any(heatmap_capture([head], np.zeros((1, 8, 12), np.float32), Maker()).PixelData)
