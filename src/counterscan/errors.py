"""All that counterscan raises for a user's mistake; each message names the cure.

CounterscanError
├── ScanError         a file that cannot be read or written as an image
├── ManifestError     a manifest with a fault (column, path, class, split)
├── TargetError       a target that cannot be asked of this classifier
├── ClassifierError   a classifier that answers NaN, the wrong shape, or not at all
│   └── NeedsGradients  an explainer that needs gradients met a black box
├── WeightsError      weights without a card, with the wrong card, or pickled
├── UnknownName       a name that is not registered (with the nearest that is)
└── MissingExtra      an optional library that is not installed
"""

import difflib
from collections.abc import Iterable, Sequence

LONGEST = 900  # letters of a message: names that it repeats may be of any length in a damaged file


class CounterscanError(Exception):
    """The root: a user's error, one line that names the cure."""

    def __str__(self) -> str:
        line = " ".join(super().__str__().splitlines())  # a column of a damaged table may be called by several lines
        half = LONGEST // 2
        return line if len(line) <= LONGEST else f"{line[:half]} ... {line[-half:]}"


class ScanError(CounterscanError):
    """A file that cannot be read or written as an image."""


class ManifestError(CounterscanError):
    """A manifest with a fault."""


class TargetError(CounterscanError):
    """A target that cannot be asked of this classifier."""


class ClassifierError(CounterscanError):
    """A classifier that answers NaN, the wrong shape, or not at all."""


class NeedsGradients(ClassifierError):
    """An explainer that needs gradients met a black box."""


class WeightsError(CounterscanError):
    """Weights without a card, with the wrong card, or pickled."""


class UnknownName(CounterscanError):
    """A name that is not registered."""


class MissingExtra(CounterscanError):
    """An optional library that is not installed."""

    def __init__(self, library: str, extra: str):
        super().__init__(f"{library} is not installed; run: pip install 'counterscan[{extra}]'")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`'; did you mean X?'` for a near miss, else the list of what is known."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f" (known: {', '.join(known)})"


def check_one_of(name: str, value: str, known: Sequence[str], error: type[CounterscanError] = CounterscanError) -> None:
    """Raise `error` where the setting `name` has a `value` that is not among those `known`."""
    if value not in known:
        shown = filter(None, known)
        raise error(f"{name} is one of {', '.join(shown)}, not {value!r}{did_you_mean(value, known)}")
