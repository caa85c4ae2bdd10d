"""The load bench in small: readers answer while the server is killed, and nothing that was acknowledged is lost."""

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("sqlalchemy")
pytest.importorskip("itsdangerous")

BENCH = Path(__file__).parents[2] / "bench" / "study_load.py"


@pytest.fixture(scope="module")
def load():
    """The bench as a module."""
    spec = importlib.util.spec_from_file_location("study_load", BENCH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_killed_server_loses_and_doubles_nothing(load, tmp_path):
    found = load.run(tmp_path / "study", readers=4, trials=8, kills=2, think=(0.0, 0.05))
    assert found["acknowledged"] == 32
    assert found["kills"] == 2
    assert found["lost"] == found["doubled"] == found["changed"] == 0


def test_the_count_finds_what_is_lost_doubled_and_changed(load):
    from counterscan.study.records import Answer

    reader = load.Reader("ada", "", 0, (0, 0), 0, acknowledged={"a": "real", "b": "real", "c": "real"})
    kept = [
        Answer(reader="ada", trial=f"t{at}", nonce=nonce, choice=choice)
        for at, nonce, choice in ((1, "a", "real"), (1, "d", "real"), (2, "b", "synthetic"))
    ]
    found = load.compare([reader], kept)
    assert (found["lost"], found["doubled"], found["changed"]) == (1, 1, 1)
