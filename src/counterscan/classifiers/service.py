"""A service that answers images over HTTP: an array in, scores out, and nothing else is sent."""

import contextlib
import json
import random
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, IncompleteRead
from urllib.parse import SplitResult, urlsplit

import numpy as np

from counterscan.classifiers.arrays import LIMIT, MAGIC, from_npy, to_npy
from counterscan.classifiers.deadline import deadline
from counterscan.classifiers.portions import in_portions
from counterscan.errors import ClassifierError

FIRST, LONGEST = 0.5, 30.0  # seconds before the second try; each further wait is twice as long, up to this
FIRST_CONTACT = 4.0  # seconds of patience with an address that never answered, which may be mistyped
LATER = (408, 425, 429)  # and what is 500 or more, but for
NEVER = (501, 505, 511)
SCHEMES = ("http://", "https://")
CHANCE = random.Random()  # its own, so that nobody's seeded numbers are used up


class _NotThere(Exception):
    """A reason to try again, `after` this many seconds at the earliest."""

    def __init__(self, reason: str, after: float = 0.0):
        super().__init__(reason)
        self.after = after


@dataclass(frozen=True)
class Service:
    """Asks the service at `url` (http or https): a function on arrays, for FunctionClassifier.

    Each POST carries float32 images `(n, c, *spatial)`, `batch` at most, as the content of an .npy file; the answer is
    an .npy file, or JSON (`[[...], ...]`, or `{"answers": [[...], ...]}`), of n rows; at most `parallel` are under way.
    Redirections and proxies are not followed, so that pixels go to no other machine. A service that is not there,
    fails (5xx) or is busy (429) is asked again, ever later but not before its Retry-After, until `patience` seconds
    after the first try; one that was given up gets no patience before it has answered once. An answer that takes
    longer than `timeout` seconds is not waited for, nor asked for again. Raises ClassifierError.
    """

    url: str
    timeout: float = 60.0
    batch: int = 32
    parallel: int = 1
    patience: float = 60.0
    _parts: SplitResult = field(init=False, repr=False, compare=False)
    _given_up: threading.Event = field(init=False, repr=False, compare=False, default_factory=threading.Event)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_parts", _split(self.url))

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """The scores `(b, k)` or `(b,)` of `pixels` `(b, c, *spatial)`."""
        found = dict[int, np.ndarray]()
        for part, scores in in_portions(
            lambda part: self._answer(pixels[part]), len(pixels), self.batch, self.parallel
        ):
            found[part.start] = scores
        return np.concatenate([found[start] for start in sorted(found)])

    def card(self) -> bytes:
        """The card that the service answers to a GET."""
        return self._asked("GET", patience=min(self.patience, FIRST_CONTACT))

    @property
    def name(self) -> str:
        """Host and path, without what may be secret in a query."""
        return f"{self._parts.scheme}://{self._parts.netloc}{self._parts.path}"

    @property
    def exposed(self) -> bool:
        """Do pixels leave this machine unencrypted?"""
        host = self._parts.hostname or ""
        return self._parts.scheme == "http" and not (host in ("localhost", "::1") or host.startswith("127."))

    def _answer(self, pixels: np.ndarray) -> np.ndarray:
        scores = self._scores(self._asked("POST", to_npy(pixels)))
        if scores.ndim not in (1, 2) or len(scores) != len(pixels):
            raise ClassifierError(
                f"{self.name} answered {scores.shape} for {len(pixels)} images; it must answer one row an image"
            )
        return scores

    def _scores(self, data: bytes) -> np.ndarray:
        try:
            if data.startswith(MAGIC):
                return from_npy(data)
            told = json.loads(data)
            scores = np.asarray(told["answers"] if isinstance(told, dict) else told)
            if scores.dtype.kind not in "fiub":
                raise ValueError("no numbers")
            return scores
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            kind = "an HTML page" if data.lstrip().startswith(b"<") else "neither an .npy file nor JSON with numbers"
            raise ClassifierError(
                f"{self.name} answered {kind} ({_shown(data)}); name the address that takes images by POST"
            ) from None

    def _asked(self, method: str, body: bytes | None = None, patience: float | None = None) -> bytes:
        patience = self.patience if patience is None else patience
        begun, tries = time.monotonic(), 0
        while True:
            try:
                data = self._once(method, body)
                self._given_up.clear()
                return data
            except _NotThere as error:
                tries += 1
                wait = error.after + _backoff(tries)
                if self._given_up.is_set() or time.monotonic() - begun + wait > patience:
                    self._given_up.set()
                    raise ClassifierError(f"{self.name}: {error}, {_times(tries)}; {_cure(error, wait)}") from None
                self._given_up.wait(wait)  # not longer than until another portion gives up

    def _once(self, method: str, body: bytes | None) -> bytes:
        connection = self._connection()
        try:
            connection.connect()
            line = connection.sock

            def hang_up() -> None:  # not SSLSocket's own, which may not be called while another thread reads
                socket.socket.shutdown(line, socket.SHUT_RDWR)

            with deadline(self.timeout, hang_up) as late:
                try:
                    data = self._exchange(connection, method, body)
                except (OSError, HTTPException) as error:
                    raise TimeoutError if late.is_set() else error from error
            if late.is_set():  # a line that is hung up looks like an answer that ends
                raise TimeoutError
            return data
        except TimeoutError:
            raise ClassifierError(
                f'{self.name} did not answer within {self.timeout:g} s; say "settings": {{"timeout": SECONDS}} in its '
                'card, or a smaller "batch"'
            ) from None
        except ssl.SSLCertVerificationError as error:
            raise ClassifierError(f"{self.name} cannot prove who it is: {error.verify_message}") from None
        except (OSError, HTTPException) as error:
            raise _NotThere(f"{type(error).__name__} ({error or 'no reason given'})") from error
        finally:
            connection.close()

    def _connection(self) -> HTTPConnection:
        kind = HTTPSConnection if self._parts.scheme == "https" else HTTPConnection
        return kind(self._parts.hostname or "", self._parts.port, timeout=self.timeout)

    def _exchange(self, connection: HTTPConnection, method: str, body: bytes | None) -> bytes:
        sent = {"Content-Type": "application/x-npy"} if body else {}
        path = (self._parts.path or "/") + (f"?{self._parts.query}" if self._parts.query else "")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may refuse before it has read all
            connection.request(method, path, body, {"Accept": "application/x-npy, application/json", **sent})
        response = connection.getresponse()
        data = response.read(LIMIT + 1)
        if response.length and len(data) <= LIMIT:
            raise IncompleteRead(data, response.length)
        if response.status in LATER or (response.status >= 500 and response.status not in NEVER):
            said = f" ({_shown(data)})" if data.strip() else ""
            raise _NotThere(f"{response.status} {response.reason}{said}", _retry_after(response))
        if response.status != 200:
            raise ClassifierError(f"{self.name} answered {self._refusal(response, data, method)}")
        if len(data) > LIMIT:
            raise ClassifierError(f"{self.name} answered more than {LIMIT >> 20} MiB; it must answer scores")
        return data

    def _refusal(self, response: HTTPResponse, data: bytes, method: str) -> str:
        told = f"{response.status} {response.reason} to {method}"
        if place := response.headers.get("Location", ""):
            return f"{told}, and points to {place}: name that address"
        if response.status == 413:
            return (
                f'{told} of up to {self.batch} images ({_shown(data)}); say "settings": {{"batch": FEWER}} in its card'
            )
        return f"{told} ({_shown(data)})"


