"""Diabetic retinopathy and drusen: where they lie, and how much light they swallow or send back."""

from dataclasses import dataclass

import numpy as np

from counterscan.data.phantoms.fields import Array
from counterscan.data.phantoms.fundus_anatomy import Eye
from counterscan.data.phantoms.fundus_canvas import Canvas, Dots
from counterscan.data.phantoms.fundus_vessels import walk

GRADES = {1: 0.18, 2: 0.38, 3: 0.26, 4: 0.18}  # shares of the grades among diseased eyes
LEVELS = {  # how strong a layer is where its lesion's mask begins
    "microaneurysms": 0.15,
    "haemorrhages": 0.22,
    "exudates": 0.2,
    "cotton_wool_spots": 0.2,
    "neovascularisation": 0.1,
    "preretinal_haemorrhage": 0.3,
}
Layer = tuple[Array, int]  # strength (size, size), and the number of lesions


@dataclass(frozen=True)
class Retinopathy:
    """Layers `(size, size)` of diabetic retinopathy, 0 where there is none.

    `blood` is an optical depth in green light; `veil`, blood in front of the retina, hides the vessels as well.
    `exudate` and `cotton` are the shares of light that come back from them, below and above the vessels. `masks`
    holds the kinds that are present, `counts` all kinds.
    """

    grade: int
    blood: Array
    veil: Array
    exudate: Array
    cotton: Array
    masks: dict[str, Array]
    counts: dict[str, int]

    @property
    def mask(self) -> Array:
        """The union `(size, size)` of all kinds."""
        return np.logical_or.reduce(list(self.masks.values()))


@dataclass(frozen=True)
class Sites:
    """Places for lesions: within the camera's `frame`, beside the disc, and rather not on `blood` vessels."""

    rng: np.random.Generator
    canvas: Canvas
    eye: Eye
    frame: Array
    blood: Array

    def around_fovea(self, n: int, spread: float, nearest: float, room: float) -> tuple[Array, Array]:
        """`n` places (v, u), at least `nearest` degrees from the fovea and mostly within `spread` more."""
        many = 12 * n + 48
        turn, far = self.rng.uniform(0, 2 * np.pi, many), nearest + np.abs(self.rng.normal(0, spread, many))
        return self._choose(far * np.sin(turn), far * np.cos(turn), n, room)

    def along_arcades(self, n: int, nearest: float, furthest: float, room: float) -> tuple[Array, Array]:
        """`n` places (v, u), `nearest` to `furthest` degrees from the disc and well away from the fovea."""
        many = 16 * n + 48
        heading = self.rng.choice([-1, 1], many) * self.rng.uniform(0.3, 1.5, many)
        far = self.rng.uniform(nearest, furthest, many)
        v, u = self.eye.disc[0] + far * np.sin(heading), self.eye.disc[1] - far * np.cos(heading)
        keep = np.hypot(v, u) > 4.5
        return self._choose(v[keep], u[keep], n, room)

    def _choose(self, v: Array, u: Array, n: int, room: float) -> tuple[Array, Array]:
        """The first `n` of these places that are seen with `room` degrees around them, free ones before others."""
        beside = np.hypot(v - self.eye.disc[0], u - self.eye.disc[1]) > self.eye.disc_radii[0] + room
        good = beside & self._seen(v, u, room)
        taken = self.canvas.at(self.blood, v, u) > 0.2
        order = np.argsort(np.where(good, taken, 2), kind="stable")[: min(n, int(good.sum()))]
        return v[order], u[order]

    def _seen(self, v: Array, u: Array, room: float) -> Array:
        """Whether the camera sees the places, and what is `room` degrees further out too."""
        middle = (self.canvas.size - 1) / 2
        rows, columns = (each - middle for each in self.canvas.pixels(v, u))
        out = 1 + room / self.canvas.px / np.maximum(np.hypot(rows, columns), 0.5)
        rows, columns = (np.rint(each * out + middle).astype(int) for each in (rows, columns))
        last = self.canvas.size - 1
        inside = (np.minimum(rows, columns) >= 0) & (np.maximum(rows, columns) <= last)
        return inside & (self.frame[np.clip(rows, 0, last), np.clip(columns, 0, last)] > 0.99)

    def fibres(self, v: Array, u: Array) -> Array:
        """Heading (radians, v down) of the nerve fibres: parabolas around the macula, rays on the nasal side."""
        dv, du = v - self.eye.disc[0], u - self.eye.disc[1]
        return np.arctan2(dv, np.where(du < 0, 2 * du, du))

    def nothing(self) -> Layer:
        """A layer without lesions."""
        return np.zeros_like(self.frame), 0


def drusen(sites: Sites) -> Layer:
    """Soft yellowish spots around the fovea: the share of light that comes back from them."""
    rng, px = sites.rng, sites.canvas.px
    v, u = sites.around_fovea(int(rng.integers(10, 60)), float(rng.uniform(2.5, 4.5)), 0.3, 0.6)
    radius = np.clip(rng.gamma(3.5, 0.08, v.size), 0.6 * px, 0.65)
    dots = Dots(v, u, radius, rng.uniform(0.26, 0.5, v.size))
    return sites.canvas.stamp(dots, softness=max(1.5, 0.4 / px), waver=0.2), v.size


