import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPT = Path(__file__).parents[2] / "bench" / "real_sets.py"


@pytest.fixture(scope="module")
def sets():
    spec = importlib.util.spec_from_file_location("real_sets", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scan():
    """A dark B-scan with a bright layer, its upper left corner white as a scanner pads it."""
    grey = np.full((60, 80), 20, np.uint8) + np.arange(60, dtype=np.uint8)[:, None]
    grey[30:33] = 255
    grey[:10, :50] = 255
    return grey


def test_what_is_white_from_the_border_is_padding_and_a_bright_layer_is_not(sets):
    found = sets.padding(scan())
    assert found[:10, :50].all()
    assert found.sum() == 500


def test_padding_is_filled_with_the_mirror_image_of_what_lies_beside_it(sets):
    grey = scan()
    found = sets.filled(grey, ~sets.padding(grey))
    assert found[:10].max() < 50
    np.testing.assert_array_equal(found[9, :50], grey[11, :50])
    np.testing.assert_array_equal(found[10:], grey[10:])


@pytest.mark.parametrize(("column", "label"), [(40, "fluid"), (2, "no_fluid")])
def test_a_scan_is_cut_to_its_middle_and_says_whether_fluid_is_left(sets, tmp_path, column, label):
    mask = np.zeros((60, 80), np.uint8)
    mask[31, column] = 1
    Image.fromarray(scan()).save(tmp_path / "scan.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    row = {"path": "scan.png", "mask_path": "mask.png", "label": "fluid", "folder": str(tmp_path)}
    sets.squared(tmp_path, row)
    assert Image.open(tmp_path / "scan.png").size == Image.open(tmp_path / "mask.png").size == (60, 60)
    assert row["label"] == label
    assert np.array(Image.open(tmp_path / "scan.png"))[:12].max() < 60


def test_bright_lesions_that_are_no_retinopathy_leave_the_mask(sets, tmp_path):
    Image.fromarray(np.array([[0, 1, 2, 3, 4]], np.uint8)).save(tmp_path / "mask.png")
    sets.retinopathy(tmp_path, {"mask_path": "mask.png"})
    assert np.array(Image.open(tmp_path / "mask.png")).tolist() == [[0, 255, 0, 255, 255]]


def test_an_unknown_set_is_answered_with_those_that_there_are(sets, tmp_path, monkeypatch):
    monkeypatch.setenv("COUNTERSCAN_REAL_DATA", str(tmp_path))
    with pytest.raises(SystemExit, match=r"no set 'fundos'; choose among cxr, .*fundus"):
        sets.main(tmp_path, ["fundos"])
