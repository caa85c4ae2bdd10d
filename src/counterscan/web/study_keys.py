"""Who may come in, and under which names things go out: all from one secret that stays beside the study."""

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from itsdangerous import BadSignature, URLSafeTimedSerializer

from counterscan.errors import CounterscanError
from counterscan.study.records import ReaderCard

FILE, BYTES = "secret.key", 32
LASTS = 7 * 24 * 3600  # seconds: then the personal link is asked for again
READER, OWNER = "reader", "owner"


@dataclass(frozen=True)
class Session:
    """Who is asking, and from which visit: `key` is random, one for each time that a link was opened."""

    name: str
    key: str

    @classmethod
    def new(cls, name: str) -> "Session":
        """A visit that begins."""
        return cls(name, secrets.token_hex(8))


def secret_of(folder: Path) -> bytes:
    """The secret of the study in `folder`, drawn on first use into a file that only its owner may read."""
    path = folder / FILE
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(BYTES))
    except FileExistsError:
        pass
    except OSError as error:
        raise CounterscanError(
            f"{path} cannot be written: {error.strerror}; give the study a writable folder"
        ) from error
    text = path.read_text().strip()
    if len(text) < 2 * BYTES:
        raise CounterscanError(f"{path} is damaged: it should hold {2 * BYTES} hex digits; restore it, or remove it")
    return text.encode()


class Keys:
    """Signs and names with one `secret`; two readers share no name, and no name says what it stands for."""

    def __init__(self, secret: bytes):
        self._secret = secret

    def mark(self, *what: str) -> str:
        """32 hex digits that stand for `what`, and tell nothing of it to those without the secret."""
        return hmac.new(self._secret, "\x1f".join(what).encode(), hashlib.sha256).hexdigest()[:32]

    def owner_token(self) -> str:
        """What the owner's link ends in."""
        return self.mark("owner's link")

    def is_owner(self, token: str) -> bool:
        """Whether `token` is the owner's, in a time that says nothing."""
        return hmac.compare_digest(_hashed(token), _hashed(self.owner_token()))

    def csrf(self, session: Session) -> str:
        """What the page of a session sends with each change, and no other site can know."""
        return self.mark("csrf", session.name, session.key)

    def is_csrf(self, session: Session, given: str) -> bool:
        """Whether `given` is what the page of this session sends, in a time that says nothing."""
        return hmac.compare_digest(_hashed(given), _hashed(self.csrf(session)))

    def cookie(self, role: str, session: Session) -> str:
        """The session as a signed cookie, good for one role."""
        return self._signer(role).dumps([session.name, session.key])

    def session(self, role: str, cookie: str) -> Session | None:
        """The session of a cookie; None where it is not ours, of another role, or too old."""
        try:
            name, key = self._signer(role).loads(cookie, max_age=LASTS)
        except (BadSignature, ValueError, TypeError):
            return None
        return Session(name, key)

    def _signer(self, role: str) -> URLSafeTimedSerializer:
        return URLSafeTimedSerializer(self._secret, salt=f"counterscan.{role}")


def reader_of(token: str, readers: tuple[ReaderCard, ...]) -> str:
    """The name of the reader whose token this is, or "": every hash is compared, each in constant time."""
    given, found = _hashed(token), ""
    for reader in readers:
        if hmac.compare_digest(given.encode(), reader.token_hash.encode()):
            found = reader.name
    return found


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
