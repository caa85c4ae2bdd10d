"""In what order each reader sees a study: seeded, counterbalanced over readers, repeats far from their originals.

Within a part: training first, then the test trials, with each repeat later than its original by at least `gap` others,
and attention checks spread over the whole. Readers come in twos: what the first of two sees in the first half of a part
the second sees in the second half, and what one sees on the left the other sees on the right. Parts follow a Williams
design (a Latin square in which each part follows each other part equally often); of two parts that show the same cases
one half of the readers begins with one, the other half with the other.
"""

from collections import defaultdict
from collections.abc import Sequence

from counterscan.errors import CounterscanError, did_you_mean
from counterscan.study.draws import number, shuffled
from counterscan.study.records import CHOICES, Part, Role, Study, Trial, trials_of

SINGLE: tuple[Role, ...] = ("training", "test", "check")  # roles whose sides are their own
Shown = tuple[str, tuple[str, ...]]  # a trial's id, and its pictures from left to right


def order_for(study: Study, reader: str) -> tuple[Shown, ...]:
    """Every trial of the study once, in the order that `reader` sees them; CounterscanError for a stranger."""
    index = _index(study, reader)
    shown: list[Shown] = []
    for part in parts_for(study, reader):
        sides = _sides(study, part, index)
        shown += [(trial.id, _turned(trial, sides)) for trial in _sequence(study, part, index)]
    return tuple(shown)


def parts_for(study: Study, reader: str) -> tuple[Part, ...]:
    """The parts in this reader's own order."""
    index = _index(study, reader)
    blocks = _blocks(study.parts)
    paired = any(len(block) > 1 for block in blocks)
    rows = williams(len(blocks))
    turn = index // 2 if paired else index
    parts: list[Part] = []
    for place in rows[turn % len(rows)]:
        block = blocks[place]
        parts += reversed(block) if index % 2 else block
    return tuple(parts)


def washout_for(study: Study, reader: str, part: int) -> int:
    """Days that must pass between the last answer of the reader's part before and the first of this one.

    Nothing comes before the first part; parts of a `pair` wait for one another only.
    """
    parts = parts_for(study, reader)
    place = next(place for place, one in enumerate(parts) if one.number == part)
    if place == 0 or (parts[place].pair and parts[place - 1].pair != parts[place].pair):
        return 0
    return parts[place].washout_days


