"""Which images stand in which trials: everything about a study but its pixels, from its description and seed."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from counterscan.errors import CounterscanError
from counterscan.study.allocation import Pools, allocate, owner_of, spoken, strata, stratified, stratum_of
from counterscan.study.description import PartAsked, StudyAsked
from counterscan.study.plans import REAL, Plan, plans_for
from counterscan.study.sources import (
    Pool,
    Source,
    common_window,
    explained,
    in_window,
    is_explained,
    real_pool,
    synthetic_pool,
)

BARRED = "?|/\x1f"  # stand between the parts of names


@dataclass(frozen=True)
class Filled:
    """A trial with its images, in the order of its kind's places."""

    plan: Plan
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class Draft:
    """What would be shown; `left_out` says how many images of each method cannot be, and why."""

    asked: StudyAsked
    trials: tuple[Filled, ...]
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def pictures(self) -> int:
        """About how many pictures will be made; of an explained image up to three."""
        sources = [source for filled in self.trials for source in filled.sources]
        return sum(1 if one.folder is None or one.kind == "synthetic" else 3 if one.changed else 2 for one in sources)

    def of(self, number: int) -> list[Filled]:
        """The trials of one part as it was asked for (counted from 1)."""
        return [filled for filled in self.trials if filled.plan.number == number]


def draft(asked: StudyAsked) -> Draft:
    """Choose an image for every place; no pixels are read.

    Raises CounterscanError where there are too few, or where numbers cannot be balanced.
    """
    for name in asked.synthetic:
        if any(one in name for one in BARRED):
            raise CounterscanError(f"the method {name!r} holds one of ? | /; name it otherwise: --synthetic NAME=DIR")
    pools, left_out = _pools(asked)
    plans = [plan for number, part in enumerate(asked.parts, 1) for plan in _plans(asked, part, number, pools)]
    return Draft(asked, tuple(_filled(asked, plans, pools)), left_out)


def methods_of(asked: StudyAsked, part: PartAsked) -> tuple[str, ...]:
    """The methods that a part shows."""
    return part.methods or tuple(asked.synthetic)


def _plans(asked: StudyAsked, part: PartAsked, number: int, pools: Pools) -> list[Plan]:
    methods = methods_of(asked, part)
    same = part.task == "side-by-side" and all(is_explained(asked.synthetic[method]) for method in methods)
    return plans_for(part, number, methods, same)


def _pools(asked: StudyAsked) -> tuple[dict[str, Sequence[Source]], dict[str, dict[str, int]]]:
    """Every pool by its name, all real pictures in the window of the synthetic ones."""
    made: dict[str, Pool] = {}
    judged: dict[str, Sequence[Source]] = {}
    for part in asked.parts:
        for method in methods_of(asked, part):
            if part.task == "lesion":
                judged |= _judged(method, asked, part)
            elif method not in made:
                made[method] = synthetic_pool(method, asked.synthetic[method])
    window = common_window(source for pool in made.values() for source in pool.sources)
    real = real_pool(asked.real, asked.split, asked.where).sources if asked.real else ()
    pools = {REAL: [in_window(source, window) for source in real]}
    pools |= {method: [in_window(source, window) for source in pool.sources] for method, pool in made.items()}
    return pools | judged, {method: pool.left_out for method, pool in made.items() if pool.left_out}


def _judged(method: str, asked: StudyAsked, part: PartAsked) -> dict[str, Sequence[Source]]:
    """The explained images that show the lesion, and those that do not."""
    images = [image for image, _ in explained(asked.synthetic[method])]
    known = sorted({name for image in images for name in image.labels})
    if part.lesion not in known:
        said = f"{part.lesion!r} is not among them" if part.lesion else "name one with --lesion"
        raise CounterscanError(
            f"the cases of {asked.synthetic[method]} have the labels {', '.join(known) or '(none)'}; {said}"
        )
    values = {"present": 1, "absent": 0}
    return {
        f"{method}?{word}": [image for image in images if image.labels.get(part.lesion) == value]
        for word, value in values.items()
    }