def _backoff(tries: int) -> float:
    """Seconds to wait after so many tries; by chance shorter, so that many who wait do not come back together."""
    return min(FIRST * 2 ** min(tries - 1, 20), LONGEST) * CHANCE.uniform(0.5, 1)


def _retry_after(response: HTTPResponse) -> float:
    """The seconds that a busy service asks for (a number, or a date); 0 where it says none."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        return max((parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):  # nothing, nonsense, or a date without its zone
        return 0.0


def _times(tries: int) -> str:
    return "once" if tries == 1 else f"{tries} times"


def _cure(error: _NotThere, wait: float) -> str:
    if error.after:
        return (
            f'it asks for {error.after:.0f} s: run this again then, or say "settings": {{"patience": {wait + 60:.0f}}}'
        )
    return "is the service running there?"


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # which raises for what is no number
    except ValueError as error:
        raise ClassifierError(f"{url} is no address: {error}; write http://host:port/path") from None
    if "@" in parts.netloc:
        raise ClassifierError(
            f"a service's address must hold no user or password ({parts.hostname}): results name it; use a tunnel"
        )
    if not parts.hostname or any(letter.isspace() or ord(letter) < 32 for letter in url):
        raise ClassifierError(f"{url!r} is no address; write http://host:port/path")
    return parts


def _shown(data: bytes) -> str:
    """The beginning of what a service said, as one printable line."""
    text = " ".join(data[:400].decode("utf-8", "replace").split())
    return "".join(letter for letter in text[:60] if letter.isprintable()) or "nothing"
