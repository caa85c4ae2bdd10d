"""What an archive is to hold: findings that are present, absent or open, how often, and in what order."""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path

from counterscan.core import Card, Target
from counterscan.data.manifest import read_manifest
from counterscan.data.table import table_of
from counterscan.errors import CounterscanError, ManifestError, TargetError, did_you_mean

MOST_FINDINGS = 12  # whose combinations a table of single prevalences can be multiplied out to
COUNTS, SHARES = ("count", "n"), ("prevalence", "share")
NAMES = ("class", "finding")


@dataclass(frozen=True)
class Request:
    """`count` scans that are answered as `target`, which a person writes as `labels`."""

    labels: str
    target: Target
    count: int


def parse(labels: str, card: Card) -> Target:
    """Read `effusion=1,nodule=0` or `normal`; a class that is not named is open.

    Raises TargetError for an unknown class, for what contradicts itself, and for what is no label (a probability).
    """
    parts = [part.strip() for part in labels.split(",") if part.strip()]
    if "normal" in parts and len(parts) > 1 and "normal" not in card.classes:
        raise TargetError(f"{labels!r} contradicts itself: normal has every finding absent; ask for one or the other")
    target = Target.parse(labels, card)
    asked: dict[int, float] = {}
    for index, p in target.wanted:
        name = card.classes[index]
        if p not in (0, 1):
            raise TargetError(f"{labels!r} asks for {name} at {p:g}; a label is 1 (present) or 0 (absent)")
        if asked.setdefault(index, p) != p:
            raise TargetError(f"{labels!r} contradicts itself: {name} both present and absent; leave one out")
    _check_alternatives(labels, asked, card)
    return Target(tuple(sorted(asked.items())))


def _check_alternatives(labels: str, asked: Mapping[int, float], card: Card) -> None:
    present = [card.classes[index] for index, p in asked.items() if p]
    if card.output != "multilabel" and (len(present) > 1 or (not present and len(asked) == len(card.classes))):
        raise TargetError(
            f"{labels!r} cannot be: {card.name} gives each image one of {', '.join(card.classes)}; ask for one class"
        )
    if card.normal in present and len(present) > 1:
        raise TargetError(f"{labels!r} contradicts itself: {' and '.join(present)}; ask for one or the other")


def evenly(labels: Sequence[str], n: int, card: Card) -> tuple[Request, ...]:
    """`n` scans shared out evenly between what each of `labels` asks for."""
    targets = {parse(text, card): text for text in labels}
    if n < len(targets):
        raise CounterscanError(f"{n} scans cannot be shared out between {len(targets)} --labels; raise -n")
    return _requests(dict.fromkeys(targets, 1.0), n, card)


def counted(path: Path, card: Card) -> tuple[Request, ...]:
    """The requests of a CSV with a column `count`, and what is counted beside it (see `read_weights`)."""
    weights = read_weights(path, card, COUNTS)
    for target, count in weights.items():
        if count != int(count):
            raise ManifestError(f"{path} asks for {count:g} scans of {target.describe(card)}; write whole numbers")
    return tuple(Request(target.describe(card), target, int(count)) for target, count in weights.items() if count)


def prevalent(path: Path, n: int, card: Card) -> tuple[Request, ...]:
    """`n` scans whose findings come, and come together, as in a manifest, or as a table of prevalences says.

    A manifest (it has a column `path`) gives the combinations of its labels, where a blank stays open. A table has a
    column `prevalence`, and beside it what is so frequent (see `read_weights`); one that names single classes says
    nothing of what comes together, and is taken for independent findings.
    """
    columns, rows = _table(path)
    if "path" in columns:
        return _requests(_combinations(path, card), n, card)
    if any(name in columns for name in NAMES):
        return _requests(_independent(path, columns, rows, card), n, card)
    return _requests(read_weights(path, card, SHARES), n, card)


def read_weights(path: Path, card: Card, names: Sequence[str]) -> dict[Target, float]:
    """What a CSV weighs: a column of weights called as one of `names`, and what each row is of.

    That is a column `labels` (`effusion=1,nodule=0`), or `class`, or a column for each class (1, 0 or nothing).
    """
    columns, rows = _table(path)
    weight = next((name for name in names if name in columns), "")
    if not weight:
        raise ManifestError(f"{path} has no column {names[0]!r}{did_you_mean(names[0], columns)}")
    for name in columns:
        if name not in {"labels", *NAMES, *COUNTS, *SHARES, *card.classes}:
            raise ManifestError(f"{path}: {card.name} has no class {name!r}{did_you_mean(name, card.classes)}")
    found: dict[Target, float] = {}
    for number, row in enumerate(rows, 2):
        target = parse(_labels_of(path, number, row, card), card)
        found[target] = found.get(target, 0.0) + _number(path, number, weight, row[weight])
    if not sum(found.values()):
        raise ManifestError(f"{path} asks for nothing: its column {weight!r} adds up to 0")
    return found


