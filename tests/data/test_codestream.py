import struct

import pydicom
import pydicom.data
import pytest
from pydicom.encaps import encapsulate, get_frame

from counterscan.data.codestream import claim_of
from counterscan.data.scans import read_scan
from counterscan.errors import ScanError

FILES = {
    "SC_rgb_small_odd_jpeg.dcm": b"\xff\xc0",
    "SC_rgb_jpeg_gdcm.dcm": b"\xff\xc3",
    "MR_small_jpeg_ls_lossless.dcm": b"\xff\xf7",
    "MR_small_jp2klossless.dcm": b"\xff\x51",
}


def opened(name):
    return pydicom.dcmread(pydicom.data.get_testdata_file(name, download=False))


@pytest.mark.parametrize("name", FILES)
def test_a_stream_claims_what_the_file_says(name):
    dataset = opened(name)
    claim = claim_of(get_frame(dataset.PixelData, 0, number_of_frames=1))
    assert claim == (dataset.Rows, dataset.Columns, dataset.SamplesPerPixel)


@pytest.mark.parametrize("name", FILES)
def test_a_stream_that_claims_more_than_its_file_is_not_decoded(name, tmp_path):
    """Some of these end the process in the decoder, which no test could catch."""
    dataset, marker = opened(name), FILES[name]
    stream = bytearray(get_frame(dataset.PixelData, 0, number_of_frames=1))
    at = stream.index(marker)
    size = (at + 6, struct.pack(">II", 60000, 60000)) if marker == b"\xff\x51" else (at + 5, b"\xea\x60\xea\x60")
    stream[size[0] : size[0] + len(size[1])] = size[1]
    dataset.PixelData = encapsulate([bytes(stream)])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(tmp_path / name)
    with pytest.raises(ScanError, match=r"disagree: .* and 60000 x 60000"):
        read_scan(tmp_path / name)


@pytest.mark.parametrize(
    "stream", [b"", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\x00", b"\xff\x4f\xff\x51", b"no"]
)
def test_what_is_no_stream_claims_nothing(stream):
    assert claim_of(stream) is None


def test_a_jpeg_that_goes_over_its_pixels_for_ever_is_not_decoded(tmp_path):
    dataset = opened("SC_rgb_small_odd_jpeg.dcm")
    stream = get_frame(dataset.PixelData, 0, number_of_frames=1).rstrip(b"\0")
    scan = stream[stream.index(b"\xff\xda") : -2]
    dataset.PixelData = encapsulate([stream[:-2] + scan * 300 + stream[-2:]])
    dataset.save_as(tmp_path / "scans.dcm")
    with pytest.raises(ScanError, match="goes over its pixels 301 times"):
        read_scan(tmp_path / "scans.dcm")
