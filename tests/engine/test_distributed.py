"""Which engine a name stands for, and Ray's: a cluster of two workers, one of which is killed."""

import functools
import importlib.util
import os
import signal
import sys
from pathlib import Path

import pytest

from counterscan.engine.distributed import Ray, engine_of
from counterscan.engine.local import HERE, Workers
from counterscan.engine.work import Work
from counterscan.errors import CounterscanError, MissingExtra, ScanError

ROOT = Path(__file__).parents[2]
LOOPBACK = {"0100007F", "0" * 24 + "01000000", "0000000000000000FFFF00000100007F"}  # as the kernel writes it


def test_an_engine_is_called_by_its_name():
    assert engine_of("local") == HERE
    assert engine_of("local", 3) == Workers(3)
    assert engine_of("ray", 2, "auto") == Ray(2, "auto")


@pytest.mark.parametrize(
    ("words", "message"),
    [(("rya",), "did you mean 'ray'"), (("local", 2, "head:6379"), "add --engine ray"), (("spark",), "local, ray")],
)
def test_a_wrong_word_is_answered_with_the_cure(words, message):
    with pytest.raises(CounterscanError, match=message):
        engine_of(*words)


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    before = dict(os.environ)
    with pytest.raises(MissingExtra, match=r"counterscan\[ray\]"):
        list(Ray(1)(Work(str, functools.partial(str)), lambda: None))
    assert dict(os.environ) == before


def worker(folder):
    """What an actor does."""
    return functools.partial(done, folder)


def done(folder, task):
    if task == "die-once" and not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "fail":
        raise ScanError("it is no image")
    if task == "cluster":
        return token(), sorted(listening())
    return task, os.getpid(), os.getcwd()


def token() -> str:
    return f"{os.environ.get('RAY_AUTH_MODE')} {len(os.environ.get('RAY_AUTH_TOKEN', ''))}"


def listening() -> set[str]:
    """The addresses that ray's processes listen on, as /proc has them."""
    inodes = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"ray" in (process / "cmdline").read_bytes():
                inodes |= {os.readlink(one).strip("socket:[]") for one in (process / "fd").iterdir()}
        except OSError:
            continue  # gone, or somebody else's
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in inodes:
                found.add(words[1].partition(":")[0])
    return found


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra [ray] is not installed")
def test_a_cluster_of_two_with_one_killed_does_each_task_once(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # where an actor finds this file
    monkeypatch.setenv("RAY_worker_niceness", "0")  # on a busy machine they would wait for all others
    work = Work(str, functools.partial(worker, tmp_path))
    queue = [0, 1, 2, "die-once", "cluster", 3, 4, 5]
    found = dict(Ray(2)(work, lambda: queue.pop(0) if queue else None))
    assert not sys.modules["ray"].is_initialized()
    auth, addresses = found.pop("cluster")
    assert auth == "token 64"
    assert addresses
    assert set(addresses) <= LOOPBACK, "it listens on this machine alone"
    assert {task: answer[0] for task, answer in found.items()} == {task: task for task in (*range(6), "die-once")}
    assert len({process for _, process, _ in found.values()}) >= 2
    assert {folder for *_, folder in found.values()} == {os.getcwd()}


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra [ray] is not installed")
def test_a_job_on_a_cluster_of_two_with_one_killed_ends_as_in_one_process(tmp_path, monkeypatch):
    for path in (ROOT, ROOT / "tests"):
        monkeypatch.syspath_prepend(path)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{ROOT / 'tests'}")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    monkeypatch.setenv("COUNTERSCAN_TEST_MARK", str(tmp_path / "died"))
    import test_engine as engine

    for number in range(7):
        engine.picture(tmp_path / "in" / f"{number}.png", bright=number != 3, seed=number)
    engine.run(engine.job(tmp_path / "in", tmp_path / "one"))
    dying = engine.job(tmp_path / "in", tmp_path / "two", explainer=engine.Inpainting(engine.Dying()))
    assert len(engine.run(dying, Ray(2)).rows) == 7
    assert (tmp_path / "died").exists()
    assert engine.tables(tmp_path / "two") == engine.tables(tmp_path / "one")
    pictures = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.png"))
    assert pictures == sorted(path.relative_to(tmp_path / "two") for path in (tmp_path / "two").rglob("*.png"))
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in pictures)