def _filled(asked: StudyAsked, plans: list[Plan], pools: Pools) -> list[Filled]:
    """Plans with their images. With `reuse` parts share test images, but never those of training and checks."""
    if not asked.reuse:
        return _allocated(asked, plans, pools, set())
    apart = [plan for plan in plans if plan.role != "test"]
    done = {id(one.plan): one for one in _allocated(asked, apart, pools, set())}
    taken = {owner_of(source, asked.one_per_patient) for one in done.values() for source in one.sources}
    for number in range(1, len(asked.parts) + 1):
        tests = [plan for plan in plans if plan.number == number and plan.role == "test"]
        done |= {id(one.plan): one for one in _allocated(asked, tests, pools, taken)}
    return [done[id(plan)] for plan in plans]


def _allocated(asked: StudyAsked, plans: list[Plan], pools: Pools, taken: set[str]) -> list[Filled]:
    if not asked.match:
        return _stood(asked, plans, pools, taken)
    bare = [replace(plan, kind=replace(plan.kind, places=_but_real(plan))) for plan in plans]
    first = _stood(asked, bare, pools, taken)
    taken = taken | {owner_of(source, asked.one_per_patient) for one in first for source in one.sources}
    of_strata = {
        stratified(REAL, stratum): sources for stratum, sources in strata(pools[REAL], asked.match).items()
    } | {REAL: pools[REAL]}
    wanted = [_only_real(plan, _like(asked, plan, place, first)) for place, plan in enumerate(plans)]
    second = _stood(asked, wanted, of_strata, taken)
    return [_merged(plan, *both) for plan, *both in zip(plans, first, second, strict=True)]


def _stood(asked: StudyAsked, plans: list[Plan], pools: Pools, taken: set[str]) -> list[Filled]:
    places = [place for plan in plans for place in plan.kind.places]
    found = iter(allocate(places, pools, asked.seed, one_per_patient=asked.one_per_patient, taken=taken))
    return [Filled(plan, tuple(one for _ in plan.kind.places for one in next(found))) for plan in plans]


def _but_real(plan: Plan) -> tuple:
    return tuple(place for place in plan.kind.places if place != (REAL,))


def _only_real(plan: Plan, pool: str) -> Plan:
    return replace(plan, kind=replace(plan.kind, places=((pool,),) * sum(p == (REAL,) for p in plan.kind.places)))


def _like(asked: StudyAsked, plan: Plan, place: int, filled: list[Filled]) -> str:
    """The stratum of real pictures for a trial: that of its own synthetic one, else of one in turn of its part."""
    own = filled[place].sources
    others = [one for one in filled if (one.plan.number, one.plan.role) == (plan.number, plan.role) and one.sources]
    if plan.role == "check" or not (own or others):
        return REAL
    turn = sum(
        not one.sources for one in filled[:place] if (one.plan.number, one.plan.role) == (plan.number, plan.role)
    )
    return stratified(REAL, stratum_of((own or others[turn % len(others)].sources)[0], asked.match))


def _merged(plan: Plan, made: Filled, real: Filled) -> Filled:
    """The images of a trial, those of its real places and of the others, in the order of its kind."""
    of = {True: iter(real.sources), False: iter(made.sources)}
    return Filled(plan, tuple(next(of[place == (REAL,)]) for place in plan.kind.places for _ in place))


def told(draft: Draft) -> list[str]:
    """What a person is told of a draft, in lines."""
    lines = []
    for number, part in enumerate(draft.asked.parts, 1):
        trials = draft.of(number)
        counts = {role: sum(one.plan.role == role for one in trials) for role in ("test", "training", "check")}
        lines.append(
            f"part {number}: {part.task}, {counts['test']} cases, {round(counts['test'] * part.repeats)} repeats, "
            f"{counts['training']} training, {counts['check']} attention checks"
            + (", all once without and once with the explanation" if part.task == "lesion" else "")
        )
    for method, reasons in draft.left_out.items():
        said = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        lines.append(f"left out of {spoken(method)}: {said}")
    return lines
