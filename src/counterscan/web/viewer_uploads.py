"""Uploads: a scan comes in within limits, a process explains it, and the result is thrown away after a time."""

import asyncio
import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from counterscan.data.files import SUFFIXES, format_of_content
from counterscan.errors import CounterscanError
from counterscan.registry import EXPLAINERS, SHIPPED, shipped_weights
from counterscan.web.viewer_index import Archive, Folder

KINDS = ("png", "jpeg", "tiff", "dicom", "nifti")  # whole in one file, and read by a header of its own
WORKER = (sys.executable, "-m", "counterscan.web.viewer_worker")
MEGABYTE = 1 << 20
MOST_VALUES = 1 << 26  # decompressed: 512 x 512 x 256
SLOW = 300.0  # seconds that a file may take to arrive
SECONDS = 1800.0  # that a job may take
KEEP = 3600.0  # seconds that a result is kept
RESULTS = 20  # results that are kept at once
SAID = re.compile(r"explain: (\d+) of (\d+) \w+(?: \((\d+) of (\d+) (\w+))?")


class Refused(CounterscanError):
    """An upload that is not taken, and the HTTP status that says so."""

    def __init__(self, status: int, why: str):
        super().__init__(why)
        self.status = status


@dataclass(frozen=True)
class Given:
    """A classifier that the one who started the viewer named, with the method and prior that go with it."""

    classifier: str
    method: str = ""
    prior: str = ""
    target: str = ""
    card: str = ""


@dataclass
class Job:
    """One upload on its way."""

    token: str
    folder: Path
    file: str
    started: float = field(default_factory=time.monotonic)
    state: str = "receiving"  # then running, then done, failed or cancelled
    error: str = ""
    process: subprocess.Popen | None = None
    gone: threading.Event = field(default_factory=threading.Event)
    ended: float = 0.0

    def told(self, archive: Archive) -> dict[str, Any]:
        """What a browser gets."""
        seconds = (self.ended or time.monotonic()) - self.started
        facts = {"state": self.state, "seconds": round(seconds, 1), "error": self.error, **self._progress()}
        if self.state == "done" and (folder := archive.private.get(self.token)):
            facts["case"] = next(iter(folder.rows), "")
        return facts

    def _progress(self) -> dict[str, Any]:
        """How far the process says that it has come, its share of the whole None where it cannot say."""
        if self.state != "running":
            return {"share": 1.0 if self.state == "done" else None, "note": ""}
        found = None
        with contextlib.suppress(OSError):
            found = [*SAID.finditer((self.folder / "log.txt").read_text(errors="replace")[-4000:])]
        if not found:
            return {"share": None, "note": "loading the classifier"}
        done, cases, part, parts, unit = found[-1].groups()
        within = int(part) / max(1, int(parts)) if part else 0.0
        share = (int(done) + within) / max(1, int(cases))
        return {
            "share": share if part or share else None,
            "note": f"{part} of {parts} {unit}" if part else "explaining",
        }


