import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterscan.classifiers.portions import in_portions


@given(count=st.integers(0, 40), size=st.integers(1, 12), parallel=st.sampled_from([1, 3]))
def test_every_image_is_asked_once_in_portions_of_the_size(count, size, parallel):
    found = list(in_portions(lambda part: list(range(count))[part], count, size, parallel))
    assert sorted(place for _, places in found for place in places) == list(range(count))
    assert all(len(places) <= size and places == list(range(count))[part] for part, places in found)


def collect(portions, found):
    for _, answer in portions:
        found.append(answer)


@pytest.mark.parametrize("parallel", [1, 4])
def test_what_was_answered_before_a_failure_is_there_and_no_more_is_begun(parallel):
    asked, together = [], threading.Barrier(parallel)

    def ask(part):
        asked.append(part.start)
        if len(asked) <= 4:
            together.wait(5)  # of four at once, one fails and three are under way
        if part.start == 3:
            raise ValueError("dead")
        return part.start

    found = []
    with pytest.raises(ValueError, match="dead"):
        collect(in_portions(ask, 1000, 1, parallel), found)
    assert {0, 1, 2} <= set(found)
    assert len(asked) < 20
    assert sorted(found) == sorted(set(asked) - {3})
