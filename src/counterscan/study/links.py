"""Personal links: random tokens in a file that only its owner reads; the study itself keeps their hashes."""

import csv
import hashlib
import io
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from counterscan.errors import CounterscanError, did_you_mean
from counterscan.kept import read_rows
from counterscan.study.records import ReaderCard, Study

FILE, BYTES = "links.csv", 24
CURE = "restore it from a copy, or delete it and give every reader a new link"


def write_links(folder: Path, readers: Iterable[str], known: Mapping[str, str] | None = None) -> dict[str, str]:
    """Draw a token for each of `readers` into FOLDER/links.csv (mode 600), beside those `known`; answer all."""
    tokens = {**(known or {}), **{reader: secrets.token_urlsafe(BYTES) for reader in readers}}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([("reader", "token"), *tokens.items()])
    part, path = folder / f"{FILE}.part", folder / FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text.getvalue())
        os.replace(part, path)
    except OSError as error:
        raise CounterscanError(
            f"{path} cannot be written ({error.strerror}); make room there, or name another folder"
        ) from None
    return tokens


def read_links(folder: Path) -> dict[str, str]:
    """The tokens that FOLDER/links.csv still holds, by reader. Raises ScanError where it is damaged."""
    path = folder / FILE
    if not path.is_file():
        return {}
    return {row["reader"]: row["token"] for row in read_rows(path, "reader", "token", cure=CURE)}


def renew(folder: Path, study: Study, readers: Iterable[str]) -> Study:
    """Give `readers` new links, which end their old ones; the study is otherwise as it was.

    A name that the study does not know is refused: who reads is fixed with the order of what they see.
    """
    readers = list(readers)
    for name in readers:
        if name not in study.names:
            raise CounterscanError(f"{study.title!r} has no reader {name!r}{did_you_mean(name, study.names)}")
    tokens = write_links(folder, readers, read_links(folder))
    hashes = {card.name: card.token_hash for card in study.readers}
    hashes |= {card.name: card.token_hash for card in cards(tokens) if card.name in readers}
    renewed = study.model_copy(update={"readers": tuple(ReaderCard(name=n, token_hash=h) for n, h in hashes.items())})
    renewed.save(folder)
    return renewed


def cards(tokens: Mapping[str, str]) -> tuple[ReaderCard, ...]:
    """What the study keeps of each token: its sha256."""
    return tuple(ReaderCard(name=name, token_hash=hashed(token)) for name, token in tokens.items())


def hashed(token: str) -> str:
    """The sha256 (hex) of a token."""
    return hashlib.sha256(token.encode()).hexdigest()