def williams(n: int) -> list[tuple[int, ...]]:
    """Orders of `n` things in which each stands in each place, and follows each other, equally often.

    `n` rows for an even `n`, 2 `n` for an odd one above 1 (E. J. Williams, Aust. J. Sci. Res. A 2, 149, 1949).
    """
    first = [(place + 1) // 2 if place % 2 else (n - place // 2) % n for place in range(n)]
    rows = [tuple((one + shift) % n for one in first) for shift in range(n)]
    return rows if n % 2 == 0 or n == 1 else rows + [row[::-1] for row in rows]


def gap(tests: int) -> int:
    """How many other trials stand at least between a repeat and its original, in a part of `tests` trials."""
    return tests // 4


def _index(study: Study, reader: str) -> int:
    if reader not in study.names:
        raise CounterscanError(f"{study.title!r} has no reader {reader!r}{did_you_mean(reader, study.names)}")
    return study.names.index(reader)


def _blocks(parts: Sequence[Part]) -> list[list[Part]]:
    """Parts that show the same cases together, each other one alone."""
    blocks: dict[str, list[Part]] = {}
    for part in parts:
        blocks.setdefault(part.pair or f"{part.number}", []).append(part)
    return list(blocks.values())


def _sequence(study: Study, part: Part, index: int) -> list[Trial]:
    training, tests, repeats, checks = (
        trials_of(study.trials, part.number, role) for role in ("training", "test", "repeat", "check")
    )
    key = (part.number, index)
    order = _tests(study, part, index, tests, {trial.repeat_of for trial in repeats})
    for repeat in shuffled(repeats, study.seed, "repeats", *key):
        order = _later(study, order, repeat, len(tests), key)
    order = _spread(study, order, shuffled(checks, study.seed, "checks", *key), key)
    return shuffled(training, study.seed, "training", *key) + order


def _tests(study: Study, part: Part, index: int, tests: list[Trial], repeated: set[str]) -> list[Trial]:
    """The test trials in two halves, which the other of two readers sees the other way round."""
    pair = index // 2
    halves: tuple[list[Trial], list[Trial]] = ([], [])
    ranks = _ranked(study, tests, repeated, "halves", part.number, pair)
    for rank, trial in enumerate(ranks):
        halves[rank % 2].append(trial)
    swapped = (index + part.number) % 2  # so that not the same readers see both arms of a pair the same way round
    first, second = (shuffled(half, study.seed, "half", part.number, index) for half in halves[:: -1 if swapped else 1])
    return _early(first + second, repeated)


def _ranked(study: Study, trials: Sequence[Trial], repeated: set[str], *name: object) -> list[Trial]:
    """Trials in a random order within each kind, kind after kind: what is dealt out in turn is balanced in each."""
    kinds: dict[tuple, list[Trial]] = defaultdict(list)
    for trial in trials:
        truth = "" if trial.answer in trial.pictures else trial.answer
        kinds[(trial.id in repeated, trial.arm, str(truth), _odd(study, trial))].append(trial)
    return [trial for kind in sorted(kinds) for trial in shuffled(kinds[kind], study.seed, "ranked", *name, *kind)]


def _odd(study: Study, trial: Trial) -> str:
    """Of what kind the right picture is, where the truth is a picture."""
    return study.picture[trial.answer].kind if trial.answer in trial.pictures else ""


def _early(order: list[Trial], repeated: set[str]) -> list[Trial]:
    """`order`, with those to be repeated moved forward where fewer than `gap` trials would follow them.

    Each changes place with the nearest one before that is not repeated.
    """
    order, last = list(order), len(order) - gap(len(order)) - 1
    for place in range(len(order) - 1, last, -1):
        if order[place].id in repeated:
            free = [other for other in range(last + 1) if order[other].id not in repeated]
            if free:
                order[place], order[free[-1]] = order[free[-1]], order[place]
    return order


def _later(study: Study, order: list[Trial], repeat: Trial, tests: int, key: tuple) -> list[Trial]:
    """`order` with a repeat at a random place after its original and `gap` others."""
    original = next(place for place, trial in enumerate(order) if trial.id == repeat.repeat_of)
    first = min(original + gap(tests) + 1, len(order))
    place = first + number(len(order) + 1 - first, study.seed, "later", repeat.id, *key)
    return [*order[:place], repeat, *order[place:]]


def _spread(study: Study, order: list[Trial], checks: list[Trial], key: tuple) -> list[Trial]:
    """`order` with the checks in equal stretches of it, one in each, none of them first."""
    spread = list(order)
    for turn in range(len(checks) - 1, -1, -1):  # from the back, so that places in front stay as they are
        low, high = (len(order) * edge // len(checks) for edge in (turn, turn + 1))
        place = low + 1 + number(max(high - low, 1), study.seed, "spread", checks[turn].id, *key)
        spread.insert(min(place, high), checks[turn])
    return spread


def _sides(study: Study, part: Part, index: int) -> dict[str, int]:
    """By how many places each trial's pictures are turned: the right one stands in each place equally often.

    The other of two readers sees them one place further, as does whoever sees a repeat.
    """
    sides: dict[str, int] = {}
    for role in SINGLE:
        trials = trials_of(study.trials, part.number, role)
        for rank, trial in enumerate(_ranked(study, trials, set(), "sides", part.number, index // 2, role)):
            sides[trial.id] = rank + index % 2
    for trial in trials_of(study.trials, part.number, "repeat"):
        sides[trial.id] = sides[trial.repeat_of] + 1
    return sides


def _turned(trial: Trial, sides: dict[str, int]) -> tuple[str, ...]:
    if trial.task not in CHOICES:
        return trial.pictures  # an explanation stands beside its image, never the other way round
    turn = sides[trial.id] % len(trial.pictures)
    return trial.pictures[turn:] + trial.pictures[:turn]
