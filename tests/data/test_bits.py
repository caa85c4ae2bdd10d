import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from counterscan.data.bits import Bits


@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32))
def test_what_is_packed_comes_back_and_runs_on_as_dicom_has_it(slices, height, width, seed):
    masks = np.random.default_rng(seed).random((slices, height, width)) > 0.5
    bits = Bits.of(iter(masks), masks.shape)
    assert np.array_equal(bits.unpacked(), masks)
    assert all(np.array_equal(bits[index], masks[index]) for index in range(slices))
    assert all(np.array_equal(one, mask) for one, mask in zip(bits, masks, strict=True))
    assert (bits.sum(), bits.any()) == (masks.sum(), masks.any())
    content = bits.content()
    assert len(content) % 2 == 0
    stored = np.unpackbits(np.frombuffer(content, np.uint8), bitorder="little")[: masks.size]
    assert np.array_equal(stored, masks.ravel())
    assert np.array_equal(bits.taken(range(slices)[::-1]).unpacked(), masks[::-1])
