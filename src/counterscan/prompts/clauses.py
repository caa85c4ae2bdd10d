"""A sentence in clauses: what its phrases mean, where one statement ends, and which of them `no` reaches."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from counterscan.prompts.lexicon import Item, Phrases

ATTRIBUTES = ("severity", "side", "zone")
SAYING = ("finding", "enlarged", "anything", "good")
LINKS = ("", "and", "or", "but")  # the later the stronger, where several stand together


@dataclass
class Clause:
    """A stretch between commas and conjunctions: its items in order, and the link that led to it."""

    link: str = ""
    items: list[Item] = field(default_factory=list)
    negated: bool = False

    def has(self, *kinds: str) -> bool:
        """Whether an item is of one of these kinds."""
        return any(kind in kinds for kind, _ in self.items)

    def values(self, *kinds: str) -> list[str]:
        """What the items of these kinds stand for, in order."""
        return [value for kind, value in self.items if kind in kinds]

    @property
    def attributes(self) -> list[Item]:
        """What it says of severity, side and zone."""
        return [item for item in self.items if item[0] in ATTRIBUTES]

    @property
    def bare(self) -> bool:
        """Names something without describing it or opening a sentence of its own, as the rest of a list does."""
        kinds = [kind for kind, _ in self.items]
        named = [at for at, kind in enumerate(kinds) if kind in SAYING]
        return bool(named) and not self.attributes and "verb" not in kinds[: named[0]] and not self.has("good")


def clauses(words: tuple[str, ...], known: Phrases) -> list[Clause]:
    """The clauses of one sentence, those that are denied marked; a word without a rule is an item `unknown`."""
    found = _split(_items(words, known))
    for at, clause in enumerate(found):
        if clause.has("not"):
            clause.negated = True
            leads = clause.items[_first(clause)][0] == "not"
            _deny(found[at + 1 :], carries=leads and not clause.has("enlarged", "good"))
            if not leads:
                _deny_before(found[: at + 1])
    return found


def _items(words: tuple[str, ...], known: Phrases) -> Iterator[Item]:
    """The longest phrases that are known, from the left."""
    at = 0
    while at < len(words):
        length = next((n for n in (4, 3, 2, 1) if words[at : at + n] in known), 0)
        yield from known[words[at : at + length]] if length else [("unknown", words[at])]
        at += max(length, 1)


def _split(items: Iterable[Item]) -> list[Clause]:
    """Clauses end at a link, and before a `no` that follows on a statement."""
    found = [Clause()]
    for kind, value in items:
        if kind == "link" and not found[-1].items:
            found[-1].link = max(found[-1].link, value, key=LINKS.index)
        elif kind == "link":
            found.append(Clause(value))
        else:
            if (kind, value) == ("not", "before") and found[-1].has(*SAYING):
                found.append(Clause("but"))
            if kind == "finding":
                found += _cut(found[-1])
            found[-1].items.append((kind, value))
    return found


def _cut(clause: Clause) -> list[Clause]:
    """What stands from a `not` on that follows on a statement, taken out of it: `consolidation not effusion`."""
    kinds = [kind for kind, _ in clause.items]
    at = kinds.index("not") if "not" in kinds else 0
    if not set(kinds[:at]) & set(SAYING):
        return []
    items, clause.items = clause.items[at:], clause.items[:at]
    return [Clause("but", items)]


def _first(clause: Clause) -> int:
    """The position of what comes first, a negation or what it may deny."""
    return next(at for at, (kind, _) in enumerate(clause.items) if kind in ("not", *SAYING))


def _deny(later: list[Clause], carries: bool) -> None:
    """Carry a negation on through a list: up to its last `or`, and then to what is merely named."""
    reach = next((at for at, clause in enumerate(later) if clause.link == "but" or clause.has("not")), len(later))
    last = max((at for at, clause in enumerate(later[:reach]) if clause.link == "or"), default=-1)
    for at, clause in enumerate(later[:reach]):
        if at > last and not (carries and clause.bare):
            return
        clause.negated = True


def _deny_before(earlier: list[Clause]) -> None:
    """Carry it back over a list that stands before its verb, as in `effusion and nodule are absent`."""
    for clause, after in zip(earlier[-2::-1], earlier[:0:-1], strict=True):
        if after.link not in ("and", "or") or not clause.bare or clause.has("not", "verb"):
            return
        clause.negated = True
