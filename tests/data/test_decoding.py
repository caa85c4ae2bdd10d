"""Compressed pictures are decoded in a process that may stall or die without harm, and that outlives nobody."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pytest
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels import pixel_array

from counterscan.data import decoding
from counterscan.data.scans import read_scan
from counterscan.errors import ScanError

pytest.importorskip("gdcm")
WHOLE = pydicom.data.get_testdata_file("MR_small_jpeg_ls_lossless.dcm", download=False)


@pytest.fixture
def cut_short(tmp_path):
    """A JPEG-LS picture that was cut short: its decoder counts to four thousand million before it notices."""
    dataset = pydicom.dcmread(pydicom.data.get_testdata_file("JPEGLSNearLossless_08.dcm", download=False))
    stream = get_frame(dataset.PixelData, 0, number_of_frames=1)
    dataset.PixelData = encapsulate([stream[:36]])
    dataset.save_as(tmp_path / "cut.dcm")
    return tmp_path / "cut.dcm"


def decoder():
    """The process that decoded last."""
    return decoding._idle[-1].process.pid


def gone(pid, within=60.0):
    """Does a process end, and is no zombie of this one left?"""
    end = time.monotonic() + within
    while time.monotonic() < end:
        try:
            state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            return True
        if state == "Z" and int(parent) != os.getpid():
            return True  # an orphan, which the system waits for
        time.sleep(0.02)
    return False


def test_a_series_pays_for_one_start():
    read_scan(WHOLE)
    first = decoder()
    read_scan(WHOLE)
    assert decoder() == first


def test_values_are_those_of_this_process():
    for name in ("MR_small_jpeg_ls_lossless.dcm", "SC_rgb_jpeg_gdcm.dcm", "MR_small_jp2klossless.dcm"):
        dataset = pydicom.dcmread(pydicom.data.get_testdata_file(name, download=False))
        pixels = read_scan(dataset.filename).pixels
        here = pixel_array(dataset)
        here = here[None] if here.ndim == 2 else np.moveaxis(here, -1, 0)
        assert np.array_equal(pixels[0], here.astype(np.float32)), name


def test_a_picture_that_never_ends_is_given_up(cut_short, monkeypatch):
    monkeypatch.setattr(decoding, "SECONDS", 0.2)
    monkeypatch.setattr(decoding, "PATIENCE", 1000)  # it is the processor's time that is counted
    read_scan(WHOLE)
    stalled = decoder()
    with pytest.raises(ScanError, match=r"cut\.dcm .*takes longer than it would if it were whole") as error:
        read_scan(cut_short)
    assert "\n" not in str(error.value)
    assert gone(stalled)
    assert read_scan(WHOLE).pixels.shape == (1, 1, 64, 64)


def test_a_clock_stops_what_takes_no_time_of_the_processor(monkeypatch):
    read_scan(WHOLE)
    monkeypatch.setattr(decoding, "PATIENCE", 0.1)
    os.kill(decoder(), signal.SIGSTOP)
    with pytest.raises(ScanError, match="did not answer within"):
        read_scan(WHOLE)


def test_a_decoder_that_dies_is_told_in_one_line_and_replaced(monkeypatch):
    read_scan(WHOLE)
    process = decoding._idle[-1].process
    process.kill()
    monkeypatch.setattr(process, "poll", lambda: None)  # it dies over this picture
    with pytest.raises(ScanError, match="ends its decoder, SIGKILL"):
        read_scan(WHOLE)
    read_scan(WHOLE)
    os.kill(decoder(), signal.SIGKILL)
    os.waitid(os.P_PID, decoder(), os.WEXITED | os.WNOWAIT)
    assert read_scan(WHOLE).format == "dicom"  # it died between two pictures, which is nobody's fault


def test_threads_have_a_decoder_each():
    with ThreadPoolExecutor(3) as pool:
        scans = list(pool.map(read_scan, [WHOLE] * 12))
    assert all(np.array_equal(scan.pixels, scans[0].pixels) for scan in scans)
    assert len(decoding._idle) <= 4


def _told(line):
    line.send((float(read_scan(WHOLE).pixels.sum()), decoder()))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_daemonic_worker_has_its_own(method):
    total = float(read_scan(WHOLE).pixels.sum())
    context = multiprocessing.get_context(method)
    line, far = context.Pipe()
    process = context.Process(target=_told, args=(far,), daemon=True)
    process.start()
    far.close()  # or a worker that dies leaves this one waiting for ever
    answer, pid = line.recv()
    process.join()
    assert answer == total
    assert pid != decoder()
    assert gone(pid)
    assert read_scan(WHOLE).pixels.sum() == total


def test_it_ends_with_a_parent_that_is_killed():
    script = (
        f"from counterscan.data import decoding; from counterscan.data.scans import read_scan; read_scan({WHOLE!r});"
    )
    script += "print(decoding._idle[-1].process.pid, flush=True); input()"
    parent = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    assert gone(pid)
