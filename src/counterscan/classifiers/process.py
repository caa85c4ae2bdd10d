"""A function on arrays in a process of its own, whose imports, leaks and crashes do no harm here."""

import contextlib
import os
import signal
import struct
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np

from counterscan.classifiers.arrays import LIMIT, from_npy, to_npy
from counterscan.classifiers.deadline import deadline
from counterscan.errors import ClassifierError

START = 120.0  # seconds that importing may take; a busy machine needs half a minute for torch alone
TAIL = 2000  # bytes kept of what the worker prints
SCRIPT = f"import runpy; runpy.run_path({str(Path(__file__).with_name('worker.py'))!r}, run_name='__main__')"


class Worker:
    """Asks `package.module:function` in another Python: a function on arrays, for FunctionClassifier.

    The process is started by the first question (or `card`) and ended with this object or program. One that dies is
    started once more and asked again; one that answers no batch within `timeout` seconds is ended, and the next
    question starts another. `python` is the interpreter, for a model that needs other versions of libraries: it needs
    numpy. What the function prints is not shown; its last line is in the error. Not for several threads at once.
    """

    def __init__(self, name: str, timeout: float = 60.0, python: str = sys.executable):
        self.name = name
        self.timeout = timeout
        self.python = python
        self._run: _Run | None = None
        self._card = b""

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """What the function answers for float32 `pixels` `(b, c, *spatial)`; ClassifierError in one line."""
        data = to_npy(pixels)
        for last in (False, True):
            try:
                return self._asked(data)
            except _Died as error:
                if last:
                    raise ClassifierError(f"{self} died twice on images {pixels.shape}: {error}") from None
        raise AssertionError("the last try returns or raises")

    def __repr__(self) -> str:
        return f"process:{self.name}"

    def card(self) -> bytes:
        """The card that the function has as an attribute, as JSON; nothing where it has none."""
        self._started()
        return self._card

    def _asked(self, data: bytes) -> np.ndarray:
        run = self._started()
        kind, answer = self._within(run, self.timeout, lambda: run.ask(b"a", data))
        if kind == b"e":
            raise ClassifierError(f"{self} failed: {answer.decode('utf-8', 'replace')}")
        try:
            return from_npy(answer)
        except ValueError as error:
            raise ClassifierError(f"{self} answered {error}; it must answer scores (b, k)") from None

    def _started(self) -> "_Run":
        if self._run is None:
            self._run = run = _Run([self.python, "-c", SCRIPT, self.name])
            weakref.finalize(self, run.end)
            try:
                kind, told = self._within(run, START, run.hear)
            except _Died as error:
                raise ClassifierError(f"{self} did not start: {error}") from None
            if kind == b"e":
                self._drop()
                raise ClassifierError(f"{self} cannot be imported: {told.decode('utf-8', 'replace')}")
            self._card = told
        return self._run

    def _within(self, run: "_Run", seconds: float, ask: Callable[[], "Message"]) -> "Message":
        try:
            with deadline(seconds, run.kill) as late:
                return ask()
        except BaseException as error:
            self._drop()  # also after Ctrl-C: the answer that is still to come would be taken for the next one's
            if not isinstance(error, OSError | EOFError):
                raise
            if not late.is_set():
                raise _Died(run.last_words()) from None
            raise ClassifierError(
                f"{self} did not answer within {seconds:g} s and was ended; if it needs longer, say "
                '"settings": {"timeout": SECONDS} in its card'
            ) from None

    def _drop(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.end()


Message = tuple[bytes, bytes]  # its kind (one letter) and its content


class _Died(Exception):
    """The process is no more."""


class _Run:
    """One life of the process."""

    def __init__(self, command: list[str]):
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for the parent; and its children are ended with it
            )
        except OSError as error:
            raise ClassifierError(f"{command[0]} does not run: {error.strerror}; name another Python") from None
        self._tail = b""
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def ask(self, kind: bytes, data: bytes) -> Message:
        """Send a message and wait for the next one; OSError or EOFError when the process ends before it."""
        assert self.process.stdin is not None
        self.process.stdin.write(struct.pack(">cQ", kind, len(data)))
        self.process.stdin.write(data)
        self.process.stdin.flush()
        return self.hear()

    def hear(self) -> Message:
        """The next message; EOFError when the process ends before it."""
        kind, length = struct.unpack(">cQ", self._read(9))
        if length > LIMIT:
            raise ClassifierError(f"the worker answered more than {LIMIT >> 20} MiB; it must answer scores (b, k)")
        return kind, self._read(length)

    def kill(self) -> None:
        """End it, whatever it does."""
        if self.process.returncode is not None:  # its number may be another's by now
            return
        with contextlib.suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()

    def end(self) -> None:
        """End it and let go of its pipes."""
        self.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                pipe.close() if pipe else None

    def last_words(self) -> str:
        """How it ended, and the last line that it printed."""
        code = self.process.wait()
        self._listener.join(1)
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        lines = self._tail.decode("utf-8", "replace").strip().splitlines()
        return f"{how}, after {lines[-1].strip()!r}" if lines else how

    def _read(self, length: int) -> bytes:
        assert self.process.stdout is not None
        data = self.process.stdout.read(length)
        if len(data) < length:
            raise EOFError
        return data

    def _listen(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as pipe:
            while chunk := os.read(pipe.fileno(), 4096):
                self._tail = (self._tail + chunk)[-TAIL:]
