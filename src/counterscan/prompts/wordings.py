"""Many ways to say the same: captions for training, so that a prior learns the meaning and not one sentence."""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import product

from counterscan.prompts.grammar import (
    CHEST,
    CLEAR,
    HEART_NORMAL,
    NOTHING,
    SEVERITIES,
    SIDES,
    ZONES,
    Mention,
    canonical,
    filled,
    listing,
    normal_text,
    tokens,
)
from counterscan.prompts.nouns import findings, noun

LEFT_OUT = 0.25  # how often a caption keeps the severity, the side or the zone to itself
SIMPLY = 0.25  # how often it uses the canonical sentence

SEEN = (
    "There {is} {a} {severity} {noun} {on} {zone}.",
    "{sided} {noun}, {severity}, {within}.",
    "{severity} {noun} {on} {zone}.",
    "{a} {severity} {side} {noun} {is} seen {zone}.",
    "{on} there {is} {a} {severity} {noun} {zone}.",
    "{severity} {sided} {noun} {zone} {is} present.",
)
SEEN_IN_THE_LUNG = (
    "There {is} {a} {severity} {noun} {place}.",
    "{area} {noun}, {severity}.",
    "{noun} {place}, {severity}.",
    "{a} {severity} {noun} {is} seen {place}.",
    "{place} there {is} {a} {severity} {noun}.",
    "{severity} {sided} {noun} {zone} {is} present.",
)
ENLARGED = (
    "The heart is {heavily} enlarged.",
    "There is {severity} cardiomegaly.",
    "{heavily} enlarged heart.",
    "Cardiomegaly, {severity}.",
    "{severity} cardiomegaly is present.",
)
ABSENT = ("No {}.", "No evidence of {}.", "There is no {}.", "Without {}.")
SMALL_HEART = (HEART_NORMAL, "The heart is not enlarged.", "Normal heart size.", "No cardiomegaly.")
DRY = ("The pleural spaces are clear.",)
UNREMARKABLE = ("No acute finding.", "No abnormality is seen.", "Normal study.", "Normal chest radiograph.")


def paraphrase(mentions: Iterable[Mention], rng: random.Random, classes: Sequence[str] = CHEST) -> str:
    """One of many texts for `mentions`, drawn by `rng`: wording, order, and what is left out, differ.

    Severity, side and zone are each left out one time in four; of the findings known to be absent some are denied.
    Where every finding among `classes` is known to be absent the text may be that of a normal image. What is not
    mentioned is unknown, and never said or denied: with no mentions at all the text is empty.
    """
    mentions = tuple(mentions)
    classes = tuple(dict.fromkeys((*classes, *(one.finding for one in mentions))))
    present = [_shortened(one, rng) for one in mentions if one.present]
    absent = [one for one in mentions if not one.present]
    plain = tuple(one.finding for one in absent if one.bare)
    if not present and plain and set(findings(classes)) <= set(plain) and len(plain) == len(absent):
        return rng.choice(_normal(classes, plain))
    said = [_said(one, rng) for one in present]
    said += _denials(absent, rng, classes, at_least=0 if present else len(absent))
    rng.shuffle(said)
    return " ".join(said)


def _shortened(mention: Mention, rng: random.Random) -> Mention:
    kept = {word: getattr(mention, word) * (rng.random() >= LEFT_OUT) for word in ("severity", "side", "zone")}
    return replace(mention, **kept)


def _said(mention: Mention, rng: random.Random) -> str:
    if rng.random() < SIMPLY:
        return canonical(mention)
    return filled(rng.choice(_templates(mention.finding)), mention)


def _templates(finding: str) -> tuple[str, ...]:
    return {"lung": SEEN_IN_THE_LUNG, "heart": ENLARGED}.get(noun(finding).organ, SEEN)


def _denials(absent: list[Mention], rng: random.Random, classes: tuple[str, ...], at_least: int) -> list[str]:
    """Sentences that deny some of `absent`: in a list or one by one, the heart and the lungs in words of their own."""
    chosen = rng.sample(absent, rng.randint(at_least, len(absent)))
    said = [canonical(one) for one in chosen if not one.bare]
    names = [one.finding for one in chosen if one.bare]
    hearts = [name for name in names if noun(name).organ == "heart"]
    said += [rng.choice(SMALL_HEART) for _ in hearts]
    names = [name for name in names if name not in hearts]
    for organ, whole in (("lung", (CLEAR,)), ("pleura", DRY)):
        theirs = findings(classes, organ)
        if theirs and set(theirs) <= set(names) and rng.random() < 0.5:
            said.append(rng.choice(whole))
            names = [name for name in names if noun(name).organ != organ]
    groups = [names] if rng.random() < 0.5 else [[name] for name in names]
    return said + [rng.choice(ABSENT).format(listing(group)) for group in groups if group]


@cache
def _normal(classes: tuple[str, ...], absent: tuple[str, ...]) -> tuple[str, ...]:
    """Texts of a normal image; those that name a chest only where there is something of the chest to deny."""
    organs = {noun(name).organ for name in findings(classes)}
    texts = [normal_text(absent), *UNREMARKABLE[:3]]
    if "lung" in organs:
        texts += [NOTHING, UNREMARKABLE[3], f"{CLEAR} {HEART_NORMAL}" if "heart" in organs else f"Normal. {CLEAR}"]
    return tuple(texts)


def vocabulary(classes: Sequence[str]) -> tuple[str, ...]:
    """Every token that `report`, `paraphrase` and `normal_text` can write about `classes`, sorted."""
    return _vocabulary(tuple(classes))


@cache
def _vocabulary(classes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({token for text in _texts(classes) for token in tokens(text)}))


def _texts(classes: tuple[str, ...]) -> Iterator[str]:
    """Sentences that hold every word of the grammar, for these classes."""
    yield from (NOTHING, *_normal(classes, classes))
    yield from DRY if findings(classes, "pleura") else ()
    yield from SMALL_HEART if findings(classes, "heart") else ()
    yield from (text.format(listing(classes)) for text in ABSENT)
    for name, severity, side, zone in product(findings(classes), ("", *SEVERITIES), ("", *SIDES), ("", *ZONES)):
        mention = Mention(name, True, severity, side, zone)
        yield from (canonical(mention), canonical(replace(mention, present=False)))
        yield from (filled(template, mention) for template in _templates(name))
