"""What is seen, as a sentence: one canonical text for a set of findings, and the parts that all wordings share."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from counterscan.errors import CounterscanError
from counterscan.prompts.nouns import findings, noun

CHEST = ("consolidation", "effusion", "nodule", "pneumothorax", "cardiomegaly")
SEVERITIES = ("small", "moderate", "large")
SIDES = ("left", "right", "both")
ZONES = ("upper", "middle", "lower")
HEART = {"": "", "small": "mild", "moderate": "moderate", "large": "marked"}
CLEAR = "The lungs are clear."
NOTHING = f"{CLEAR} No acute finding."
HEART_NORMAL = "Heart size is normal."

PLAIN = "{severity} {side} {noun} {zone}."
PLACED = "{severity} {noun} {place}."


@dataclass(frozen=True)
class Mention:
    """One finding that is seen, or that is said to be absent.

    `severity` is small, moderate or large, `side` left, right or both (the patient's), `zone` upper, middle or lower;
    each is empty where nothing is said about it. Raises CounterscanError for any other value.
    """

    finding: str
    present: bool = True
    severity: str = ""
    side: str = ""
    zone: str = ""

    def __post_init__(self) -> None:
        for name, known in (("severity", SEVERITIES), ("side", SIDES), ("zone", ZONES)):
            value = getattr(self, name)
            if value and value not in known:
                raise CounterscanError(f"{name}={value!r} of {self.finding} is not a {name}; use {', '.join(known)}")

    @property
    def bare(self) -> bool:
        """Whether nothing is said of it but that it is there, or not."""
        return not (self.severity or self.side or self.zone)


def mentions_of(labels: Mapping[str, float | None], facts: Mapping[str, object]) -> tuple[Mention, ...]:
    """What a row of a manifest says: 1 is present, 0 absent; none, nan and -1 are unknown and are left out.

    `facts` may hold `<finding>_severity`, `_side` and `_zone`; other values than the grammar's are dropped, and so is
    what a report does not say: the side and the zone of an enlarged heart, the zone of a pleural finding.
    """
    seen = {name: labels[name] for name in findings(tuple(labels))}
    known = {name: value == 1 for name, value in seen.items() if value is not None and value in (0, 1)}
    return tuple(Mention(name, present, **(_facts(name, facts) if present else {})) for name, present in known.items())


def _facts(name: str, facts: Mapping[str, object]) -> dict[str, str]:
    said = {"severity": SEVERITIES, "side": SIDES, "zone": ZONES}
    for word in {"heart": ("side", "zone"), "pleura": ("zone",)}.get(noun(name).organ, ()):
        del said[word]
    values = {word: facts.get(f"{name}_{word}", "") for word in said}
    return {word: str(value) for word, value in values.items() if value in said[word]}


def report(mentions: Iterable[Mention]) -> str:
    """The one canonical text, a sentence a finding: `Small left pleural effusion. No nodule.`

    A report that notes nothing is a normal one, so ask it of what is wholly known; for labels with gaps there is
    `paraphrase`, which then says nothing. What `Mention` can say of a heart but a report does not is left out.
    """
    return " ".join(canonical(mention) for mention in mentions) or NOTHING


def canonical(mention: Mention) -> str:
    """One finding in the grammar's own words."""
    placed = noun(mention.finding).organ == "lung" and mention.side != "both"
    return filled("no " * (not mention.present) + (PLACED if placed else PLAIN), mention)


def normal_text(classes: Sequence[str]) -> str:
    """That every finding among `classes` is absent, each said in so many words."""
    listed = findings(tuple(classes), "lung", "pleura", "")
    said = [CLEAR] if findings(tuple(classes), "lung") else []
    said += [f"No {listing(listed)}."] if listed else []
    said += [HEART_NORMAL] if findings(tuple(classes), "heart") else []
    return " ".join(said)


def listing(names: Sequence[str]) -> str:
    """`consolidation, pleural effusion or nodule`."""
    words = [noun(name).one for name in names]
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


@cache
def filled(template: str, mention: Mention) -> str:
    """A template with the mention's words; what is empty leaves no gap and no lonely comma."""
    return sentence(template.format_map(slots(mention)))


def slots(mention: Mention) -> dict[str, str]:
    """The words that a template can ask for; empty where the mention says nothing."""
    name, heart, both = noun(mention.finding), noun(mention.finding).organ == "heart", mention.side == "both"
    side, zone = ("", "") if heart else (mention.side, mention.zone)
    severity = HEART[mention.severity] if heart else mention.severity
    many = both and not heart
    within = f"{zone} zone{'s' * many}" if zone else ""
    where = within or (f"lung{'s' * many}" if side else "")
    return {
        "severity": severity,
        "heavily": f"{severity}ly" if severity else "",
        "side": "bilateral" if many else side,
        "sided": "bilateral" if many else f"{side}-sided" if side else "",
        "on": "on both sides" if many else f"on the {side}" if side else "",
        "noun": name.many if many else name.one,
        "a": "a" if name.number == "count" and not many else "",
        "is": "are" if name.number == "plural" or (many and name.number == "count") else "is",
        "zone": f"in the {within}" if within else "",
        "within": within,
        "place": f"in {'both' if many else f'the {side}'} {where}" if where else "",
        "area": f"{'both' if many else side} {where}" if where else "",
    }


def sentence(text: str) -> str:
    """Capital first, one space between words, no gap before a stop, `an` before a vowel."""
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r"(?: ?,)* ?([.,])", r"\1", text).lstrip(", ")
    text = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)
    return text[:1].upper() + text[1:]


def tokens(text: str) -> tuple[str, ...]:
    """Lower-case words, full stops and commas; a hyphen and any other sign only part words."""
    return tuple(re.findall(r"[^\W_]+|[.,]", text.lower()))


FLIPPED = {"left": "right", "rul": "lul", "rml": "lml", "rll": "lll"}
FLIPPED |= {there: here for here, there in FLIPPED.items()}
FLIPPED |= {here.upper(): there.upper() for here, there in FLIPPED.items()} | {
    here.capitalize(): there.capitalize() for here, there in FLIPPED.items()
}
SIDED = re.compile(rf"(?<![A-Za-z])({'|'.join(FLIPPED)})(?=sided|ward|[^A-Za-z]|$)")


def mirrored(text: str) -> str:
    """The same with left and right exchanged, `RUL` and its like as well; mirrored twice is the text itself."""
    return SIDED.sub(lambda match: FLIPPED[match[0]], text)
