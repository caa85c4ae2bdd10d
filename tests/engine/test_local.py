"""Workers on this machine: each task comes back once, whoever dies, and nobody outlives the process that asked."""

import functools
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from counterscan.engine.local import HERE, Workers, share_of_threads
from counterscan.engine.work import TRIES, Work
from counterscan.errors import CounterscanError, MissingExtra, ScanError

ROOT = Path(__file__).parents[2]


def worker(folder):
    """What a worker does; it is made once in each of them."""
    (folder / f"{os.getpid()}.made").touch(exist_ok=False)
    return functools.partial(done, folder)


def done(folder, task):
    """One task, by its words."""
    kind, _, number = task.partition(" ")
    if kind == "die" or (kind == "die-once" and not (folder / "died").exists()):
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "fail":
        raise {"scan": ScanError("it is no image"), "extra": MissingExtra("ray", "ray"), "bug": ZeroDivisionError("b")}[
            number
        ]
    if kind == "warn":
        warnings.warn("mind the gap", stacklevel=1)
    if kind == "threads":
        return os.environ["OMP_NUM_THREADS"]
    return f"{task} done"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs tasks with some workers; answers results by task, as they came."""
    monkeypatch.syspath_prepend(ROOT)  # where a worker finds this file
    work = Work(functools.partial(done, tmp_path), functools.partial(worker, tmp_path))

    def results(tasks, count=2):
        return list(Workers(count)(work, functools.partial(taken, list(tasks))))

    return results


def test_each_task_comes_back_once_also_where_a_worker_is_killed(run, tmp_path):
    tasks = [f"do {number}" for number in range(5)] + ["die-once"] + [f"do {number}" for number in range(5, 9)]
    found = run(tasks)
    assert sorted(found) == sorted((task, f"{task} done") for task in tasks)
    assert (tmp_path / "died").exists()
    assert 2 <= len(list(tmp_path.glob("*.made"))) <= 3, "what is made in a worker is made once, and kept"


def test_a_task_that_kills_every_worker_is_given_up(run, tmp_path):
    with pytest.raises(CounterscanError, match=r"die: 3 workers died there, the last by signal SIGKILL; if memory"):
        run(["die", "do 1"], count=1)
    assert len(list(tmp_path.glob("*.made"))) == TRIES


@pytest.mark.parametrize(
    ("task", "kind", "text"),
    [
        ("fail scan", ScanError, "it is no image"),
        ("fail extra", MissingExtra, r"counterscan\[ray\]"),
        ("fail bug", RuntimeError, "ZeroDivisionError: b"),
    ],
)
def test_an_error_in_a_worker_is_raised_here(run, task, kind, text):
    with pytest.raises(kind, match=text):
        run([task], count=1)


def test_a_warning_in_a_worker_is_given_here_and_threads_are_shared_out(run, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    with pytest.warns(UserWarning, match="mind the gap"):
        found = dict(run(["warn", "threads"]))
    assert found["threads"] == "3"
    assert share_of_threads(100) == 1


def taken(queue):
    return queue.pop(0) if queue else None


def test_who_is_free_gets_what_comes_later(run, tmp_path):
    queue, seen = ["do 1"], []
    work = Work(str, functools.partial(worker, tmp_path))
    take = functools.partial(taken, queue)
    for task, _ in Workers(2)(work, take):
        seen.append(task)
        if len(seen) == 1:
            queue += ["do 2", "do 3"]
    assert sorted(seen) == ["do 1", "do 2", "do 3"]


def test_work_that_belongs_to_this_process_alone_is_refused_in_one_line():
    work = Work(str, lambda: str)
    with pytest.raises(CounterscanError, match=r"cannot go to another process .*leave --workers"):
        list(Workers(2)(work, lambda: None))


def test_here_does_one_after_the_other():
    queue = [1, 2]
    results = HERE(Work(lambda task: task * 10, lambda: str), functools.partial(taken, queue))
    assert next(results) == (1, 10)
    assert queue == [2], "the next one is taken when the last has come back"
    assert list(results) == [(2, 20)]


PARENT = """
import sys
sys.path.insert(0, {root!r})
from tests.engine import test_local as t
if __name__ == "__main__":
    work = t.Work(str, t.functools.partial(t.sleeper, t.Path({folder!r})))
    list(t.Workers(2)(work, t.functools.partial(t.taken, ["sleep"] * 2)))
"""


def sleeper(folder):
    """A worker that is busy for long."""
    (folder / f"{os.getpid()}.made").touch()
    return lambda task: time.sleep(600)


def test_workers_leave_when_their_parent_is_killed(tmp_path):
    program = tmp_path / "parent.py"
    program.write_text(PARENT.format(root=str(ROOT), folder=str(tmp_path)))
    parent = subprocess.Popen([sys.executable, program])
    wait_until(lambda: len(list(tmp_path.glob("*.made"))) == 2)
    parent.kill()
    parent.wait()
    workers = [int(path.stem) for path in tmp_path.glob("*.made")]
    wait_until(lambda: not any(alive(worker) for worker in workers))


def alive(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_until(true, seconds=120.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)
