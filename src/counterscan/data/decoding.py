"""Compressed pictures, decoded in another process, which may stall or die there without harm.

A damaged picture can keep a decoder busy for very long (JPEG-LS that was cut short: 4 s for 32 x 32 pixels, and more
beside other work), or end its whole process (lossless JPEG in GDCM); both in native code, which nothing in Python can
interrupt. The process is kept for the next picture, so that a series pays for one start.
"""

import contextlib
import io
import json
import os
import select
import signal
import struct
import subprocess
import sys
from multiprocessing import util
from pathlib import Path
from typing import Any

import numpy as np

from counterscan.data.decoder import HEADER, PIPE

SECONDS, PIXELS = 3.0, 1_000_000  # of the processor's time for a picture, and again for every PIXELS: 20 times enough
PATIENCE = 20  # times as long by the clock, for machines with much to do
START = 120.0  # seconds that starting may take there
SCRIPT = "import sys; sys.path[:] = {path!r}; import runpy; runpy.run_path({script!r}, run_name='__main__')"

Message = tuple[bytes, dict[str, Any], bytearray]  # its kind, its head and its body
SPENT = getattr(signal, "SIGPROF", 0)  # ends a decoder that has had its time

_idle: "list[_Decoder]" = []  # as many as threads have ever decoded at once
_alive: "set[_Decoder]" = set()


def decoded_apart(stream: bytes, options: dict[str, Any]) -> np.ndarray:
    """The stored values `(h, w)` or `(h, w, 3)` of one frame; `options` are pydicom's, for the file that it is from.

    Raises ValueError where it cannot be decoded, takes too long or ends the decoder, MemoryError where it takes more
    memory than there is.
    """
    seconds = SECONDS * (1 + options["rows"] * options["columns"] * options["samples_per_pixel"] / PIXELS)
    decoder = _taken()
    try:
        kind, head, body = decoder.ask({"options": options}, stream, seconds)
    except BaseException:
        decoder.end()  # also after Ctrl-C: the answer that is still to come would be taken for the next one's
        raise
    _idle.append(decoder)
    if kind == b"m":
        raise MemoryError
    if kind == b"e":
        raise ValueError(head["reason"])
    return np.frombuffer(body, head["type"]).reshape(head["shape"])


def _taken() -> "_Decoder":
    """An idle decoder that is still alive, or a new one."""
    while True:
        try:
            decoder = _idle.pop()
        except IndexError:
            return _Decoder()
        if decoder.process.poll() is None:
            return decoder
        decoder.end()


class _Decoder:
    """One process; it ends when its pipe does, so also with a parent that is killed."""

    def __init__(self) -> None:
        script = SCRIPT.format(path=sys.path, script=str(Path(__file__).with_name("decoder.py")))
        self.process = subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            pipesize=PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is for the parent
        )
        _alive.add(self)
        self._at_exit = util.Finalize(None, self.end, exitpriority=10)  # atexit does not reach multiprocessing's own
        try:
            self._answer(START)
        except BaseException as error:
            self.end()
            raise ValueError(f"no process can be started to decode it: {error}") from error

    def ask(self, head: dict[str, Any], body: bytes, seconds: float) -> Message:
        """Send a picture and wait for the answer; ValueError where it takes too long, or ends the process."""
        told = json.dumps({**head, "seconds": seconds}).encode()
        try:
            self._write(struct.pack(HEADER, b"d", len(told), len(body)) + told + body)
        except OSError:
            raise ValueError(self._last_words()) from None
        return self._answer(seconds * PATIENCE)

    def end(self) -> None:
        """End it, whatever it does, and let go of its pipes."""
        _alive.discard(self)
        self._at_exit.cancel()
        self.process.kill()
        self.process.wait()
        self.let_go()

    def let_go(self) -> None:
        """Close this process's ends of the pipes."""
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                pipe.close() if pipe else None

    def _answer(self, seconds: float) -> Message:
        """The next message; ValueError where none comes within `seconds` by the clock, or the process ends instead."""
        assert self.process.stdout is not None
        if hasattr(select, "poll"):  # Windows has none, and no limit
            line = select.poll()
            line.register(self.process.stdout, select.POLLIN)
            if not line.poll(seconds * 1000):
                raise ValueError(f"its decoder did not answer within {seconds:.0f} s")
        try:
            return self._hear()
        except EOFError:
            raise ValueError(self._last_words()) from None

    def _last_words(self) -> str:
        code = self.process.wait()
        if code == -SPENT:
            return "decoding it takes longer than it would if it were whole"
        return f"it ends its decoder, {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"

    def _hear(self) -> Message:
        kind, told, size = struct.unpack(HEADER, self._read(struct.calcsize(HEADER)))
        return kind, json.loads(self._read(told) or "{}"), self._read(size)

    def _read(self, size: int) -> bytearray:
        assert isinstance(self.process.stdout, io.RawIOBase), "its pipes have no buffers"
        data, there = bytearray(size), 0
        while there < size:
            more = self.process.stdout.readinto(memoryview(data)[there:])
            if not more:
                raise EOFError
            there += more
        return data

    def _write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        rest = memoryview(data)
        while rest:
            rest = rest[self.process.stdin.write(rest) :]


def _forget() -> None:
    """In a process that was forked: its parent's decoders are none of its own, and must end when the parent does."""
    for decoder in _alive:
        decoder.process.returncode = 0  # or else it warns that it was not waited for
        decoder.let_go()
    _alive.clear()
    _idle.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