def retinopathy(rng: np.random.Generator, canvas: Canvas, eye: Eye, frame: Array, vessels: Array) -> Retinopathy:
    """Draw the lesions of a grade between 1 and 4 (International Clinical Diabetic Retinopathy scale)."""
    grade = int(rng.choice(list(GRADES), p=list(GRADES.values())))
    sites = dict(
        zip(LEVELS, (Sites(each, canvas, eye, frame, vessels) for each in rng.spawn(len(LEVELS))), strict=True)
    )
    drawn = {
        "microaneurysms": _microaneurysms(sites["microaneurysms"], grade),
        "haemorrhages": _haemorrhages(sites["haemorrhages"], grade),
        "exudates": _exudates(sites["exudates"], grade),
        "cotton_wool_spots": _cotton_wool(sites["cotton_wool_spots"], grade),
        "neovascularisation": _new_vessels(sites["neovascularisation"], grade),
    }
    alone = not drawn["neovascularisation"][1]
    drawn["preretinal_haemorrhage"] = _preretinal(sites["preretinal_haemorrhage"], grade, alone)
    masks = {kind: (layer > LEVELS[kind]) & (frame > 0.5) for kind, (layer, n) in drawn.items() if n}
    flat = np.maximum(drawn["microaneurysms"][0], drawn["haemorrhages"][0])
    return Retinopathy(
        grade=grade,
        blood=flat + drawn["neovascularisation"][0],
        veil=drawn["preretinal_haemorrhage"][0],
        exudate=drawn["exudates"][0],
        cotton=drawn["cotton_wool_spots"][0],
        masks=masks,
        counts={kind: n for kind, (_, n) in drawn.items()},
    )


def _microaneurysms(sites: Sites, grade: int) -> Layer:
    """Tiny red dots; smaller than a pixel of a small picture, where they are drawn a little larger."""
    rng = sites.rng
    n = int(rng.integers(*{1: (4, 14), 2: (6, 28), 3: (18, 45), 4: (12, 40)}[grade]))
    v, u = sites.around_fovea(n, 7.5, 1.0, 0.5)
    radius = np.maximum(rng.uniform(0.13, 0.26, v.size), 0.65 * sites.canvas.px)
    return sites.canvas.stamp(Dots(v, u, radius, rng.uniform(0.5, 0.8, v.size))), v.size


def _haemorrhages(sites: Sites, grade: int) -> Layer:
    """Dots and blots in the depth, and flames along the nerve fibres."""
    rng = sites.rng
    if grade == 1:
        return sites.nothing()
    blots = int(rng.integers(*{2: (2, 12), 3: (16, 40), 4: (8, 32)}[grade]))
    flames = int(rng.integers(*{2: (0, 4), 3: (3, 10), 4: (2, 9)}[grade]))
    v, u = sites.around_fovea(blots, 9.0, 1.2, 1.0)
    radius = np.maximum(0.2 + rng.gamma(1.3, 0.17, v.size), 0.75 * sites.canvas.px)
    layer = sites.canvas.stamp(Dots(v, u, radius, rng.uniform(0.6, 1.0, v.size)), waver=0.45)
    long_v, long_u = sites.along_arcades(flames, 4.0, 13.0, 1.5)
    if long_v.size:
        np.maximum(layer, sites.canvas.stamp(_flames(sites, long_v, long_u), waver=0.3), out=layer)
    return layer, v.size + long_v.size


def _flames(sites: Sites, v: Array, u: Array) -> Dots:
    """Each flame is a bundle of streaks of unequal length, side by side along the fibres."""
    rng, parts, way = sites.rng, [], np.linspace(-1, 1, 14)
    for at_v, at_u, turn in zip(v, u, sites.fibres(v, u), strict=True):
        streaks = int(rng.integers(3, 7))
        reach, shift = rng.uniform(0.5, 1, (streaks, 1)) * rng.uniform(0.7, 1.9), rng.normal(0, 0.3, (streaks, 1))
        along, across = way * reach + shift, 0.12 * streaks * np.linspace(-1, 1, streaks)[:, None]
        width = 0.15 * np.sqrt(np.clip(1.05 - way**2, 0.05, 1)) + 0 * along
        dv = along * np.sin(turn) + across * np.cos(turn)
        du = along * np.cos(turn) - across * np.sin(turn)
        height = np.full(dv.size, rng.uniform(0.65, 1.0))
        parts.append(Dots((at_v + dv).ravel(), (at_u + du).ravel(), width.ravel(), height))
    return Dots.join(parts)


def _exudates(sites: Sites, grade: int) -> Layer:
    """Sharply bordered yellow-white spots around the macula, in clusters and circinate rings."""
    rng = sites.rng
    if rng.random() < {1: 1.0, 2: 0.3, 3: 0.15, 4: 0.25}[grade]:
        return sites.nothing()
    v, u = sites.around_fovea(int(rng.integers(1, 5)), 5.0, 1.5, 2.0)
    dots = Dots.join([_cluster(sites, at_v, at_u) for at_v, at_u in zip(v, u, strict=True)])
    if not len(dots):
        return sites.nothing()
    return sites.canvas.stamp(dots, softness=1.0, waver=0.5), len(dots)


