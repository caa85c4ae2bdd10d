"""From what a classifier says, and what is asked of it, to sentences."""

from collections.abc import Sequence

from torch import Tensor

from counterscan.core import Card, Target
from counterscan.prompts import Mention, normal_text, report
from counterscan.prompts.nouns import findings


def seen(card: Card, log_odds: Tensor) -> list[str]:
    """For each image `(b, k)` the findings that the classifier sees, as a sentence, or that there is none."""
    return [described(card, {name: bool(answer > 0) for name, answer in _named(card, row)}) for row in log_odds]


def asked(card: Card, log_odds: Tensor, target: Target) -> list[str]:
    """The same once the target is reached: the findings asked for come and go, the others stay as they are."""
    wanted = {card.classes[index]: p >= 0.5 for index, p in target.wanted}
    if card.output == "softmax":  # one of its classes is seen, and another would be
        wanted = {name: wanted.get(name, False) for name in card.classes}
    rows = [{name: bool(answer > 0) for name, answer in _named(card, row)} | wanted for row in log_odds]
    return [described(card, row, set(wanted)) for row in rows]


def described(card: Card, shown: dict[str, bool], changed: Sequence[str] | set[str] = ()) -> str:
    """A sentence for each finding that is `shown`, and a denial of those that `changed` and are not."""
    known = findings(card.classes)
    present = [name for name in known if shown.get(name)]
    if not present:
        return normal_text(known)
    denied = [name for name in known if name in changed and name not in present]
    return report([*(Mention(name) for name in present), *(Mention(name, False) for name in denied)])


def _named(card: Card, row: Tensor) -> list[tuple[str, Tensor]]:
    return list(zip(card.classes, row, strict=True))
