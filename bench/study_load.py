"""Fifty readers answer at once while the study's server is killed again and again: is any answer lost, or kept twice?

    python bench/study_load.py --json results/study-load.json

Each simulated reader opens a personal link, fetches each picture, thinks, and answers, with one connection that stays
open. What gets no answer (the server was killed with SIGKILL, and starts again on the same port) is sent again with the
same nonce; some answers are also sent twice for no reason. At the end the database is opened and compared with what the
server acknowledged. The time of an answer runs from sending it to having the whole reply, attempts that a kill cut off
apart; it counts what a busy machine adds on both sides, since readers and server share it. Times between kills begin
SETTLED seconds after the server answers again, when the readers who waited for it have been served; those of all
answers, with the rush after each start, are given beside them.
"""

import argparse
import hashlib
import http.client
import json
import math
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.stats import binom, chi2

import counterscan
from counterscan.study.records import Answer, Part, Picture, ReaderCard, Study, Trial
from counterscan.study.store import Store

THINK, AGAIN, SIDE = (0.5, 1.5), 0.02, 128  # seconds of thought, share sent twice, pixels a side
SERVE = "import sys; from counterscan.web.study_server import serve; serve(sys.argv[1], port=int(sys.argv[2]))"
SETTLED = 2.0
PATIENCE = 60.0  # seconds that a server may take to start
CUT = (OSError, http.client.HTTPException)


def make_study(folder: Path, readers: int, trials: int) -> dict[str, str]:
    """Write a study of `trials` pictures of noise, and answer the readers' tokens."""
    chance = np.random.default_rng(7)
    (folder / "pictures").mkdir(parents=True)
    pictures, asked = [], []
    for at in range(trials):
        kind = ("real", "synthetic")[at % 2]
        pictures.append(Picture(id=chance.bytes(8).hex(), kind=kind, method="" if kind == "real" else "noise"))
        pixels = chance.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / pictures[-1].file)
        task, role = "real-or-synthetic", "test"
        asked.append(
            Trial(id=chance.bytes(8).hex(), part=1, task=task, role=role, pictures=(pictures[-1].id,), answer=kind)
        )
    tokens = {f"reader {at + 1}": secrets.token_urlsafe(24) for at in range(readers)}
    cards = [ReaderCard(name=name, token_hash=hashlib.sha256(one.encode()).hexdigest()) for name, one in tokens.items()]
    part = Part(number=1, task="real-or-synthetic", title="Load", question="Real or synthetic?")
    study = {"id": secrets.token_hex(8), "title": "Load", "seed": 7, "created": "", "parts": (part,)}
    Study(**study, trials=asked, pictures=pictures, readers=cards).save(folder)
    return tokens


