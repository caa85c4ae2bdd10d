"""The other end of `service.py`: any classifier offered over HTTP, an array in and scores out."""

import asyncio
import hashlib
import math
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from counterscan.classifiers.answers import to_scores
from counterscan.classifiers.arrays import from_npy, to_npy
from counterscan.classifiers.torch import one_line
from counterscan.core import Card, Classifier
from counterscan.errors import CounterscanError, MissingExtra

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI, Request

NPY = "application/x-npy"
HEAD = 4096  # bytes that the head of an .npy file may take
FAR = 10.0  # pixels beyond this were never brought to [-1, 1]
SLOW = 60.0  # seconds that a body may take to arrive


class Refused(Exception):
    """A question that is not answered: its HTTP status, why, and the seconds after which to ask again."""

    def __init__(self, status: int, why: str, after: int = 0):
        super().__init__(why)
        self.status = status
        self.headers = {"Retry-After": str(after)} if after else {}


def offered_card(card: Card, batch: int) -> Card:
    """The card of the classifier behind a service: it takes images as they are, in [-1, 1], and answers scores.

    Nothing of the machine that serves it is told, neither the command nor the network's settings; `version` changes
    with whatever its own card says, so that answers which the other end keeps are not taken for a new model's.
    """
    plain = {"mean": (0.0,), "std": (1.0,), "temperature": (1.0,), "scale": "logits"}
    version = hashlib.sha256(card.model_dump_json().encode()).hexdigest()[:16]
    settings = {"batch": batch, "version": version}
    return card.model_copy(update=plain | {"settings": settings, "network": "", "command": "", "source": ""})


def scores(classifier: Classifier, images: np.ndarray) -> np.ndarray:
    """What `offered_card` promises for images `(b, c, *spatial)` in [-1, 1]: float32 `(b, k)`, binary `(b, 1)`.

    Log-odds, of a softmax log-probabilities: so the other end finds the log-odds again, without loss where they are
    large.
    """
    with torch.no_grad():
        found = to_scores(classifier(torch.from_numpy(images)).float().cpu(), classifier.card)
    return (found[:, -1:] if classifier.card.output == "binary" else found).numpy()


class Desk:
    """Answers one question after the other; `limit` at most are answered or wait, the next one is to come later."""

    def __init__(self, classifier: Classifier, batch: int, limit: int):
        self.classifier = classifier
        self.card = offered_card(classifier.card, batch)
        self.batch, self.limit = batch, limit
        self.waiting = self.images = 0
        self._seconds = 1.0  # that the last question took
        self._pool = ThreadPoolExecutor(1)  # torch shares the cores out by itself

    @property
    def largest(self) -> int:
        """The bytes that a body may have: a full batch of float64."""
        return HEAD + 8 * self.batch * math.prod(self.card.shape)

    async def answer(self, request: "Request") -> np.ndarray:
        """The scores for the images in the body; Refused says why there are none."""
        if self.waiting >= self.limit:
            await _body(request, self.largest, keep=False)  # who is still sending would not read the answer
            raise Refused(429, f"{self.waiting} questions wait already", math.ceil(self.waiting * self._seconds))
        self.waiting += 1
        try:
            images = self._images(await _body(request, self.largest))
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._scores, images)
        finally:
            self.waiting -= 1

    def health(self) -> dict[str, Any]:
        """What a GET of /health answers."""
        return {"status": "ok", "name": self.card.name, "waiting": self.waiting, "images": self.images}

    def _images(self, body: bytes) -> np.ndarray:
        try:
            pixels = from_npy(body)
        except (ValueError, TypeError, OverflowError, RecursionError, MemoryError):
            raise Refused(415, "the body is no .npy file of numbers; send what numpy.save writes") from None
        wanted = ", ".join(map(str, self.card.shape))
        if pixels.shape[1:] != tuple(self.card.shape) or pixels.ndim < 1:
            raise Refused(422, f"images {pixels.shape} where {self.card.name} takes (n, {wanted})")
        if not 0 < len(pixels) <= self.batch:
            raise Refused(413, f"{len(pixels)} images; send 1 to {self.batch} at once")
        images = pixels.astype(np.float32)
        if not np.abs(images).max() <= FAR:  # written so that NaN is refused too
            raise Refused(422, f"pixels from {images.min():g} to {images.max():g} where [-1, 1] is expected")
        return images

    def _scores(self, images: np.ndarray) -> np.ndarray:
        start = time.perf_counter()
        found = scores(self.classifier, images)
        self._seconds = time.perf_counter() - start
        self.images += len(images)
        return found


async def _body(request: "Request", largest: int, keep: bool = True) -> bytes:
    """The body, of which no more is ever held than `largest` bytes."""
    parts, length = [], 0
    try:
        async with asyncio.timeout(SLOW):
            async for part in request.stream():
                length += len(part)
                if length > largest:
                    raise Refused(413, f"the body is larger than {largest} bytes; send fewer images at once")
                parts += [part] * keep
    except TimeoutError:
        raise Refused(408, f"the body did not arrive within {SLOW:g} s") from None
    return b"".join(parts)


def build_app(classifier: Classifier, batch: int = 32, limit: int = 16) -> "FastAPI":
    """The application: POST / answers images, GET / (and /card) the card, GET /health how it is.

    Raises MissingExtra without FastAPI.
    """
    try:
        from fastapi import FastAPI, Request
        from fastapi.responses import JSONResponse, Response
    except ImportError:
        raise MissingExtra("fastapi", "web") from None
    desk = Desk(classifier, batch, limit)
    app = FastAPI(title=desk.card.name, docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/")
    @app.get("/card")
    async def card() -> Response:
        return Response(desk.card.model_dump_json(exclude_defaults=True), media_type="application/json")

    @app.get("/health")
    async def health() -> Response:
        return JSONResponse(desk.health())

    @app.post("/")
    async def answer(request: Request) -> Response:
        try:
            found = await desk.answer(request)
        except Refused as error:
            return JSONResponse({"detail": str(error)}, error.status, {"Connection": "close", **error.headers})
        except Exception as error:
            why = str(error) if isinstance(error, CounterscanError) else one_line(error)
            return JSONResponse({"detail": f"{desk.card.name} failed: {why}"}, 500)
        if NPY in request.headers.get("accept", ""):
            return Response(to_npy(found), media_type=NPY)
        return JSONResponse({"answers": found.tolist(), "classes": list(desk.card.classes)})

    return app


def build_server(app: "FastAPI") -> "uvicorn.Server":
    """What answers on a socket, by `run(sockets=[...])`, until the process is told to end. Raises MissingExtra."""
    try:
        import uvicorn
    except ImportError:
        raise MissingExtra("uvicorn", "web") from None
    return uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=5))
