"""How the heat maps of a volume's slices become one mask and a list of lesions: neighbours in millimetres vote along.

A slice at a time, whatever their number: what is kept of each is a few numbers per object. Objects of neighbouring
slices that touch are one lesion.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.special import expit
from torch import Tensor

from counterscan.core import Explanation
from counterscan.metrics.masks import MaskRule, object_peaks, objects, smooth

REACH = 3.0  # standard deviations: slices further away have no vote
ANGLES = np.linspace(0, np.pi, 60, endpoint=False)


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the pixels of a volume's heat maps lie: `pixel` (row, column) in mm, `places` (n,) of the slices in mm.

    Places are along the normal of the slices, and only grow or only fall.
    """

    pixel: tuple[float, float]
    places: np.ndarray = field(repr=False)

    @cached_property
    def steps(self) -> np.ndarray:
        """The thickness (n,) in mm that each slice stands for: half of the way to either neighbour."""
        ways = np.abs(np.diff(self.places))
        return (np.append(ways[:1], ways) + np.append(ways, ways[-1:])) / 2

    @property
    def area(self) -> float:
        """Of a pixel, in mm2."""
        return self.pixel[0] * self.pixel[1]

    def weights(self, index: int, across: float) -> tuple[range, np.ndarray]:
        """The slices that vote on slice `index`, and how much, for a Gaussian of `across` mm; they add up to 1."""
        far = np.abs(self.places - self.places[index])
        near = np.flatnonzero(far <= REACH * across)
        votes = np.exp(-0.5 * (far[near] / across) ** 2) * self.steps[near] if across else np.ones(1)
        return range(int(near[0]), int(near[-1]) + 1), votes / votes.sum()


@dataclass(frozen=True)
class Lesion:
    """One connected object of a volume.

    `ml` is its volume and `low` to `high` its interval (`VolumeRule.widen`); `first` to `last` are its slices, from 0;
    `centre` is (row, column, slice) in pixels of the heat maps; `diameter_mm` is the largest within a slice, `peak` the
    largest value of the smoothed map in it; `confidence` is `VolumeRule.confidence` of that, nan where it is not known.
    """

    ml: float
    low: float
    high: float
    first: int
    last: int
    extent_mm: float
    centre: tuple[float, float, float]
    diameter_mm: float
    peak: float
    confidence: float


@dataclass(frozen=True)
class VolumeRule:
    """A `MaskRule` for volumes: the map is smoothed across slices too, and objects are three-dimensional.

    plane: threshold, blur within the slice, and what else holds for each slice; `minimum` is asked of the object.
    across: standard deviation in mm of the Gaussian across slices; 0 leaves each slice alone.
    thinnest: mm across slices that an object must reach; one slice that is thicker is enough.
    smallest: ml that an object must have.
    widen: the interval of a volume goes from the threshold times `widen` to the threshold divided by it; what it is
        worth was measured on phantoms (docs/volumes.md).
    """

    plane: MaskRule
    across: float = 2.0
    thinnest: float = 5.0
    smallest: float = 0.2
    widen: float = 1.5

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        return cls(**{**values, "plane": MaskRule.from_dict(values["plane"])})

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return {**asdict(self), "plane": self.plane.to_dict()}

    @property
    def confident(self) -> bool:
        """Was a confidence ever fitted on volumes? That of single images is none for a volume."""
        return bool(self.plane.volume_intercept or self.plane.volume_slope)

    def confidence(self, peaks: Any) -> np.ndarray:
        """The probability that lesions with these `peaks` meet a true one; nan where it was never fitted.

        As `MaskRule.confidence`, with its own numbers: a false object has many slices of a volume to reach a peak in.
        """
        if not self.confident:
            return np.full(np.shape(peaks), np.nan)
        return expit(self.plane.volume_intercept + self.plane.volume_slope * self.plane.strengths(peaks))

    def __call__(self, heat: Any, grid: Grid, attempted: np.ndarray | None = None) -> "Found":
        """The lesions in maps `(n, h, w)`, which are only ever read a few slices at a time.

        `attempted` (n,) bool says in which slices the answer was not as asked for before: an object that lies in none
        of them is not kept.
        """
        maps = Smoothed(heat, grid, self)
        attempted = np.ones(len(grid.places), bool) if attempted is None else np.asarray(attempted)
        core, wide = Objects(grid), Objects(grid)
        for index, heated in enumerate(maps):
            core.add(index, maps.labels(heated, 1.0), maps.labels(heated, self.widen) > 0)
            core.peaks += maps.peaks(index, core.last_labels, counted=bool(attempted[index]))
            wide.add(index, maps.labels(heated, 1 / self.widen), inside=core)
        return Found(self, maps, core, wide)


def volume_mask(explanation: Explanation) -> Tensor:
    """The mask `(n, 1, h, w)` of the slices of a volume, which lie as `meta["volume"]` says."""
    found = found_in(explanation)
    return torch.from_numpy(np.stack([found.mask(index) for index in range(len(explanation))])[:, None])