class Server:
    """The server as a process of its own, which can be killed and comes back on the same port."""

    def __init__(self, folder: Path):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.folder, self.kills = folder, 0
        self.starts: list[float] = []
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [sys.executable, "-c", SERVE, str(self.folder), str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        started = time.monotonic()
        while time.monotonic() < started + PATIENCE:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self.starts.append(time.perf_counter())
            except OSError:
                time.sleep(0.05)
        raise SystemExit("the server did not start")

    def kill(self) -> None:
        """Kill it at once (SIGKILL), and start it again."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.kills += 1
        self.start()

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()


@dataclass
class Reader:
    """One simulated reader: `acknowledged` are the nonces and choices that the server said it stored."""

    name: str
    token: str
    port: int
    think: tuple[float, float]
    seed: int
    acknowledged: dict[str, str] = field(default_factory=dict)
    times: list[tuple[float, float]] = field(default_factory=list)  # when it was sent, and ms to the reply
    cut: int = 0
    trouble: str = ""

    def run(self) -> None:
        """Read the whole study."""
        self.chance, self.line = random.Random(self.seed), None
        try:
            cookie = self.ask("GET", f"/enter/{self.token}", raw=True).split(";")[0]
            self.cookie = {"Cookie": cookie}
            state = self.ask("GET", "/api/state")
            while state["phase"] == "trial":
                state = self.answer(state)
        except (ValueError, KeyError) as error:
            self.trouble = f"{type(error).__name__}: {error}"

    cookie: dict[str, str] = field(default_factory=dict)

    def answer(self, state: dict) -> dict:
        """Look at a picture, think, answer: the state after it."""
        trial = state["trials"][0]
        self.ask("GET", f"/api/pictures/{trial['pictures'][0]}", raw=True)
        time.sleep(self.chance.uniform(*self.think))
        choice = self.chance.choice(("real", "synthetic"))
        nonce, sure = f"{self.chance.getrandbits(128):032x}", self.chance.randint(1, 5)
        given = {"trial": trial["id"], "nonce": nonce, "choice": choice, "confidence": sure, "rt_ms": 800}
        word = self.ask("POST", "/api/answers", {**given}, key=state["csrf"])
        assert word["stored"]
        self.acknowledged[nonce] = choice
        if self.chance.random() < AGAIN:
            self.ask("POST", "/api/answers", given, key=state["csrf"])
        return word["state"]

    def ask(self, method: str, path: str, body: dict | None = None, key: str = "", raw: bool = False):
        """Ask until there is an answer; the cookie or bytes where `raw`, else the JSON."""
        headers = {**self.cookie, "X-Study-Key": key, "Content-Type": "application/json"}
        while True:
            started = time.perf_counter()
            try:
                self.line = self.line or http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
                self.line.request(method, path, json.dumps(body) if body else None, headers)
                reply = self.line.getresponse()
                content = reply.read()
            except CUT:
                self.line, self.cut = None, self.cut + 1
                time.sleep(0.2)
                continue
            if reply.status == 503:
                time.sleep(0.2)
                continue
            if reply.status != 200:
                raise ValueError(f"{method} {path}: {reply.status} {content[:200]!r}")
            if method == "POST":
                self.times.append((started, 1000 * (time.perf_counter() - started)))
            return reply.headers.get("set-cookie", "") if raw else json.loads(content)


def run(folder: Path, readers: int, trials: int, kills: int, think: tuple[float, float] = THINK) -> dict:
    """The figures of one load: `readers` x `trials` answers, the server killed `kills` times between them."""
    tokens = make_study(folder, readers, trials)
    server = Server(folder)
    people = [Reader(name, token, server.port, think, seed) for seed, (name, token) in enumerate(tokens.items())]
    threads = [threading.Thread(target=one.run, daemon=True) for one in people]
    started = time.monotonic()
    try:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.02)
            done = sum(len(one.acknowledged) for one in people)
            if server.kills < kills and done > (server.kills + 1) * readers * trials / (kills + 1):
                server.kill()
    finally:
        server.stop()
    troubles = [one.trouble for one in people if one.trouble]
    assert not troubles, troubles[:3]
    figures = {"kills": server.kills, "seconds": time.monotonic() - started, "starts": server.starts}
    return figures | compare(people, Store.of(folder).answers())


def compare(people: list[Reader], kept: list[Answer]) -> dict:
    """What the readers were told beside what the database holds."""
    acknowledged = {nonce: choice for one in people for nonce, choice in one.acknowledged.items()}
    found = {answer.nonce: answer.choice for answer in kept}
    return {
        "acknowledged": len(acknowledged),
        "lost": len(acknowledged.keys() - found.keys()),
        "doubled": len(kept) - len({(answer.reader, answer.trial) for answer in kept}) + len(kept) - len(found),
        "changed": sum(found.get(nonce, choice) != choice for nonce, choice in acknowledged.items()),
        "cut": sum(one.cut for one in people),
        "times": [pair for one in people for pair in one.times],
    }


def settled(times: list[tuple[float, float]], starts: list[float]) -> list[float]:
    """The ms of answers that were sent when the last start was at least SETTLED seconds ago."""
    return [ms for sent, ms in times if not any(0 <= sent - start < SETTLED for start in starts)]


def quantile(times: list[float], q: float) -> dict:
    """A quantile in ms with its 95 % interval by order statistics."""
    ordered, n = sorted(times), len(times)
    low, high = (min(n - 1, max(0, int(binom.ppf(p, n, q)))) for p in (0.025, 0.975))
    at = min(n - 1, math.ceil(q * n) - 1)
    return {"value": round(ordered[at], 2), "low": round(ordered[low], 2), "high": round(ordered[high], 2), "n": n}


def counted(value: int, n: int) -> dict:
    """A count with its exact 95 % Poisson interval."""
    low = chi2.ppf(0.025, 2 * value) / 2 if value else 0.0
    return {"value": value, "low": round(low, 2), "high": round(chi2.ppf(0.975, 2 * value + 2) / 2, 2), "n": n}


def exact(value: float, n: int) -> dict:
    """A figure of the setting, which has no interval."""
    return {"value": value, "low": value, "high": value, "n": n}


def main() -> None:
    """Run the load, print the figures, and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readers", type=int, default=50)
    parser.add_argument("--answers", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = run(Path(folder) / "study", asked.readers, asked.answers // asked.readers, asked.kills)
    n, times = found["acknowledged"], [ms for _, ms in found["times"]]
    calm = settled(found["times"], found["starts"])
    metrics = {
        "answers_lost": counted(found["lost"], n),
        "answers_doubled": counted(found["doubled"], n),
        "answers_changed": counted(found["changed"], n),
        "kills": exact(found["kills"], n),
        "attempts_cut_off": exact(found["cut"], n),
        "readers": exact(asked.readers, n),
        "answer_ms_median": quantile(calm, 0.5),
        "answer_ms_p99": quantile(calm, 0.99),
        "answer_ms_p99_with_starts": quantile(times, 0.99),
        "load_average": exact(round(os.getloadavg()[0], 1), n),
        "answers_per_second": exact(round(n / found["seconds"], 1), n),
        "seconds": exact(round(found["seconds"], 1), n),
    }
    for name, figure in metrics.items():
        print(f"{name:26} {figure['value']:>10}   ({figure['low']} to {figure['high']})")
    if asked.json:
        command = " ".join(["python", "bench/study_load.py", *sys.argv[1:]])
        result = {"command": command, "version": counterscan.__version__, "explainer": "counterscan study serve"}
        asked.json.write_text(json.dumps({**result, "n": n, "metrics": metrics}, indent=1) + "\n")


if __name__ == "__main__":
    main()