class Desk:
    """Takes one upload at a time and lets a process explain it."""

    def __init__(self, archive: Archive, given: tuple[Given, ...] = (), megabytes: int = 100, keep: float = KEEP):
        self.archive, self.given, self.keep = archive, given, keep
        self.most_bytes, self.most_values, self.seconds = megabytes * MEGABYTE, MOST_VALUES, SECONDS
        self.jobs: dict[str, Job] = {}
        self._home: Path | None = None
        self._lock = threading.Lock()
        self._offers: list[dict[str, Any]] = []

    def offers(self) -> list[dict[str, Any]]:
        """Each classifier that may be asked for: its classes, and the methods that have all that they need."""
        with self._lock:
            if not self._offers:
                named = {one.classifier for one in self.given}
                shipped = [
                    Given(name) for name in shipped_weights() if name.endswith("/classifier") and name not in named
                ]
                self._offers = [_offer(one) for one in (*self.given, *shipped)]
            return self._offers

    def check(self, classifier: str, method: str, target: str) -> dict[str, Any]:
        """The offer that is asked for; Refused for any other."""
        offer = next((one for one in self.offers() if one["name"] == classifier), None)
        if offer is None:
            raise Refused(422, "no such classifier is offered; choose one of the list")
        if method not in offer["methods"]:
            raise Refused(422, f"{classifier} is offered with {', '.join(offer['methods'])}; choose one of these")
        if not 0 < len(target) <= 200:
            raise Refused(422, "a target is at most 200 letters, for example effusion=0")
        return offer

    async def take(self, body: AsyncIterator[bytes], offer: dict[str, Any], method: str, target: str) -> Job:
        """Receive a file and start to explain it. Raises Refused."""
        job = self._admit()
        try:
            path = job.folder / "incoming"
            await self._receive(body, path)
            kind = format_of_content(path)
            if kind not in KINDS:
                raise Refused(415, "this is no PNG, JPEG, TIFF, DICOM or NIfTI file; convert it to one of these")
            job.file = f"upload{SUFFIXES[kind][0] if not _plain_nifti(path, kind) else '.nii'}"
            path.rename(job.folder / job.file)
            asked = {"file": job.file, "kind": kind, "most": self.most_values, "classifier": offer["spec"],
                     "prior": offer["prior"] if method == offer["prior_for"] else "", "card": offer["card"],
                     "method": method, "target": target}  # fmt: skip
            (job.folder / "job.json").write_text(json.dumps(asked))
            self._start(job)
        except BaseException:
            self._drop(job)
            raise
        return job

    def _admit(self) -> Job:
        with self._lock:
            if any(job.state in ("receiving", "running") for job in self.jobs.values()):
                raise Refused(409, "another scan is being explained; wait until it is done, or cancel it")
            if self._home is None:
                self._home = Path(tempfile.mkdtemp(prefix="counterscan-viewer-"))
            ended = [job for job in self.jobs.values() if job.ended]
            for job in sorted(ended, key=lambda job: job.ended)[: max(0, len(ended) - RESULTS + 1)]:
                job.gone.set()
            token = secrets.token_urlsafe(18).replace("-", "_")
            job = Job(token, self._home / token, "")
            job.folder.mkdir()
            self.jobs[token] = job
            return job

    async def _receive(self, body: AsyncIterator[bytes], path: Path) -> None:
        from starlette.requests import ClientDisconnect

        size = 0
        try:
            async with asyncio.timeout(SLOW):
                with path.open("wb") as file:
                    async for part in body:
                        size += len(part)
                        if size > self.most_bytes:
                            limit = f"{self.most_bytes // MEGABYTE} MB"
                            raise Refused(413, f"the file is larger than {limit}, which is the limit")
                        file.write(part)
        except TimeoutError:
            raise Refused(408, f"the file did not arrive within {SLOW:g} s; try again") from None
        except ClientDisconnect:
            raise Refused(400, "the connection was lost") from None
        if not size:
            raise Refused(422, "the file is empty; choose another")

    def _start(self, job: Job) -> None:
        with (job.folder / "log.txt").open("wb") as log:
            job.process = subprocess.Popen(
                [*WORKER, str(job.folder)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        job.state = "running"
        threading.Thread(target=self._watch, args=(job, job.process), daemon=True).start()

    def _watch(self, job: Job, process: subprocess.Popen) -> None:
        try:
            code = process.wait(self.seconds)
        except subprocess.TimeoutExpired:
            _kill(process)
            code, job.error = (
                -1,
                f"it took longer than {self.seconds / 60:g} minutes; take a smaller scan or a faster method",
            )
        (job.folder / job.file).unlink(missing_ok=True)  # the scan itself is kept no longer than it is needed
        if job.state == "running":
            self._settle(job, code)
        job.ended = time.monotonic()
        job.gone.wait(self.keep)
        self._drop(job)

    def _settle(self, job: Job, code: int) -> None:
        folder = Folder(job.token, job.folder / "run", "upload")
        folder.refresh()
        if code == 0 and folder.rows:
            for row in folder.rows.values():
                row.key = f"{job.token}/{row.name}"
            self.archive.private[job.token] = folder
            job.state = "done"
            return
        with contextlib.suppress(OSError):
            job.error = job.error or (job.folder / "error.txt").read_text()
        job.error = job.error or "the process that explained it ended unexpectedly; try another method"
        job.state = "failed"

    def cancel(self, token: str) -> None:
        """End a job and forget it."""
        job = self.jobs[token]
        if job.process is not None and job.state == "running":
            job.state = "cancelled"
            _kill(job.process)
        job.gone.set()

    def _drop(self, job: Job) -> None:
        self.archive.private.pop(job.token, None)
        self.jobs.pop(job.token, None)
        shutil.rmtree(job.folder, ignore_errors=True)

    def close(self) -> None:
        """End everything and remove all that uploads left."""
        for job in list(self.jobs.values()):
            self.cancel(job.token)
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)


def _kill(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _plain_nifti(path: Path, kind: str) -> bool:
    with path.open("rb") as file:
        return kind == "nifti" and file.read(2) != b"\x1f\x8b"


def _offer(given: Given) -> dict[str, Any]:
    from counterscan.explainers.build import needs_prior

    name = given.classifier
    methods = [method for method in EXPLAINERS if not needs_prior(method) or _prior_beside(method, name)]
    if given.method and given.method not in methods:
        methods.insert(0, given.method)
    classes, normal = _classes(given)
    return {
        "name": Path(name).name if Path(name).exists() else name,
        "spec": os.path.abspath(name) if Path(name).exists() else name,
        "classes": classes,
        "targets": [text for text in (given.target, *(["normal"] if normal else [])) if text],
        "methods": sorted(methods, key=lambda method: (method != given.method, method != "inpainting", method)),
        "prior": given.prior,
        "prior_for": given.method,
        "card": os.path.abspath(given.card) if given.card else "",
    }


def _prior_beside(method: str, classifier: str) -> bool:
    from counterscan.explainers.build import prior_name

    return f"{classifier.partition('/')[0]}/{prior_name(method)}" in shipped_weights()


def _classes(given: Given) -> tuple[list[str], bool]:
    """The classes that the card names, where there is a card to be read, and whether `normal` can be asked for."""
    from counterscan.core import Target
    from counterscan.weights.store import load_card, parse_card

    try:
        if given.card:
            card = parse_card(Path(given.card).read_bytes(), given.card)
        else:
            card = load_card(
                SHIPPED / given.classifier if given.classifier in shipped_weights() else Path(given.classifier)
            )
        with contextlib.suppress(CounterscanError):
            Target.parse("normal", card)
            return list(card.classes), True
        return list(card.classes), False
    except (CounterscanError, OSError):
        return [], False