def found_in(explanation: Explanation) -> "Found":
    """The lesions of a volume, whose slices lie as `meta["volume"]` says, by the rule that the explanation carries."""
    facts = explanation.meta["volume"]
    rule = replace(VolumeRule.from_dict(facts["rule"]), plane=MaskRule.of(explanation))
    attempted = (~explanation.target.reached(explanation.before)).numpy()
    heat = explanation.heatmap[:, 0].half().cpu().numpy()  # as it was when the mask was written
    return rule(heat, Grid(tuple(facts["pixel"]), np.array(facts["places"])), attempted)


class Smoothed:
    """The maps of a volume after smoothing, one slice at a time, and the objects in each."""

    def __init__(self, heat: Any, grid: Grid, rule: VolumeRule):
        self.heat, self.grid, self.rule = heat, grid, rule
        self.threshold = rule.plane.threshold
        self.low, self.span = 0.0, 1.0
        if rule.plane.relative:
            extremes = [(float(each.min()), float(each.max())) for each in self]
            self.low = min(low for low, _ in extremes)
            self.span = max(high for _, high in extremes) - self.low or 1.0

    def __len__(self) -> int:
        return len(self.grid.places)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> np.ndarray:
        """The smoothed map `(h, w)` of a slice."""
        if index >= len(self):
            raise IndexError(index)
        near, votes = self.grid.weights(index, self.rule.across)
        mixed = sum(vote * np.asarray(self.heat[other], np.float32) for other, vote in zip(near, votes, strict=True))
        return smooth(np.asarray(mixed, np.float32), self.rule.plane.blur)

    def peaks(self, index: int, labels: np.ndarray, *, counted: bool) -> list[float]:
        """The largest value in each object of a slice, before neighbours had a vote: what `minimum` was chosen for."""
        alone = smooth(np.asarray(self.heat[index], np.float32), self.rule.plane.blur)
        count = int(labels.max())
        return object_peaks(alone, labels, count)[1:].tolist() if counted else [-np.inf] * count

    def labels(self, heated: np.ndarray, factor: float) -> np.ndarray:
        """The objects of a slice at the threshold times `factor`, numbered from 1."""
        level = (heated - self.low) / self.span if self.rule.plane.relative else heated
        above = level > self.threshold * factor
        return objects(above, self.rule.plane.opening, self.rule.plane.fill)[0]


class Objects:
    """The objects of all slices, numbered through, with a few numbers each, and which of them touch."""

    def __init__(self, grid: Grid):
        self.grid = grid
        self.slices: list[int] = []
        self.starts: list[int] = [0]  # the number before the first object of each slice
        self.ml: list[float] = []
        self.strong: list[float] = []
        self.peaks: list[float] = []
        self.moments: list[tuple[float, float]] = []
        self.homes: list[int] = []  # of each object of the narrower collection, the object here that it lies in
        self._touching: list[np.ndarray] = []
        self._before: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.slices)

    def add(self, index: int, labels: np.ndarray, strong: Any = False, inside: "Objects | None" = None) -> None:
        """Take in the objects `labels` `(h, w)` of slice `index`; those of `inside` have been taken in before."""
        count, start = int(labels.max()), len(self)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        unit = self.grid.area * self.grid.steps[index] / 1000
        self.ml += (sizes * unit).tolist()
        self.slices += [index] * count
        above = np.bincount((labels * strong).ravel(), minlength=count + 1)[1:]
        self.strong += (above * unit).tolist()
        rows, columns = (np.bincount(labels.ravel(), at.ravel(), count + 1)[1:] for at in np.indices(labels.shape))
        self.moments += list(zip((rows * unit).tolist(), (columns * unit).tolist(), strict=True))
        if self._before is not None:
            self._touching.append(np.add(touching(self._before, labels), (self.starts[-2], start)))
        if inside is not None:
            self.homes += homes(inside.last_labels, labels, start)
        self.starts.append(len(self))
        self._before = labels

    @property
    def last_labels(self) -> np.ndarray:
        """What was added last."""
        assert self._before is not None
        return self._before

    def joined(self) -> np.ndarray:
        """For each object the lesion it is part of, from 0."""
        pairs = np.concatenate([*self._touching, np.zeros((0, 2), int)]).astype(int) - 1
        graph = sparse.coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (len(self), len(self)))
        return connected_components(graph, directed=False)[1] if len(self) else np.zeros(0, int)


