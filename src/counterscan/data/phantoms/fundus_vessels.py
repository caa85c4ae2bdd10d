"""The retinal vessel tree: arcades that leave the disc, branch, taper and curve around the macula."""

from dataclasses import dataclass

import numpy as np

from counterscan.data.phantoms.fields import Array
from counterscan.data.phantoms.fundus_canvas import Canvas, Dots

PERIODS = 2 * np.pi / np.array([11.0, 6.0, 3.2], np.float32)[:, None, None]  # bends: radians a degree of length
SWING = np.array([1.0, 0.8, 0.4], np.float32)[:, None, None]
Point = tuple[float, float]


@dataclass(frozen=True)
class Paths:
    """Vessels as lines: places `v`, `u` and `radius` in degrees, `heading` in radians; each `(n, steps)`.

    A heading of 0 points to the nose and of a quarter turn upwards. `vein` `(n,)` is True for veins.
    """

    v: Array
    u: Array
    heading: Array
    radius: Array
    vein: Array
    length: Array

    def dots(self, spacing: float) -> Dots:
        """The lines as dots no further than `spacing` degrees apart."""
        many = np.ceil(self.length / spacing).astype(int)
        path = np.repeat(np.arange(many.size), many)
        along = (np.arange(path.size) - np.repeat(np.cumsum(many) - many, many)) / many[path] * (self.v.shape[1] - 1)
        step = along.astype(int)
        share = (along - step).astype(np.float32)
        v, u, radius = (
            each[path, step] + (each[path, step + 1] - each[path, step]) * share
            for each in (self.v, self.u, self.radius)
        )
        depth = np.where(self.vein, np.float32(0.9), np.float32(0.64))[path]
        return Dots(v, u, radius, depth * np.sqrt(np.minimum(radius / 0.32, 1.2)))


def tree(rng: np.random.Generator, disc: Point, tortuosity: float, calibre: float) -> list[Paths]:
    """The vessels of an eye whose disc lies at `disc` (v, u), from the trunks to the twigs."""
    trunks = _trunks(rng, disc, tortuosity, calibre)
    branches = _branches(rng, trunks, 9, tortuosity)
    direct = _direct(rng, disc, tortuosity, calibre)
    twigs = _branches(rng, branches, 5, 1.2 * tortuosity)
    fine = _branches(rng, direct, 3, 1.2 * tortuosity)
    return [trunks, branches, direct, twigs, fine]


def _trunks(rng: np.random.Generator, disc: Point, tortuosity: float, calibre: float) -> Paths:
    """Artery and vein for the four quadrants; the temporal pairs turn around the macula."""
    n = 8
    temporal = np.arange(n) % 4 < 2
    up = np.where(np.arange(n) % 2 == 0, 1.0, -1.0)
    vein = np.arange(n) >= 4
    first = np.where(temporal, rng.normal(1.6, 0.17, n), rng.normal(1.25, 0.3, n))
    last = np.where(temporal, rng.normal(3.2, 0.1, n), rng.normal(0.65, 0.25, n))
    turn = np.where(temporal, rng.normal(17.0, 2.0) + rng.normal(0, 1.2, n) + 1.0 * vein, 5.0)
    radius = calibre * np.where(vein, 0.33, 0.25) * np.where(temporal, 1.0, 0.72) * rng.uniform(0.88, 1.12, n)
    start = disc[0] + rng.normal(0, 0.35, n), disc[1] + rng.normal(0.45, 0.3, n)
    return walk(rng, start, up * first, up * (last - first), turn, np.full(n, 36.0), radius, vein, tortuosity, 80)


def _direct(rng: np.random.Generator, disc: Point, tortuosity: float, calibre: float) -> Paths:
    """Small vessels that leave the disc straight for the macula or for the nose."""
    n = 8
    nasal = np.arange(n) >= 6
    heading = np.where(nasal, rng.normal(0, 0.35, n), np.pi + rng.uniform(-0.6, 0.6, n))
    start = disc[0] + rng.normal(0, 0.9, n), disc[1] + np.where(nasal, 1.0, -1.2)
    length = np.where(nasal, 18.0, rng.uniform(5, 12, n))
    radius = calibre * rng.uniform(0.09, 0.15, n) * np.where(nasal, 1.3, 1.0)
    bend = rng.normal(0, 0.3, n)
    return walk(rng, start, heading, bend, np.full(n, 6.0), length, radius, rng.random(n) < 0.5, tortuosity, 40)