def _cluster(sites: Sites, v: float, u: float) -> Dots:
    """Spots that lie close together, or on a part of a ring around a leak."""
    rng, n = sites.rng, int(sites.rng.integers(6, 34))
    if rng.random() < 0.4:
        turn = rng.uniform(0, 2 * np.pi) + rng.uniform(0, rng.uniform(3.5, 6.2), n)
        far = rng.uniform(1.3, 2.8) + rng.normal(0, 0.22, n)
    else:
        turn, far = rng.uniform(0, 2 * np.pi, n), np.abs(rng.normal(0, rng.uniform(0.7, 1.8), n))
    spot_v, spot_u = v + far * np.sin(turn), u + far * np.cos(turn)
    radius = np.maximum(0.08 + rng.gamma(1.6, 0.075, n), 0.45 * sites.canvas.px)
    beside = np.hypot(spot_v - sites.eye.disc[0], spot_u - sites.eye.disc[1]) > sites.eye.disc_radii[0] + 0.8
    keep = beside & sites.canvas.inside(sites.frame, spot_v, spot_u)
    return Dots(spot_v[keep], spot_u[keep], radius[keep], rng.uniform(0.65, 0.95, n)[keep])


def _cotton_wool(sites: Sites, grade: int) -> Layer:
    """Soft whitish patches in the nerve-fibre layer, across the fibres that they swell."""
    rng, parts = sites.rng, []
    if rng.random() < {1: 1.0, 2: 0.65, 3: 0.35, 4: 0.5}[grade]:
        return sites.nothing()
    v, u = sites.along_arcades(int(rng.integers(1, 6)), 4.5, 14.0, 1.5)
    for at_v, at_u, turn in zip(v, u, sites.fibres(v, u) + np.pi / 2, strict=True):
        n = int(rng.integers(5, 10))
        along, across = rng.normal(0, 0.55, n), rng.normal(0, 0.28, n)
        dv, du = along * np.sin(turn) + across * np.cos(turn), along * np.cos(turn) - across * np.sin(turn)
        parts.append(Dots(at_v + dv, at_u + du, rng.uniform(0.3, 0.65, n), np.full(n, rng.uniform(0.5, 0.85))))
    if not parts:
        return sites.nothing()
    return sites.canvas.stamp(Dots.join(parts), softness=max(2.0, 0.9 / sites.canvas.px), waver=0.3), len(parts)


def _new_vessels(sites: Sites, grade: int) -> Layer:
    """A frond of fine, winding vessels on the disc or on an arcade."""
    rng, n = sites.rng, 24
    if grade < 4 or rng.random() < 0.25:
        return sites.nothing()
    v, u = np.array([sites.eye.disc[0]]), np.array([sites.eye.disc[1] - 0.5])
    if rng.random() < 0.5 or not sites.canvas.inside(sites.frame, v, u)[0]:
        v, u = sites.along_arcades(1, 6.0, 13.0, 2.0)
    if not v.size:
        return sites.nothing()
    start = v[0] + rng.normal(0, 0.4, n), u[0] + rng.normal(0, 0.4, n)
    heading, bend = rng.uniform(0, 2 * np.pi) + rng.normal(0, 1.3, n), rng.normal(0, 2.6, n)
    length = rng.uniform(1.8, 4.8, n)
    frond = walk(rng, start, heading, bend, 0.5 * length, length, np.full(n, 0.13), np.ones(n, bool), 0.5, 40)
    dots = frond.dots(0.75 * sites.canvas.px)
    even = Dots(dots.v, dots.u, np.maximum(dots.radius, 0.1), np.full(len(dots), rng.uniform(0.5, 0.8)))
    return sites.canvas.stamp(even), 1


def _preretinal(sites: Sites, grade: int, alone: bool) -> Layer:
    """Blood that settles in front of the retina: a boat with a level top; certain if it `alone` makes grade 4."""
    rng, canvas = sites.rng, sites.canvas
    if grade < 4 or (rng.random() < 0.65 and not alone):
        return sites.nothing()
    v, u = sites.along_arcades(1, 6.0, 14.0, 1.5)
    if not v.size:
        v, u = sites.around_fovea(1, 4.0, 3.0, 1.0)
    wide, high = rng.uniform(2.2, 5.0), rng.uniform(1.4, 3.2)
    dv, du = canvas.v - np.float32(v[0]), canvas.u - np.float32(u[0])
    bowl = np.hypot(du / wide, np.maximum(dv, 0) / high + np.maximum(-dv, 0) / (0.16 * high)) - 1
    bowl += 0.1 * canvas.bend[0] + 0.06 * canvas.waver
    return rng.uniform(0.9, 1.5) * np.clip(0.5 - bowl / 0.12, 0, 1), 1
