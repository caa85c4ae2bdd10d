"""Engines that need nothing else: this process, and several on this machine, each of which holds the models.

A process that is lost (killed, out of memory) is replaced, and its task is done again.
"""

import contextlib
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from typing import Any

from counterscan.engine.work import TRIES, Hands, R, T, Work

PATIENCE = 10.0  # seconds in which a process that has nothing to do leaves by itself


@dataclass(frozen=True)
class Here:
    """This process, one task after the other."""

    def __call__(self, work: Work[T, R], take: Callable[[], T | None], /) -> Generator[tuple[T, R], None, None]:
        while (task := take()) is not None:
            yield task, work.here(task)


HERE = Here()


@dataclass(frozen=True)
class Workers:
    """At most `count` processes on this machine, which share out the threads that this one would have."""

    count: int

    def __call__(self, work: Work[T, R], take: Callable[[], T | None], /) -> Generator[tuple[T, R], None, None]:
        crew = _Crew(work, take, work.packed(), self.count)
        try:
            yield from crew.results()
        finally:
            crew.end()


def share_of_threads(count: int) -> int:
    """The threads that each of `count` processes may use, of those that one would."""
    known = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, (int(known) if known.isdecimal() else cores()) // count)


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_threads(count: int) -> None:
    """Let the libraries that are loaded from now on, and torch, use so many threads in this process."""
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


class _Worker:
    """One process, and the task that it is busy with."""

    def __init__(self, packed: bytes, threads: int):
        context = get_context("spawn")  # a fork of a process with threads can wait for ever
        self.line, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, packed, threads))
        self.process.start()
        theirs.close()  # theirs alone, so that the line ends with the process
        self.task: Any = None
        self.tries = 0

    def ask(self, task: Any, tries: int) -> None:
        self.task, self.tries = task, tries
        with contextlib.suppress(OSError):  # it is gone, which shows when it is listened to
            self.line.send(task)

    def end(self, patience: float) -> None:
        self.line.close()
        self.process.join(patience)
        self.process.kill()
        self.process.join()


@dataclass
class _Crew:
    work: Work
    take: Callable[[], Any]
    packed: bytes
    count: int
    idle: list[_Worker] = field(default_factory=list)
    busy: list[_Worker] = field(default_factory=list)
    again: deque[tuple[Any, int]] = field(default_factory=deque)

    def results(self) -> Iterator[tuple[Any, Any]]:
        """Each task with its result, as they come."""
        while self._hand_out():
            heard = connection.wait([worker.line for worker in self.busy])
            for worker in [one for one in self.busy if one.line in heard]:
                yield from self._hear(worker)

    def end(self) -> None:
        """End all processes: who is idle leaves by itself, who is busy would write what nobody waits for."""
        for worker in self.busy:
            worker.end(0)
        for worker in self.idle:
            worker.line.close()
        for worker in self.idle:
            worker.end(PATIENCE)

    def _hand_out(self) -> bool:
        """Give every process a task, as far as there are any; is anybody busy?"""
        while len(self.busy) < self.count and (asked := self._next()) is not None:
            worker = self.idle.pop() if self.idle else _Worker(self.packed, share_of_threads(self.count))
            self.busy.append(worker)
            worker.ask(*asked)
        return bool(self.busy)

    def _next(self) -> tuple[Any, int] | None:
        if self.again:
            return self.again.popleft()
        task = self.take()
        return None if task is None else (task, 1)

    def _hear(self, worker: _Worker) -> Iterator[tuple[Any, Any]]:
        self.busy.remove(worker)
        try:
            answer = worker.line.recv()
        except (EOFError, OSError):
            self._replace(worker)
            return
        self.idle.append(worker)
        yield worker.task, answer.opened()

    def _replace(self, worker: _Worker) -> None:
        worker.end(PATIENCE)
        if worker.tries >= TRIES:
            raise self.work.lost(worker.task, _ended(worker.process.exitcode))
        self.again.append((worker.task, worker.tries + 1))


def _ended(code: int | None) -> str:
    """How a process ended, for a person."""
    if code is not None and code < 0:
        return f"by signal {signal.Signals(-code).name}"
    return f"with exit code {code}"


def _serve(line: Connection, packed: bytes, threads: int) -> None:
    """The life of a worker: answer tasks until the line is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers
    threading.Thread(target=_leave_with_the_parent, daemon=True).start()
    use_threads(threads)
    hands = Hands(packed)
    with contextlib.suppress(EOFError, OSError):
        while True:
            line.send(hands(line.recv()))


def _leave_with_the_parent() -> None:
    """A parent that is killed cannot end its workers; one that went on would write beside the next run of the job."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