def _table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The columns of a CSV, which need not list images, and a dict of text for each row."""
    table = table_of(path)
    try:
        text = table.read_text(encoding="utf-8-sig")
        delimiter = max(",;\t", key=text.partition("\n")[0].count)
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(line)]
    except (UnicodeDecodeError, OSError, csv.Error) as error:
        raise ManifestError(f"{table} cannot be read as CSV ({error}); save it as CSV in UTF-8") from error
    columns = [name.strip() for name in lines[0]] if lines else []
    if len(lines) < 2 or any(len(line) > len(columns) for line in lines):
        raise ManifestError(f"{table} is no table: write a header, rows of as many cells, and quotes around commas")
    empty = dict.fromkeys(columns, "")
    return columns, [empty | dict(zip(columns, map(str.strip, line), strict=False)) for line in lines[1:]]


def _labels_of(path: Path, number: int, row: Mapping[str, str], card: Card) -> str:
    named = next((row[name] for name in ("labels", *NAMES) if row.get(name)), "")
    labels = named or ",".join(f"{name}={row[name]}" for name in card.classes if row.get(name))
    if not labels:
        raise ManifestError(f"{path} row {number} names no class; write 1 or 0 under one, or fill 'labels'")
    return labels


def _number(path: Path, number: int, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:  # written so that NaN is refused too
        raise ManifestError(f"{path} row {number} has {text!r} under {column!r}; write a number that is not negative")
    return value


def _combinations(path: Path, card: Card) -> dict[Target, float]:
    manifest = read_manifest(path)
    unknown = [name for name in manifest.classes if name not in card.classes]
    shared = [name for name in manifest.classes if name in card.classes]
    if not shared:
        cure = did_you_mean(unknown[0], card.classes) if unknown else ""
        raise ManifestError(f"{path} has no class of {card.name}{cure}")
    seen: Counter[str] = Counter()
    for case in manifest.cases:
        seen[",".join(f"{name}={case.labels[name]}" for name in shared if case.labels[name] is not None)] += 1
    del seen[""]  # an image of which nothing is known asks for nothing
    return {parse(labels, card): float(count) for labels, count in seen.items()}


def _independent(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, str]], card: Card):
    weight = next((name for name in SHARES if name in columns), "")
    if not weight:
        raise ManifestError(f"{path} has no column {SHARES[0]!r}{did_you_mean(SHARES[0], columns)}")
    name = next(one for one in NAMES if one in columns)
    share = {card.index(row[name]): _number(path, number, weight, row[weight]) for number, row in enumerate(rows, 2)}
    if card.output != "multilabel":
        return {Target(((index, 1.0),)): p for index, p in share.items() if p}
    if max(share.values()) > 1 or len(share) > MOST_FINDINGS:
        raise ManifestError(f"{path} needs prevalences between 0 and 1, of at most {MOST_FINDINGS} classes")
    found = {}
    for shown in product((0.0, 1.0), repeat=len(share)):
        found[Target(tuple(sorted(zip(share, shown, strict=True))))] = prod(
            p if one else 1 - p for p, one in zip(share.values(), shown, strict=True)
        )
    return found


def _requests(weights: Mapping[Target, float], n: int, card: Card) -> tuple[Request, ...]:
    """`n` shared out by weight: whole numbers first, then the largest remainders."""
    if n < 1:
        raise CounterscanError(f"an archive holds at least one scan, not {n}")
    total = sum(weights.values())
    exact = {target: n * weight / total for target, weight in weights.items()}
    counts = {target: int(value) for target, value in exact.items()}
    ranked = sorted(exact, key=lambda target: counts[target] - exact[target])
    for target in ranked[: n - sum(counts.values())]:
        counts[target] += 1
    return tuple(Request(target.describe(card), target, count) for target, count in counts.items() if count)


def order(requests: Sequence[Request]) -> list[int]:
    """Which request each scan of the archive is for, mixed so that any first part of it has about the same shares."""
    places = [((turn + 0.5) / one.count, place) for place, one in enumerate(requests) for turn in range(one.count)]
    return [place for _, place in sorted(places)]
