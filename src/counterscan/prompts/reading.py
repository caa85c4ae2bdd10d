"""A sentence to what it says: the grammar's own texts, and what a radiologist types in these words."""

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from counterscan.prompts.clauses import ATTRIBUTES, Clause, clauses
from counterscan.prompts.grammar import Mention, tokens
from counterscan.prompts.lexicon import Item, Phrases, covered, phrases
from counterscan.prompts.nouns import noun


@dataclass(frozen=True)
class Reading:
    """What a text says, in its order, and each word that no rule knows with the nearest known one (`""` if none)."""

    mentions: tuple[Mention, ...]
    unknown: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Remark:
    """A mention, and whether it is only implied, as each finding is by `no acute finding`."""

    mention: Mention
    implied: bool = False


def read(text: str, classes: Sequence[str]) -> Reading:
    """What `text` says about `classes`: each finding that it names or denies, once where it says so twice.

    `The lungs are clear`, `No acute finding` and their like deny every finding that they cover, but none that the text
    names as present. A word that no rule knows is reported and changes nothing.
    """
    known = phrases(tuple(classes))
    remarks: list[Remark] = []
    unknown: dict[str, str] = {}
    for part in re.split(r"[.;:!?\n]+", text):
        found = clauses(tokens(part), known)
        unknown |= {word: _nearest(word, known) for clause in found for word in clause.values("unknown")}
        _tell(found, tuple(classes), remarks)
    return Reading(_merged(remarks), tuple(unknown.items()))


def _nearest(word: str, known: Phrases) -> str:
    words = sorted({each for phrase in known for each in phrase} - {word})
    return next(iter(difflib.get_close_matches(word, words, n=1, cutoff=0.75)), "")


def _tell(found: list[Clause], classes: tuple[str, ...], remarks: list[Remark]) -> None:
    """Add what the clauses of one sentence say to `remarks`.

    A clause of attributes alone describes the finding before it in the sentence, else the one after it, else the last
    of the sentence before; subjects wait for what is said about them.
    """
    start, subjects = len(remarks), list[str]()
    ahead: list[Item] = []
    for clause in found:
        subjects += clause.values("subject")
        if named := list(_named(clause)):
            remarks += _described(named, ahead, clause.negated)
            ahead, subjects = [], []
        elif clause.has("good", "anything"):
            remarks += _implied(clause, subjects, classes)
            subjects = []
        elif len(remarks) > start and not remarks[-1].implied:
            remarks[-1] = Remark(_with(remarks[-1].mention, clause.attributes))
        else:
            ahead += clause.attributes
    if ahead and remarks and not remarks[-1].implied:
        remarks[-1] = Remark(_with(remarks[-1].mention, ahead))


def _named(clause: Clause) -> Iterator[tuple[str, list[Item]]]:
    """The findings of a clause, each with what describes it.

    That is what stands before it, and behind it what follows a preposition, or stands there with no finding to come.
    """
    own: list[Item] = []
    waiting: list[Item] = []
    name, placed = "", False
    for kind, value in clause.items:
        if kind == "finding" or (kind == "enlarged" and "heart" in clause.values("subject")):
            if name:
                yield name, own
            name, own, waiting, placed = value, waiting, [], False
        elif kind == "preposition":
            placed = True
        elif kind in ATTRIBUTES:
            (own if name and placed else waiting).append((kind, value))
    if name:
        yield name, own + waiting


def _described(named: list[tuple[str, list[Item]]], ahead: list[Item], negated: bool) -> Iterator[Remark]:
    """The findings of a clause as remarks; `small left and large right effusion` makes two of one finding."""
    first, own = named[0]
    amounts = [{value for kind, value in items if kind == "severity"} for items in (ahead, own)]
    if all(amounts) and amounts[0] != amounts[1]:
        yield Remark(_with(Mention(first, not negated), ahead))
        ahead = []
    for name, items in named:
        yield Remark(_with(Mention(name, not negated), ahead + items))
        ahead = []


def _with(mention: Mention, items: list[Item]) -> Mention:
    """The mention with more said about it: left and right are both, two zones are none, the last severity holds."""
    heart = noun(mention.finding).organ == "heart"
    severity = [mention.severity, *(value for kind, value in items if kind == "severity")]
    sides = {mention.side, *(value for kind, value in items if kind == "side")} - {""}
    zones = {mention.zone, *(value for kind, value in items if kind == "zone")} - {""}
    side = "both" if len(sides) > 1 else "".join(sides)
    zone = "".join(zones) if len(zones) == 1 else ""
    said = severity[-1]
    return replace(mention, severity=said, side="" if heart else side, zone="" if heart else zone)


def _implied(clause: Clause, subjects: list[str], classes: tuple[str, ...]) -> Iterator[Remark]:
    """What `clear`, `normal` and `no finding` deny of their subjects: nothing where the clause has an unknown word."""
    wanted = clause.has("anything") if clause.negated else clause.has("good")
    if clause.has("unknown") or not wanted:
        return
    place = _with(Mention("", False), [item for item in clause.attributes if item[0] != "severity"])
    place = replace(place, side="" if place.side == "both" else place.side)
    for subject in subjects or (["lung"] if place.side or place.zone else ["all"]):
        for name in covered(subject, classes):
            if place.bare or noun(name).organ != "heart":
                yield Remark(replace(place, finding=name), implied=True)


def _merged(remarks: Iterable[Remark]) -> tuple[Mention, ...]:
    """One mention for all that agree on a finding; what is implied gives way to what is named."""
    remarks = list(remarks)
    there = {remark.mention.finding for remark in remarks if remark.mention.present}
    merged: list[Mention] = []
    for remark in remarks:
        if remark.implied and remark.mention.finding in there:
            continue
        at = next((at for at, one in enumerate(merged) if _agree(one, remark.mention)), len(merged))
        merged[at : at + 1] = [_joined(merged[at], remark.mention) if at < len(merged) else remark.mention]
    return tuple(merged)


def _agree(one: Mention, other: Mention) -> bool:
    """Whether both speak of the same finding in the same sense, and nothing that they say differs."""
    if (one.finding, one.present) != (other.finding, other.present):
        return False
    if not one.present:
        return one == other or one.bare or other.bare
    return all(getattr(one, word) in ("", getattr(other, word)) or not getattr(other, word) for word in ATTRIBUTES)


def _joined(one: Mention, other: Mention) -> Mention:
    """Both in one: presence says all that either says, absence the wider of the two."""
    if not one.present:
        return one if one.bare else other
    return replace(one, **{word: getattr(one, word) or getattr(other, word) for word in ATTRIBUTES})
