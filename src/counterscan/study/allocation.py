"""Which image stands where: every place of a study gets a patient of its own, if that can be done at all.

Places and patients make a bipartite graph (a patient who has images of the kinds that a place needs may stand there);
a maximum matching fills every place whenever any choice could, which drawing one after the other does not.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from counterscan.errors import CounterscanError
from counterscan.study.draws import MARK, number, shuffled
from counterscan.study.sources import Source

Pools = Mapping[str, Sequence[Source]]


Place = tuple[str, ...]  # where images of one patient are shown: the pools that they come from, one of each


def allocate(
    places: Sequence[Place], pools: Pools, seed: int, *, one_per_patient: bool = True, taken: Iterable[str] = ()
) -> list[tuple[Source, ...]]:
    """Images for each place, in the order of its pools; nobody stands in two, nor anybody of those `taken`.

    Without `one_per_patient` an image stands in one place only, a patient in any number. Raises CounterscanError that
    says which kind of image is short, and how many there are.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_bipartite_matching

    held = _held(pools, one_per_patient, set(taken))
    owners = shuffled(sorted({owner for per in held.values() for owner in per}), seed, "owners")
    column = {owner: place for place, owner in enumerate(owners)}
    fitting = {place: _fitting(place, held) for place in set(places)}
    edges = {place: sorted(column[owner] for owner in who)[: len(places)] for place, who in fitting.items()}
    rows = [edges[place] for place in places]  # so many for each are as good as all: no others can take them away
    starts = np.cumsum([0, *map(len, rows)])
    flat = np.array([one for row in rows for one in row], int)
    graph = csr_matrix((np.ones(len(flat), bool), flat, starts), (len(places), max(len(owners), 1)))
    matched = maximum_bipartite_matching(graph, perm_type="column") if len(flat) else np.full(len(places), -1)
    if (matched < 0).any():
        raise CounterscanError(_short(places, [int(one) for one in matched], fitting, one_per_patient))
    chosen = [owners[int(one)] for one in matched]
    return [
        tuple(_one(held[pool][owner], seed, turn, pool) for pool in place)
        for turn, (place, owner) in enumerate(zip(places, chosen, strict=True))
    ]


def owner_of(source: Source, one_per_patient: bool) -> str:
    """Who must not be shown twice: the patient, or the image that a counterfactual and a real one share."""
    return source.patient if one_per_patient else source.key


def stratum_of(source: Source, columns: Sequence[str]) -> tuple[str, ...]:
    """What the manifest says of a source in some columns; CounterscanError where it has none of that name."""
    for column in columns:
        if column not in source.facts:
            known = ", ".join(sorted(source.facts)) or "no further columns"
            raise CounterscanError(f"{source.case.path} has no column {column!r} to match by; its manifest has {known}")
    return tuple(source.facts[column] for column in columns)


def strata(sources: Sequence[Source], columns: Sequence[str]) -> dict[tuple[str, ...], list[Source]]:
    """Sources by what their manifest says in some columns."""
    found: dict[tuple[str, ...], list[Source]] = defaultdict(list)
    for source in sources:
        found[stratum_of(source, columns)].append(source)
    return found


def stratified(pool: str, stratum: tuple[str, ...]) -> str:
    """The name of the part of a pool that is of one stratum."""
    return f"{pool}{MARK}{'/'.join(stratum)}"


def _held(pools: Pools, one_per_patient: bool, taken: set[str]) -> dict[str, dict[str, list[Source]]]:
    held: dict[str, dict[str, list[Source]]] = {}
    for name, sources in pools.items():
        per: dict[str, list[Source]] = defaultdict(list)
        for source in sources:
            owner = owner_of(source, one_per_patient)
            if owner not in taken:
                per[owner].append(source)
        held[name] = per
    return held


def _fitting(place: Place, held: Mapping[str, Mapping[str, list[Source]]]) -> list[str]:
    """Who has images of all kinds that a place needs."""
    first, *others = (held.get(pool, {}) for pool in place)
    return [owner for owner in first if all(owner in other for other in others)]


def _one(sources: Sequence[Source], seed: int, *name: object) -> Source:
    return sources[number(len(sources), seed, "one of several", *name)]


def _short(places: Sequence[Place], matched: list[int], fitting: Mapping[Place, list[str]], per_patient: bool) -> str:
    """The kind of place that is hardest to fill, and what would mend it."""
    needs, empty = Counter(places), Counter(p for p, one in zip(places, matched, strict=True) if one < 0)
    worst = max(empty, key=lambda place: needs[place] / max(len(fitting[place]), 1))
    unit = "patients" if per_patient else "images"
    what = " and ".join(spoken(name) for name in worst)
    there = len(fitting[worst])
    shared = "" if there < needs[worst] else f", whom other places need too ({len(places)} in all)"
    return (
        f"too few {unit}: {needs[worst]} with {what} are needed (with training and attention checks), there are "
        f"{there}{shared}; ask for fewer --cases, --training or --checks, or give more images"
        + (" (--many-per-patient lets a patient appear more than once)" if per_patient else "")
    )


def spoken(pool: str) -> str:
    """The name of a pool as people say it."""
    name, _, stratum = pool.partition(MARK)
    method, _, lesion = name.partition("?")
    what = f"images where the finding is {lesion}" if lesion else f"{method} pictures" if method else "real pictures"
    return what + (f" ({stratum})" if stratum else "")
