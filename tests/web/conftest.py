"""A small study of noise, its app, and a server of it on a port of its own."""

import hashlib
import shutil
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from counterscan.study.records import Part, Picture, ReaderCard, Study, Trial

CHROMIUM = "/usr/bin/chromium"
READERS = ("ada", "ben", "cleo")
ARGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def token_of(reader):
    """The token in a reader's link."""
    return f"token-of-{reader}"


class Maker:
    """Draws pictures and trials into a folder, and saves them as a study."""

    def __init__(self, folder, seed=0, side=24):
        self.folder, self.side, self.random = Path(folder), side, np.random.default_rng(seed)
        self.pictures, self.trials, self.parts = [], [], []
        (self.folder / "pictures").mkdir(parents=True)

    def picture(self, kind, method="", **facts):
        """A picture: real ones are coarse and synthetic ones smooth, so that their files differ in size."""
        name = self.random.bytes(8).hex()
        levels = self.random.integers(0, 256, (self.side, self.side))
        pixels = levels if kind == "real" else np.full_like(levels, levels[0, 0])
        Image.fromarray(pixels.astype(np.uint8)).save(self.folder / "pictures" / f"{name}.png")
        method = method or ("gan" if kind == "synthetic" else "")
        self.pictures.append(Picture(id=name, kind=kind, method=method, case=name[:4], facts=facts))
        return name

    def part(self, task, **facts):
        """A part that asks `task`."""
        words = {"title": f"About {task}", "instructions": "Look, then answer.", "question": "What do you say?"}
        self.parts.append(Part(number=len(self.parts) + 1, task=task, **{**words, **facts}))
        return len(self.parts)

    def trial(self, pictures, answer=None, role="test", **facts):
        """A trial of the last part."""
        part, name = self.parts[-1], self.random.bytes(8).hex()
        self.trials.append(
            Trial(
                id=name, part=part.number, task=part.task, role=role, pictures=tuple(pictures), answer=answer, **facts
            )
        )
        return name

    def yes_no(self, n, role="test"):
        """`n` trials real or synthetic, in turn."""
        for at in range(n):
            kind = ("real", "synthetic")[at % 2]
            self.trial([self.picture(kind)], kind, role)

    def save(self, readers=READERS, **facts):
        """Write the study, and answer its folder."""
        cards = tuple(
            ReaderCard(name=one, token_hash=hashlib.sha256(token_of(one).encode()).hexdigest()) for one in readers
        )
        Study(
            id=self.random.bytes(8).hex(),
            title="A small study",
            seed=1,
            created="2026-01-01",
            parts=tuple(self.parts),
            trials=tuple(self.trials),
            pictures=tuple(self.pictures),
            readers=cards,
            **facts,
        ).save(self.folder)
        return self.folder


@pytest.fixture
def maker(tmp_path):
    """An empty study in a folder of its own."""
    return Maker(tmp_path / "study")


@pytest.fixture
def yes_no(maker):
    """A study of one part: six trials, real or synthetic."""
    maker.part("real-or-synthetic", reasons=("texture", "noise"))
    maker.yes_no(6)
    return maker.save()


@dataclass
class Served:
    """A running server."""

    app: object
    url: str


@pytest.fixture
def serving():
    """A function that serves an app for as long as a block runs."""
    return run_server


@contextmanager
def run_server(app, port=0):
    """`app` on a port of this machine, in a thread, for as long as the block runs."""
    uvicorn = pytest.importorskip("uvicorn")
    listener = socket.create_server(("127.0.0.1", port))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, server_header=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield Served(app, f"http://127.0.0.1:{listener.getsockname()[1]}")
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="session")
def chromium():
    """A headless browser."""
    api = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or CHROMIUM
    if not Path(path).exists():
        pytest.skip("chromium is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGS)
        yield browser
        browser.close()
