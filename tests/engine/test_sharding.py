"""Parts of a job: every task is in one of them, and one of them writes what is of the whole."""

import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterscan.engine.sharding import WHOLE, Notes, Shard, sweep_beside, write_alone
from counterscan.errors import CounterscanError


@given(count=st.integers(1, 50), number=st.integers(0, 10_000))
def test_each_task_is_in_one_part(count, number):
    parts = Shard(1, count).all
    assert sum(number in part for part in parts) == 1
    assert [Shard.parse(str(part)) for part in parts] == list(parts)


def test_parts_are_about_equal():
    sizes = [sum(number in part for number in range(103)) for part in Shard(1, 4).all]
    assert max(sizes) - min(sizes) <= 1


def test_nothing_typed_is_the_whole():
    assert Shard.parse("") == WHOLE
    assert WHOLE.whole
    assert Shard.parse("1/1").whole
    assert not Shard.parse(" 2 / 3 ").whole


@pytest.mark.parametrize("text", ["0/4", "5/4", "2", "2/", "a/b", "-1/4", "1/4/2", "1.0/2"])
def test_what_is_no_part_is_refused_with_an_example(text):
    with pytest.raises(CounterscanError, match=r"--shard 1/4"):
        Shard.parse(text)


def test_parts_tell_one_another_that_they_are_done(tmp_path):
    notes, shard = Notes(tmp_path), Shard(2, 3)
    notes.write(shard, {"cases": 7, "failed": ["x"]})
    notes.write(Shard(1, 2), {})  # of another division, which counts for nothing
    assert notes.missing(shard) == (Shard(1, 3), Shard(3, 3))
    for other in notes.missing(shard):
        notes.write(other, {"cases": 7, "failed": []})
    assert not notes.missing(shard, cases=7)
    assert notes.missing(shard, cases=8) == shard.all, "there is one more by now"
    assert [len(note["failed"]) for note in notes.read(shard)] == [0, 1, 0]


def test_one_part_alone_writes_the_tables_and_the_whole_always_may(tmp_path):
    notes = Notes(tmp_path)
    with notes.alone(Shard(1, 2)) as first, notes.alone(Shard(2, 2)) as second, notes.alone(WHOLE) as whole:
        assert (first, second, whole) == (True, False, True)
    with notes.alone(Shard(2, 2)) as later:
        assert later


def test_many_write_the_same_file_at_once_and_it_is_whole(tmp_path):
    path, texts = tmp_path / "run.json", [json.dumps([number] * 2000).encode() for number in range(8)]
    threads = [threading.Thread(target=write_alone, args=(path, text)) for text in texts * 20]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in texts
    (tmp_path / "run.json.0123.part").touch()
    sweep_beside(path)
    assert [one.name for one in tmp_path.iterdir()] == ["run.json"]
