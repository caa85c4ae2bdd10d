"""Files of made scans: read again they are what was judged, and DICOM says everywhere that there is no patient."""

import shutil
import subprocess

import numpy as np
import pydicom
import pytest
import torch

from counterscan.core import Card
from counterscan.data.scans import read_scan
from counterscan.errors import CounterscanError
from counterscan.synthesis.storage import Storage

HU = (-160.0, 240.0, "HU")


def storage(kind="png", channels=1, window=None):
    return Storage(Card(name="g", kind="generator", shape=(channels, 20, 24), classes=(), window=window), kind)


def image_of(channels=1):
    return torch.rand(channels, 20, 24, generator=torch.Generator().manual_seed(4)) * 2 - 1


@pytest.mark.parametrize("kind", ["png", "dicom"])
@pytest.mark.parametrize(("channels", "window"), [(1, None), (1, (0.0, 1.0, "intensity")), (1, HU), (3, None)])
def test_what_is_read_again_is_what_was_judged(tmp_path, kind, channels, window):
    one = storage(kind, channels, window)
    judged = one.stored(image_of(channels)[None])
    path = one.write(judged[0], tmp_path / "000001", "synthetic-0-1", "Asked for: a=1")
    told = one.dataset_file(("a",), "by hand")
    scan = read_scan(path).declared(told.shown, told.slope, told.intercept)
    again = scan.images((channels, 20, 24), told.shown)
    assert torch.allclose(again, judged, atol=2e-6)
    assert (judged[0] - image_of(channels)).abs().max() <= 1 / one.levels + 1e-6
    if window == HU and kind == "dicom":
        assert scan.unit == "HU"


def test_a_dicom_file_can_be_taken_for_nobodys_scan(tmp_path):
    one = storage("dicom", window=HU)
    written = pydicom.dcmread(one.write(image_of(), tmp_path / "000001", "synthetic-0-000001", "Asked for: effusion=1"))
    assert written.ImageType[0] == "DERIVED"
    assert written.SyntheticData == "YES"
    assert written.ConversionType == "SYN"
    assert "NOT A PATIENT" in str(written.PatientName)
    assert written.PatientID == "synthetic-0-000001"
    for text in (written.StudyDescription, written.SeriesDescription, written.ImageComments, written.PatientComments):
        assert text.startswith("SYNTHETIC")
    assert "Asked for: effusion=1" in written.DerivationDescription
    assert written.StudyDate == ""
    assert written.SOPClassUID == pydicom.uid.SecondaryCaptureImageStorage


def test_the_same_scan_has_the_same_file_and_another_other_uids(tmp_path):
    one = storage("dicom")
    first, again, other = (
        one.write(image, tmp_path / name, "synthetic-0-1", "x")
        for name, image in (("a", image_of()), ("b", image_of()), ("c", -image_of()))
    )
    assert first.read_bytes() == again.read_bytes()
    seen = [pydicom.dcmread(path) for path in (first, other)]
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        assert seen[0][keyword].value != seen[1][keyword].value


def test_a_png_holds_no_text_and_16_bits(tmp_path):
    from PIL import Image

    path = storage().write(image_of(), tmp_path / "000001", "synthetic-0-1", "words")
    with Image.open(path) as picture:
        assert picture.info == {}
        assert np.asarray(picture).max() > 255
    assert b"words" not in path.read_bytes()


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dicom3tools is not installed")
@pytest.mark.parametrize(("channels", "window"), [(1, None), (1, HU), (3, None)])
def test_a_validator_finds_no_fault(tmp_path, channels, window):
    path = storage("dicom", channels, window).write(image_of(channels), tmp_path / "1", "synthetic-0-1", "Asked for: a")
    said = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    faults = [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")]
    assert not [one for one in faults if "SyntheticData" not in one and "(0x0008,0x001c)" not in one]


def test_an_unknown_format_is_answered_with_the_nearest():
    with pytest.raises(CounterscanError, match="did you mean 'dicom'"):
        storage("dicm")
