import numpy as np
import pytest

from counterscan.bench.memory import peak_memory


def test_the_peak_is_that_of_the_work_alone():
    quiet = peak_memory(lambda: None)
    if np.isnan(quiet):
        pytest.skip("this kernel does not tell")
    assert peak_memory(lambda: np.ones(64 * 2**17)) > quiet + 50
    assert peak_memory(lambda: None) < quiet + 30
