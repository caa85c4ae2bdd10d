"""How far the made archive is from the real one as a set: overall, class by class, and resolution by resolution."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from counterscan.bench.synthesis.setting import Setting
from counterscan.errors import CounterscanError
from counterscan.metrics.intervals import Estimate
from counterscan.metrics.kernel import kernel_floor
from counterscan.metrics.sets import Sample, compare

LEAST_MADE, LEAST_REAL = 10, 20  # images of a class, below which there is nothing to compare
BLOCK = 1000  # features handed on at a time
CHANCE = 0.95  # of real sets of the same size are nearer to each other than the floor


def distances(setting: Setting) -> list[dict[str, Any]]:
    """A line for each view of both archives (all images, those of each class, all at each coarser resolution)."""
    return [_view(setting, *words) for words in _views(setting)]


def _views(setting: Setting) -> Iterator[tuple[str, str, int, np.ndarray, np.ndarray]]:
    every = [np.ones(len(archive), bool) for archive in (setting.made, setting.real)]
    side = setting.side
    yield "all images", "overall", side, every[0], every[1]
    made, real = setting.made.kinds(), setting.real.kinds()
    for name in made:
        yield name, "class", side, made[name], real[name]
    for coarser in setting.sides[1:]:
        yield f"{coarser} px", "resolution", coarser, every[0], every[1]


def _view(setting: Setting, name: str, kind: str, side: int, made: np.ndarray, real: np.ndarray) -> dict[str, Any]:
    """One line; where there are too few images, why there are no figures."""
    line = {"name": name, "kind": kind, "side": side}
    ours, theirs = np.flatnonzero(made).tolist(), np.flatnonzero(real).tolist()
    if len(ours) < LEAST_MADE or len(theirs) < LEAST_REAL:
        needed = f"{LEAST_MADE} and {LEAST_REAL} are needed"
        return {**line, "note": f"{len(ours)} made and {len(theirs)} real images; {needed}"}
    reference, floor = setting.real.dealt(theirs, len(ours), setting.seed)
    n = min(len(ours), len(floor))
    ours = random.Random(setting.seed).sample(ours, n)
    features, others = setting.features(setting.made, side), setting.features(setting.real, side)
    try:
        found = compare(
            _samples(features, ours, setting.made.patients),
            _samples(others, reference, setting.real.patients),
            _samples(others, floor[:n], setting.real.patients),
            setting.extractor.name,
            seed=setting.seed,
        )
    except CounterscanError as error:
        return {**line, "note": str(error)}
    whose = [setting.real.patients[index] for index in theirs]
    chance = kernel_floor(others[theirs], (n, len(reference)), whose, seed=setting.seed)
    return {**line, **found.to_dict(), **_beside(found.figures["kernel_distance"], chance)}


def _beside(distance: Estimate, chance: np.ndarray) -> dict[str, Any]:
    """The distance that `CHANCE` of real sets of the same size stay below, and how many times that the made one is."""
    if len(chance) < 2:
        return {"kernel_floor": None, "times_floor": None}
    floor = float(np.quantile(chance, CHANCE))
    return {"kernel_floor": float(f"{floor:.4g}"), "times_floor": float(f"{distance.value / floor:.4g}")}


def _samples(features: Tensor, chosen: Sequence[int], patients: Sequence[str]) -> Iterator[Sample]:
    for start in range(0, len(chosen), BLOCK):
        part = list(chosen[start : start + BLOCK])
        yield Sample(features[part], tuple(patients[index] for index in part))
