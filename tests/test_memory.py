import re

import numpy as np
import pytest

from counterscan.memory import STATUS, peak_memory, trim


def resident() -> float:
    """MB resident now."""
    return int(re.search(r"VmRSS:\s+(\d+)", STATUS.read_text())[1]) / 1024


@pytest.mark.skipif(not STATUS.exists(), reason="only Linux says what is resident")
def test_what_was_freed_is_given_back():
    pieces = [bytes(100_000) for _ in range(1000)]  # each too small for a mapping of its own
    del pieces[:-1]  # the last one keeps the heap from shrinking
    held = resident()
    trim()
    assert resident() < held - 50


def test_the_peak_is_that_of_the_work_alone():
    quiet = peak_memory(lambda: None)
    if np.isnan(quiet):
        pytest.skip("this kernel does not tell")
    assert peak_memory(lambda: np.ones(64 * 2**17)) > quiet + 50
    assert peak_memory(lambda: None) < quiet + 30
