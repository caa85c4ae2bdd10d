"""A service that answers images over HTTP: an array in, scores out, and nothing else is sent."""

import json
import socket
import ssl
import time
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection, IncompleteRead
from urllib.parse import SplitResult, urlsplit

import numpy as np

from counterscan.classifiers.arrays import LIMIT, MAGIC, from_npy, to_npy
from counterscan.classifiers.deadline import deadline
from counterscan.errors import ClassifierError

WAITS = (0.5, 1.0, 2.0)  # seconds before each further try of a service that is not there, or is busy
BUSY = (429, 502, 503, 504)
SCHEMES = ("http://", "https://")


class _NotThere(Exception):
    """A reason to try again."""


@dataclass(frozen=True)
class Service:
    """Asks the service at `url` (http or https): a function on arrays, for FunctionClassifier.

    Each POST carries float32 images `(n, c, *spatial)`, `batch` at most, as the content of an .npy file; the answer is
    an .npy file, or JSON (`[[...], ...]`, or `{"answers": [[...], ...]}`), of n rows. Redirections and proxies are not
    followed, so that pixels go to no other machine. Connections that fail are tried again, thrice, ever later; an
    answer that takes longer than `timeout` seconds is not. Raises ClassifierError.
    """

    url: str
    timeout: float = 60.0
    batch: int = 32
    _parts: SplitResult = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_parts", _split(self.url))

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """The scores `(b, k)` or `(b,)` of `pixels` `(b, c, *spatial)`."""
        starts = range(0, len(pixels), self.batch)
        return np.concatenate([self._answer(pixels[start : start + self.batch]) for start in starts])

    def card(self) -> bytes:
        """The card that the service answers to a GET."""
        return self._asked("GET")

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

    def _asked(self, method: str, body: bytes | None = None) -> bytes:
        for wait in (*WAITS, None):
            try:
                return self._once(method, body)
            except _NotThere as error:
                if wait is None:
                    raise ClassifierError(
                        f"{self.name}: {error}, {len(WAITS) + 1} times; is the service running there?"
                    ) from None
                time.sleep(wait)
        raise AssertionError("the last try returns or raises")

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
        connection.request(method, path, body, {"Accept": "application/x-npy, application/json", **sent})
        response = connection.getresponse()
        data = response.read(LIMIT + 1)
        if response.length and len(data) <= LIMIT:
            raise IncompleteRead(data, response.length)
        if response.status in BUSY:
            raise _NotThere(f"{response.status} {response.reason}")
        if response.status != 200:
            place = response.headers.get("Location", "")
            raise ClassifierError(
                f"{self.name} answered {response.status} {response.reason} to {method}"
                f"{f', and points to {place}: name that address' if place else f' ({_shown(data)})'}"
            )
        if len(data) > LIMIT:
            raise ClassifierError(f"{self.name} answered more than {LIMIT >> 20} MiB; it must answer scores")
        return data


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
