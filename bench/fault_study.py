"""A reader study whose server is killed while readers answer, for faults.py; readers and server as in study_load.py."""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fault_runs import begun, waited

READERS, TRIALS = 3, 8
THINK = (0.02, 0.1)  # seconds
STUDY = "study"
LONGEST = 900.0  # seconds that readers may take on a machine with much to do
Disturbance = tuple[float, Callable[[], object] | None]  # after how many seconds, and what; None is a kill


def lay(ground: Path) -> None:
    """Write the study into `ground`, and its readers' tokens; to be called in a process of its own."""
    from study_load import make_study

    tokens = make_study(ground / STUDY, READERS, TRIALS)
    (ground / "tokens.json").write_text(json.dumps(tokens))


@dataclass(frozen=True)
class Round:
    """What became of the readers' answers: `kept` in the database, as the readers were `told`."""

    kills: int
    seconds: float
    kept: list[tuple[str, ...]]
    told: dict[str, str]
    files: list[str]

    def differences(self, expected: "Round | None" = None) -> list[str]:
        """What was lost, doubled or changed of what readers were told, or beside a round without kills."""
        found = {nonce: choice for _, _, nonce, choice in self.kept}
        wrong = [f"lost or changed: {nonce}" for nonce in self.told if found.get(nonce) != self.told[nonce]]
        wrong += [f"doubled: {len(self.kept) - len(found)} answers"] if len(found) != len(self.kept) else []
        if expected is not None and sorted(self.kept) != sorted(expected.kept):
            wrong.append(f"{len(self.kept)} answers are not the {len(expected.kept)} of an undisturbed study")
        return wrong + [f"left over: {name}" for name in self.files if name.endswith(".part")]


def serve(folder: Path, port: int) -> None:
    """`counterscan study serve`, here."""
    from counterscan import cli

    sys.argv = ["counterscan", "study", "serve", str(folder), "--port", str(port)]
    cli.main()


def read(tokens: dict[str, str], port: int, told: Path) -> None:
    """Let all readers read at once, and write what the server acknowledged."""
    import threading

    from study_load import Reader

    people = [Reader(name, token, port, THINK, seed) for seed, (name, token) in enumerate(sorted(tokens.items()))]
    threads = [threading.Thread(target=one.run) for one in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if troubles := [one.trouble for one in people if one.trouble]:
        raise SystemExit(troubles[0])
    answers = {nonce: choice for one in people for nonce, choice in one.acknowledged.items()}
    told.write_text(json.dumps(answers))


def answers_of(folder: Path, out: Path) -> None:
    """Write what the database holds; in a process of its own, which does not leave the database open."""
    from counterscan.study.store import Store

    kept = [(one.reader, one.trial, one.nonce, one.choice) for one in Store.of(folder).answers()]
    out.write_text(json.dumps(kept))


def studied(ground: Path, place: Path, disturbances: list[Disturbance]) -> Round:
    """The study in a copy at `place`, disturbed after so many seconds each: by a kill, or by what a function does."""
    folder, told = place / STUDY, place / "told.json"
    shutil.copytree(ground / STUDY, folder)
    tokens, port, left = json.loads((ground / "tokens.json").read_text()), _free_port(), list(disturbances)
    started, kills, code = time.monotonic(), 0, None
    readers = begun(lambda: read(tokens, port, told), place, place.with_suffix(".readers.log"))
    while code is None:
        server = begun(lambda: serve(folder, port), place, place.with_suffix(".server.log"))
        try:
            code = _disturbed(readers, left)
        finally:
            os.killpg(server, signal.SIGKILL)
            os.waitpid(server, 0)
        kills += code is None
    if code:
        raise SystemExit(place.with_suffix(".readers.log").read_text())
    seconds, kept = time.monotonic() - started, place / "kept.json"
    waited(begun(lambda: answers_of(folder, kept), place, place.with_suffix(".kept.log")), LONGEST)
    rows = [tuple(one) for one in json.loads(kept.read_text())]
    return Round(kills, seconds, rows, json.loads(told.read_text()), [path.name for path in folder.rglob("*")])


def _disturbed(readers: int, left: list[Disturbance]) -> int | None:
    """The readers' exit code, or None once the server is to be killed."""
    while left:
        seconds, do = left.pop(0)
        code = waited(readers, seconds)
        if code is not None or do is None:
            return code
        do()
    code = waited(readers, LONGEST)
    if code is None:
        raise SystemExit(f"readers are not done after {LONGEST:g} s")
    return code


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]
