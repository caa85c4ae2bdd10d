"""What each part consists of before any image is chosen: kinds of trials in balanced numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, cycle, islice

from counterscan.errors import CounterscanError
from counterscan.study.allocation import Place
from counterscan.study.description import DEFAULT_CASES, PartAsked
from counterscan.study.records import Role

REAL = ""  # the pool of real pictures; those of methods are called as the methods are
RIGHT = "first"  # the truth is the first picture


@dataclass(frozen=True)
class Kind:
    """One kind of trial: where its pictures come from, and what is true of it (a word, `RIGHT`, or None).

    `spoilt` says which picture of an attention check is broken, or carries the answer in letters.
    """

    places: tuple[Place, ...]
    answer: str | None = None
    arm: str = ""
    spoilt: int | None = None


@dataclass(frozen=True)
class Plan:
    """One trial to be: its role in part `number`, and its kind."""

    number: int
    role: Role
    kind: Kind


def plans_for(part: PartAsked, number: int, methods: Sequence[str], same_cases: bool = True) -> list[Plan]:
    """The trials of a part but for its repeats; each kind as often as the others.

    Two methods are compared on the same patients where there are `same_cases`. Raises CounterscanError where the number
    of cases cannot be balanced.
    """
    unit = _unit(part, methods, same_cases)
    tests = unit * (cases_of(part, len(unit)) // len(unit))
    training = list(islice(cycle(unit), part.training))
    checks = list(islice(cycle(_checks(part, methods)), part.checks))
    roles: list[tuple[Role, list[Kind]]] = [("training", training), ("test", tests), ("check", checks)]
    return [Plan(number, role, kind) for role, kinds in roles for kind in kinds]


def cases_of(part: PartAsked, unit: int) -> int:
    """How many test trials: as asked, or about 40; CounterscanError where `unit` kinds cannot share them evenly."""
    if part.cases is None:
        return -(-DEFAULT_CASES // unit) * unit
    if part.cases % unit:
        low, high = part.cases // unit * unit, (part.cases // unit + 1) * unit
        near = f"{low} or {high}" if low else f"{high}"
        raise CounterscanError(
            f"{part.cases} cases of {part.task} cannot be balanced over {unit} kinds of trials; ask for {near} cases"
        )
    return part.cases


def _unit(part: PartAsked, methods: Sequence[str], same_cases: bool) -> list[Kind]:
    """Every kind of trial once, or as often as balance needs."""
    if part.task == "real-or-synthetic":
        real = Kind(((REAL,),), "real")
        return [kind for method in methods for kind in (real, Kind(((method,),), "synthetic", method))]
    if part.task == "realism":
        return [Kind(((REAL,),)), *(Kind(((method,),), arm=method) for method in methods)]
    if part.task == "forced-choice":
        return [Kind(((method,), (REAL,)), RIGHT, method) for method in methods]
    if part.task == "odd-one-out":
        return [kind for method in methods for kind in _odd(method, part.k)]
    if part.task == "side-by-side":
        pairs = combinations(sorted(methods), 2)
        return [Kind((pair,) if same_cases else tuple((one,) for one in pair), arm="|".join(pair)) for pair in pairs]
    (method,) = methods
    return [Kind(((f"{method}?{word}",),), word) for word in ("present", "absent")]


def _odd(method: str, k: int) -> tuple[Kind, Kind]:
    among_real = Kind(((method,), *((REAL,),) * (k - 1)), RIGHT, method)
    among_synthetic = Kind(((REAL,), *((method,),) * (k - 1)), RIGHT, method)
    return among_real, among_synthetic


def _checks(part: PartAsked, methods: Sequence[str]) -> list[Kind]:
    """Attention checks: trials with one answer that nobody who looks can miss."""
    real: Place = (REAL,)
    if part.task == "real-or-synthetic":
        return [Kind((real,), "synthetic", spoilt=0)]
    if part.task == "realism":
        return [Kind((real,), spoilt=0)]
    if part.task == "side-by-side":
        method: Place = (sorted(methods)[0],)
        return [Kind((method, method), RIGHT, spoilt=1)]
    if part.task == "lesion":
        return [Kind(((f"{methods[0]}?absent",),), word, spoilt=0) for word in ("present", "absent")]
    return [Kind((real,) * (2 if part.task == "forced-choice" else part.k), RIGHT, spoilt=0)]