class Found:
    """What a rule found in a volume: `lesions`, the largest first, and the mask, one slice at a time."""

    def __init__(self, rule: VolumeRule, maps: Smoothed, core: Objects, wide: Objects):
        self.rule, self._maps, self._core = rule, maps, core
        self._lesion_of = core.joined()
        kept = self._kept()
        numbers = np.full(self._lesion_of.max(initial=-1) + 1, -1)
        numbers[kept] = np.arange(len(kept))
        self._number_of = numbers[self._lesion_of] if len(core) else self._lesion_of  # -1 where the object is dropped
        self.lesions = self._measured(wide)

    def _sum(self, values: Sequence[float], of: np.ndarray | None = None) -> np.ndarray:
        of = self._lesion_of if of is None else of
        return np.bincount(of[of >= 0], np.asarray(values, float)[of >= 0], minlength=of.max(initial=-1) + 1)

    def _kept(self) -> np.ndarray:
        """The lesions that are large, thick and strong enough, by volume."""
        if not len(self._core):
            return np.zeros(0, int)
        ml, steps = self._sum(self._core.ml), self._maps.grid.steps
        peaks = np.full(len(ml), -np.inf)
        np.maximum.at(peaks, self._lesion_of, self._core.peaks)
        places = np.unique(np.stack([self._lesion_of, self._core.slices]), axis=1)
        thick = np.bincount(places[0], steps[places[1]])
        rule = self.rule
        strong = (peaks >= rule.plane.minimum) & np.isfinite(peaks)
        good = strong & (ml >= rule.smallest) & (thick >= rule.thinnest - 1e-6)
        return np.flatnonzero(good)[np.argsort(-ml[good], kind="stable")]

    def _measured(self, wide: Objects) -> list[Lesion]:
        """Each lesion's numbers; where several share one wider object, each has its part of that."""
        core, numbers = self._core, self._number_of
        count = int(numbers.max(initial=-1)) + 1
        if not count:
            return []
        ml, strong = self._sum(core.ml, numbers), self._sum(core.strong, numbers)
        shared = wide.joined()
        home = shared[np.array(wide.homes)]
        room = np.bincount(shared, wide.ml)
        inside = np.bincount(home, core.ml, minlength=len(room))
        high = np.zeros(count)
        pairs = np.unique(np.stack([numbers, home])[:, numbers >= 0], axis=1)
        for number, place in pairs.T:
            here = np.sum(np.asarray(core.ml)[(numbers == number) & (home == place)])
            high[number] += room[place] * here / inside[place]
        widths = self._diameters(count)
        return [self._lesion(number, ml, strong, high, widths) for number in range(count)]

    def _lesion(self, number: int, ml, strong, high, widths) -> Lesion:
        core, steps = self._core, self._maps.grid.steps
        mine = np.flatnonzero(self._number_of == number)
        slices = np.array(core.slices)[mine]
        moments = np.array(core.moments)[mine].sum(0) / ml[number]
        peak = float(np.array(core.peaks)[mine].max())
        depth = float(np.sum(np.array(core.ml)[mine] * slices) / ml[number])
        return Lesion(
            ml=float(ml[number]),
            low=float(strong[number]),
            high=float(max(high[number], ml[number])),
            first=int(slices.min()),
            last=int(slices.max()),
            extent_mm=float(steps[slices.min() : slices.max() + 1].sum()),
            centre=(float(moments[0]), float(moments[1]), depth),
            diameter_mm=float(widths[number]),
            peak=peak,
            confidence=float(self.rule.confidence(peak)),
        )

    def numbered(self, index: int) -> np.ndarray:
        """Which lesion each pixel `(h, w)` of a slice belongs to, from 1; 0 is none."""
        start, end = self._core.starts[index], self._core.starts[index + 1]
        table = np.append(0, self._number_of[start:end] + 1)
        if not table.any():
            return np.zeros(np.shape(self._maps.heat[index]), int)
        return table[self._maps.labels(self._maps[index], 1.0)]

    def mask(self, index: int) -> np.ndarray:
        """The mask `(h, w)` bool of a slice."""
        return self.numbered(index) > 0

    def _diameters(self, count: int) -> np.ndarray:
        widths = np.zeros(count)
        for index in np.unique(np.array(self._core.slices)[self._number_of >= 0]):
            numbers = self.numbered(int(index))
            for number in np.unique(numbers[numbers > 0]):
                widths[number - 1] = max(widths[number - 1], diameter(numbers == number, self._maps.grid.pixel))
        return widths


def diameter(inside: np.ndarray, pixel: tuple[float, float]) -> float:
    """The largest width in mm, over all directions, of an object `(h, w)` whose pixels have the size `pixel`."""
    rows, columns = np.nonzero(inside)
    along = np.outer(np.sin(ANGLES), rows * pixel[0]) + np.outer(np.cos(ANGLES), columns * pixel[1])
    one = np.abs(np.sin(ANGLES)) * pixel[0] + np.abs(np.cos(ANGLES)) * pixel[1]
    return float((np.ptp(along, axis=1) + np.minimum(one, max(pixel))).max())


def touching(before: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The pairs (object before, object) of two neighbouring slices that touch, corners too, `(pairs, 2)`."""
    height, width = labels.shape
    padded, pairs = np.pad(before, 1), []
    occupied = np.nonzero(labels)
    for down in range(3):
        for right in range(3):
            other = padded[down : down + height, right : right + width][occupied]
            pairs.append(np.stack([other, labels[occupied]], 1)[other > 0])
    return np.unique(np.concatenate(pairs), axis=0)


def homes(inner: np.ndarray, outer: np.ndarray, start: int) -> list[int]:
    """For each object of `inner` the one of `outer`, counted on from `start`, that it lies in."""
    found = np.zeros(int(inner.max()) + 1, int)
    found[inner[inner > 0]] = outer[inner > 0]
    return (found[1:] - 1 + start).tolist()
