"""Random choices that never change: each is a sha256 of the seed and of what is chosen, with no generator's state.

A study is read over weeks, and its orders are computed anew whenever the server starts: they must not depend on a
library's version, nor on what else was drawn before.
"""

import hashlib
from collections.abc import Iterable
from typing import TypeVar

Thing = TypeVar("Thing")
MARK = "\x1f"  # between the parts of a name, so that ("a", "bc") is not ("ab", "c")


def digest(seed: int, *name: object) -> str:
    """64 hex digits that only `seed` and `name` decide."""
    return hashlib.sha256(MARK.join([str(seed), *map(str, name)]).encode()).hexdigest()


def identifier(seed: int, *name: object) -> str:
    """16 hex digits, which tell nothing of what they stand for to those who do not know the seed."""
    return digest(seed, "identifier", *name)[:16]


def number(below: int, seed: int, *name: object) -> int:
    """A whole number from 0 to `below` - 1, each as likely as the others (but for 1 part in 10^60)."""
    return int(digest(seed, "number", *name), 16) % below


def shuffled(things: Iterable[Thing], seed: int, *name: object) -> list[Thing]:
    """`things` in a random order, which depends on their places alone and not on what they are."""
    keyed = [(digest(seed, "shuffled", *name, place), thing) for place, thing in enumerate(things)]
    return [thing for _, thing in sorted(keyed, key=lambda one: one[0])]
