"""A command in a process of its own that is killed at a moment, and what it left beside what it should have left.

The process is forked from one that has loaded the libraries, so that moments fall into the work; it is this process
that must have no threads. A moment is a time, or one of the operations on files, which are counted: before it the
process is killed, where a file is opened for writing with half a line in it.
"""

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMES = ("seconds",)  # of a case, in tables and JSON: all that may differ between two runs
AGAIN = " --resume"  # what a card's command has more, where the training was interrupted
SPOKEN = re.compile(rb"(seconds a case</\w+>\s*<\w+[^>]*>)[^<]*")  # the same on the page
PATIENCE = 900.0  # seconds that a command may take on a machine with much to do


@dataclass(frozen=True)
class Moment:
    """When a process is killed: after `seconds`, or before operation `number` (from 1) on a file in its folder."""

    seconds: float = 0.0
    number: int = 0


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code (negative: the signal), what it said, how long and how many operations."""

    code: int
    said: str
    seconds: float
    operations: int

    @property
    def killed(self) -> bool:
        """Was it killed by us?"""
        return self.code == -signal.SIGKILL

    @property
    def lines(self) -> list[str]:
        """What it said, without empty lines."""
        return [line for line in self.said.splitlines() if line.strip()]


def ended(do: Callable[[], Any], folder: Path, log: Path, moment: Moment | None = None) -> Ended:
    """`do` in a process of its own, whose working folder is `folder` and whose words go to `log`."""
    started, (told, tells) = time.monotonic(), os.pipe()
    process = begun(do, folder, log, moment.number if moment else 0, tells)
    os.close(tells)
    wait = moment.seconds if moment and moment.seconds else PATIENCE
    code = waited(process, wait)
    if code is None:
        os.killpg(process, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    seconds = time.monotonic() - started
    if code == -signal.SIGKILL and seconds > PATIENCE:
        raise SystemExit(f"{log} hangs: not done after {PATIENCE:g} s")
    count = os.read(told, 100)
    os.close(told)
    return Ended(code, log.read_text(errors="replace"), seconds, int(count or 0))


def begun(do: Callable[[], Any], folder: Path, log: Path, number: int = 0, tells: int = -1) -> int:
    """The process (its id, and that of its group) that does `do`; `tells` gets the count of its operations on files."""
    sys.stdout.flush()
    process = os.fork()
    if process:
        with contextlib.suppress(OSError):  # whoever comes first
            os.setpgid(process, process)
        return process
    code = 70
    try:
        os.setpgid(0, 0)
        folder.mkdir(parents=True, exist_ok=True)
        os.chdir(folder)
        _say_into(log)
        counter = Operations(folder.resolve(), number)
        sys.addaudithook(counter)
        code = _code(do)
        if tells >= 0:
            os.write(tells, str(counter.count).encode())
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:  # also where the log lies on a full disk: nothing of the parent's may be done twice
            os._exit(code)


def _say_into(log: Path) -> None:
    line = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(line, 1)
    os.dup2(line, 2)
    os.close(line)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115 (whatever stood there)


def _code(do: Callable[[], Any]) -> int:
    try:
        do()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
        return 70
    return 0


def waited(process: int, seconds: float) -> int | None:
    """The exit code of a child, or None where it is not done after some seconds."""
    line = os.pidfd_open(process)
    try:
        if not select.select([line], [], [], seconds)[0]:
            return None
    finally:
        os.close(line)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


PLACES = {  # operations on files: which arguments are paths, and which the folders (as open files) that they are from
    "open": ((0, None),),
    "os.rename": ((0, 2), (1, 3)),
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.mkdir": ((0, 2),),
    "os.link": ((0, 2), (1, 3)),
    "os.symlink": ((1, 2),),
}


def changes(event: str, args: tuple[Any, ...]) -> bool:
    """Does an audit event tell that a file is made, changed or removed?"""
    if event == "open":
        written = isinstance(args[2], int) and bool(args[2] & (os.O_WRONLY | os.O_RDWR))
        return written and isinstance(args[0], str | bytes)
    return event in PLACES


def paths(event: str, args: tuple[Any, ...]) -> list[str]:
    """The absolute paths of an event that `changes` something."""
    found = []
    for name, folder in PLACES[event]:
        line = -1 if folder is None else args[folder]
        start = os.readlink(f"/proc/self/fd/{line}") if line >= 0 else os.getcwd()
        found.append(os.path.abspath(os.path.join(start, os.fsdecode(args[name]))))
    return found


class Operations:
    """An audit hook that counts what changes files in `folder`, and ends the process before operation `last`."""

    def __init__(self, folder: Path, last: int):
        self.folder, self.last, self.count = str(folder), last, 0

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        writes = event == "open"
        if not changes(event, args):
            return
        (path, *_) = paths(event, args)
        if not path.startswith(self.folder):
            return
        self.count += 1
        if self.count == self.last:
            if writes and args[2] & os.O_CREAT:
                _tear(path, args[2])
            os.kill(os.getpid(), signal.SIGKILL)


def _tear(path: str, flags: int) -> None:
    """Leave what a process leaves that is killed while it writes: the beginning of a line."""
    line = os.open(path, flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_EXCL), 0o600)
    os.write(line, b'{"st')
    os.close(line)


def contents(folder: Path) -> dict[str, str]:
    """A digest for each file in `folder`, of all that it holds but times, and "" for each folder in it.

    It is found in a process of its own, for torch, which reads checkpoints, starts threads.
    """
    log = folder.with_name(f"{folder.name}.contents")
    code = ended(lambda: print(json.dumps(_contents(folder))), folder, log)
    if code.code:
        raise SystemExit(code.said)
    return json.loads(code.said)


def _contents(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        found[name] = hashlib.sha256(_plain(path)).hexdigest() if path.is_file() else ""
    return found


def _plain(path: Path) -> bytes:
    content = path.read_bytes()
    try:
        if path.suffix == ".pt":
            return repr(_values(path)).encode()
        if path.name == "SHA256SUMS" or path.suffix == ".sha256":
            return repr(_sums(path)).encode()
        if path.suffix == ".json":
            return json.dumps(_timeless(json.loads(content))).encode()
        if path.suffix == ".csv":
            rows = csv.DictReader(io.StringIO(content.decode()))
            return json.dumps([_timeless(row) for row in rows]).encode()
    except (ValueError, RuntimeError, EOFError, OSError):  # a damaged file is compared as it is
        return content
    return SPOKEN.sub(rb"\1", content) if path.suffix == ".html" else content


def _sums(path: Path) -> list[tuple[str, bool]]:
    """Which files are told of, and whether their sums are right: the sums are of files with times in them."""
    lines = [line.split("  ", 1) for line in path.read_text().splitlines() if not line.startswith("#")]
    return [(name, hashlib.sha256((path.parent / name).read_bytes()).hexdigest() == told) for told, name in lines]


def _values(path: Path) -> Any:
    """What a checkpoint holds: the same values are not always the same bytes, for they may be shared in memory."""
    import torch

    def plain(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            content = value.contiguous().numpy().tobytes()
            return str(value.dtype), tuple(value.shape), hashlib.sha256(content).hexdigest()
        if isinstance(value, Mapping):
            return {key: plain(one) for key, one in value.items()}
        return [plain(one) for one in value] if isinstance(value, list | tuple) else value

    return plain(torch.load(path, weights_only=True))


def _timeless(value: Any) -> Any:
    if isinstance(value, Mapping):
        told = {key: one for key, one in value.items() if key not in TIMES}
        return {key: one.removesuffix(AGAIN) if key == "command" else _timeless(one) for key, one in told.items()}
    return [_timeless(one) for one in value] if isinstance(value, list) else value


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """What is lost, left over, and not as it should be."""
    lost = [f"lost: {name}" for name in expected.keys() - found.keys()]
    more = [f"left over: {name}" for name in found.keys() - expected.keys()]
    other = [f"differs: {name}" for name in expected.keys() & found.keys() if expected[name] != found[name]]
    return sorted(lost + more + other)