def _branches(rng: np.random.Generator, parents: Paths, each: int, tortuosity: float) -> Paths:
    """About `each` branches of every vessel, at changing sides; those on the macula's side run towards it."""
    n, steps = parents.v.shape
    part = (np.arange(each) + rng.uniform(0.25, 1.0, (n, each))) / (each + 0.5)
    at = np.arange(n)[:, None], (part * (steps - 1)).astype(int)
    v, u, heading, radius = (values[at].ravel() for values in (parents.v, parents.u, parents.heading, parents.radius))
    side = np.where((np.arange(each) + rng.integers(0, 2, (n, 1))) % 2, 1.0, -1.0).ravel()
    side *= np.where(rng.random(side.size) < 0.2, -1, 1)
    heading = heading + side * rng.uniform(0.5, 1.0, side.size)
    wanted = np.arctan2(v, -u) + rng.normal(0, 0.35, side.size)
    away = (wanted - heading + np.pi) % (2 * np.pi) - np.pi
    inward = np.abs(away) < 1.4
    far = np.hypot(v, u)
    outward = side * rng.normal(-0.25, 0.3, side.size)
    bend = np.where(inward & (far < 14), 0.8 * away, outward)
    whole = np.repeat(parents.length, each)
    length = np.minimum(whole * rng.uniform(0.25, 0.6, side.size), np.where(inward, np.maximum(far - 1, 1.5), 99))
    radius = np.maximum(radius * rng.uniform(0.42, 0.72, side.size), 0.06)
    vein = np.repeat(parents.vein, each)
    return walk(rng, (v, u), heading, bend, 0.45 * length, length, radius, vein, tortuosity, 20)


def walk(
    rng: np.random.Generator,
    start: tuple[Array, Array],
    heading: Array,
    bend: Array,
    turn: Array,
    length: Array,
    radius: Array,
    vein: Array,
    tortuosity: float,
    steps: int,
) -> Paths:
    """Lines from `start` that turn by `bend` radians in about `turn` degrees of their `length`, and waver."""
    v, u, heading, bend, turn, length, radius = (
        np.asarray(each, np.float32)[:, None] for each in (*start, heading, bend, turn, length, radius)
    )
    way = np.linspace(0, 1, steps, dtype=np.float32) * length
    part = way / turn
    course = heading + bend * (1 - np.exp(-1.6 * part * np.sqrt(part)))
    phase, swing = rng.random((2, 3, v.size, 1), dtype=np.float32)
    swing = np.float32(tortuosity) * SWING * (0.5 + swing)
    course = course + (swing * np.sin(way * PERIODS + np.float32(2 * np.pi) * phase)).sum(0) * np.minimum(way / 2, 1)
    step = length / (steps - 1)
    along, down = np.cos(course) * step, np.sin(course) * step
    u = u + np.cumsum(along, 1) - along[:, :1]
    v = v - np.cumsum(down, 1) + down[:, :1]
    thin = (1 - 0.7 * way / length) * np.clip(np.sqrt(v * v + u * u) - 0.9, 0, 1)  # none within the fovea
    return Paths(v, u, course, radius * thin, vein, length[:, 0])


def paint(canvas: Canvas, paths: list[Paths]) -> Array:
    """Optical depth of the blood in all vessels `(size, size)`, in green light; arteries have a bright core."""
    spacing = 0.75 * canvas.px
    depth = canvas.stamp(Dots.join([path.dots(spacing) for path in paths]))
    core = [path for path in paths[:2] if float(path.radius.max()) > 1.1 * canvas.px]
    if core:
        depth *= 1 - canvas.stamp(Dots.join([_core(path, canvas.px) for path in core]))
    return depth


def _core(paths: Paths, px: float) -> Dots:
    """The reflex along the middle of vessels that are wide enough to show one; it is bright in arteries."""
    dots = paths.dots(0.75 * px)
    artery = dots.height < 0.75 * np.sqrt(np.minimum(dots.radius / 0.32, 1.2))
    strong = np.where(artery, 0.45, 0.16) * np.clip(dots.radius / px - 0.9, 0, 1)
    return Dots(dots.v, dots.u, 0.3 * dots.radius, strong)
