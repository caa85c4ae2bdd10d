"""How fuzz.py damages files, and the repairs without which nothing behind a check sum would be reached."""

import gzip
import hashlib
import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace

from seeds import Seed

Change = Callable[[random.Random, bytearray, bytes], bytes]
NUMBERS = [0, 1, 2, 127, 128, 255, 256, 32767, 65535, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, (1 << 63) - 1]
TEXTS = [b"0", b"-1", b"1e999", b"nan", b"99999999999", b"4294967296", b"../../x", b"/etc/passwd", b"\0", b"[" * 3000]


def mutated(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """`content` after one to four changes."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        content = rng.choice(CHANGES)(rng, bytearray(content), other)
    return bytes(content)


def _flip(rng: random.Random, data: bytearray, other: bytes) -> bytes:
    for _ in range(rng.choice((1, 1, 3, 16))):
        if data:
            data[_place(rng, len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _place(rng: random.Random, size: int) -> int:
    """Anywhere, but headers are where the meaning is."""
    return rng.randrange(min(size, rng.choice((64, 512, size))))


def _cut(rng: random.Random, data: bytearray, other: bytes) -> bytes:
    return bytes(data[: rng.randrange(len(data) + 1)])


def _remove(rng: random.Random, data: bytearray, other: bytes) -> bytes:
    start = rng.randrange(len(data) + 1)
    return bytes(data[:start] + data[start + rng.choice((1, 2, 8, 100)) :])


def _splice(rng: random.Random, data: bytearray, other: bytes) -> bytes:
    start, take = rng.randrange(len(data) + 1), rng.randrange(len(other) + 1)
    return bytes(data[:start] + other[take : take + rng.choice((4, 64, 1 << 20))] + data[start:])


def _number(rng: random.Random, data: bytearray, other: bytes) -> bytes:
    """A length, a size or an offset, in any width and order of bytes."""
    width = rng.choice((1, 2, 4, 8))
    if len(data) > width:
        start = _place(rng, len(data) - width)
        value = rng.choice(NUMBERS) % (1 << 8 * width)
        data[start : start + width] = value.to_bytes(width, rng.choice(("little", "big")))
    return bytes(data)


def _text(rng: random.Random, data: bytearray, other: bytes) -> bytes:
    """A number or a name that is written out, and one that nobody expects."""
    start = _place(rng, len(data)) if data else 0
    stop = start
    while stop < len(data) and chr(data[stop]) not in " ,;:=)\n\"'":
        stop += 1
    return bytes(data[:start] + rng.choice(TEXTS) + data[min(stop, start + 20) :])


CHANGES: list[Callable[[random.Random, bytearray, bytes], bytes]] = [
    _flip,
    _flip,
    _cut,
    _remove,
    _splice,
    _number,
    _text,
]


def repaired(seed: Seed, name: str, content: bytes, rng: random.Random) -> Seed:
    """`seed` with `name` changed; check sums are put right, mostly, or else nothing behind them would be reached."""
    files = {**seed.files, name: content}
    if name.endswith(".png") and rng.random() < 0.9:
        files[name] = _checked_png(content)
    elif name.endswith(".gz") and rng.random() < 0.7:
        inner = bytearray(gzip.decompress(seed.files[name]))
        at = rng.randrange(min(len(inner), 540))
        inner[at] = rng.randrange(256)
        files[name] = gzip.compress(bytes(inner), mtime=0)
    elif seed.kind == "zip" and rng.random() < 0.7:
        files[name] = _packed_again(seed.files[name], rng)
    elif seed.kind == "weights" and name == "weights.safetensors":
        card = json.loads(seed.files["card.json"])
        files["card.json"] = json.dumps({**card, "sha256": hashlib.sha256(content).hexdigest()}).encode()
    elif seed.kind == "study" and rng.random() < 0.9:
        files[name] = _sealed(content)
    return replace(seed, files=files)


def _packed_again(content: bytes, rng: random.Random) -> bytes:
    """The archive with one of its files changed, and perhaps called something that leads elsewhere."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        chosen = rng.choice(old.namelist())
        for name in old.namelist():
            inner = old.read(name)
            hostile = rng.choice((*[name] * 6, f"../{name}", f"/{name}", f"a/../../{name}", "labels.csv", "x" * 300))
            changed = name == chosen
            inner = mutated(rng, inner, content) if changed else inner
            new.writestr(zipfile.ZipInfo(hostile if changed else name), inner, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _sealed(content: bytes) -> bytes:
    """A study with the digest of what it holds, where it still is JSON."""
    try:
        told = json.loads(content)
        told.pop("sha256", None)
        text = json.dumps(told, sort_keys=True, separators=(",", ":"))
    except (ValueError, AttributeError, TypeError, RecursionError):
        return content
    return json.dumps({"sha256": hashlib.sha256(text.encode()).hexdigest(), **told}).encode()


def _checked_png(content: bytes) -> bytes:
    result, at = content[:8], 8
    while at + 12 <= len(content):
        (size,) = struct.unpack(">I", content[at : at + 4])
        body = content[at + 4 : at + 8 + size]
        result += content[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + size
    return result + content[at:]
