import numpy as np
import pytest

from counterscan.data.lazy import Planes, Slices, sample


@pytest.fixture
def counted():
    looked = []

    def read(index):
        looked.append(index)
        return np.full((1, 2, 3), index, np.float32)

    return Slices((50, 1, 2, 3), read), looked


def test_only_what_is_asked_for_is_read(counted):
    slices, looked = counted
    assert slices[7].shape == (1, 2, 3)
    assert slices[-1][0, 0, 0] == 49
    assert slices[10:13][:, 0, 0, 0].tolist() == [10, 11, 12]
    assert looked == [7, 49, 10, 11, 12]
    with pytest.raises(IndexError):
        slices[50]


def test_they_are_an_array_where_one_is_needed(counted):
    slices, _ = counted
    assert np.asarray(slices).shape == slices.shape == (50, 1, 2, 3)
    assert len(slices) == 50
    assert np.array_equal(np.asarray(slices)[:, 0, 0, 0], np.arange(50))


def test_a_sample_goes_from_end_to_end(counted):
    slices, looked = counted
    assert len(sample(slices)) < 25
    assert min(looked) < 3
    assert max(looked) > 46
    kept = np.zeros((9, 1, 2, 2))
    assert sample(kept) is kept


def test_planes_are_made_when_they_are_looked_at():
    looked = []
    planes = Planes((3, 2, 4), lambda index: looked.append(index) or np.full((2, 4), index))
    assert (len(planes), looked) == (3, [])
    assert planes[-1].tolist() == [[2.0] * 4] * 2
    assert looked == [2]
    assert np.asarray(planes)[:, 0, 0].tolist() == [0, 1, 2]
    with pytest.raises(IndexError):
        planes[3]
