"""What can be had by name, as a person reads it: one line each."""

import inspect
from collections.abc import Callable, Iterator

from counterscan.errors import UnknownName, did_you_mean
from counterscan.registry import EXPLAINERS, METRICS, RECIPES, SHIPPED, Registry, shipped_weights


def listing(what: str = "") -> str:
    """The names of one kind of thing (`explainers`, `recipes`, `weights`, `metrics`), or of all under headings."""
    if what and what not in KINDS:
        raise UnknownName(f"there is no list of {what!r}{did_you_mean(what, KINDS)}")
    if what:
        return "\n".join(_aligned(KINDS[what]()))
    return "\n\n".join("\n".join([f"{kind}:", *_aligned(lines(), "  ")]) for kind, lines in KINDS.items())


def _aligned(lines: Iterator[tuple[str, str]], indent: str = "") -> list[str]:
    pairs = list(lines)
    width = max((len(name) for name, _ in pairs), default=0)
    return [f"{indent}{name:<{width}}  {text}".rstrip() for name, text in pairs]


def _registered(registry: Registry) -> Callable[[], Iterator[tuple[str, str]]]:
    def lines() -> Iterator[tuple[str, str]]:
        for name in registry:
            yield name, (inspect.getdoc(registry[name]) or "").partition("\n")[0]

    return lines


def _weights() -> Iterator[tuple[str, str]]:
    from counterscan.weights.store import load_card

    for name in shipped_weights():
        card = load_card(SHIPPED / name)
        knows = f": {', '.join(card.classes)}" if card.classes else ""
        yield name, f"{card.kind}, {'x'.join(map(str, card.shape))}, {card.modality}{knows}"


KINDS: dict[str, Callable[[], Iterator[tuple[str, str]]]] = {
    "explainers": _registered(EXPLAINERS),
    "recipes": _registered(RECIPES),
    "weights": _weights,
    "metrics": _registered(METRICS),
}
