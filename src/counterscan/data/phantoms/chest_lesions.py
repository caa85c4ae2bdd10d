"""Disease of the chest as a change of what lies along each ray: of the lung's air, of its vessels, of the heart."""

from dataclasses import dataclass, field

import numpy as np

from counterscan.data.phantoms import chest_anatomy, fields
from counterscan.data.phantoms.chest_anatomy import AERATION, Anatomy, dome, ramp, slab

Array = np.ndarray


@dataclass(frozen=True)
class Change:
    """What a lesion does. `air` and `vessels` multiply, `extra` adds, `heart` replaces; `within` bounds the mask."""

    air: Array | float = 1.0
    vessels: Array | float = 1.0
    extra: Array | float = 0.0
    heart: Array | None = None
    within: Array | bool = True
    facts: dict = field(default_factory=dict)


def attenuation(anatomy: Anatomy, changes: list[Change]) -> Array:
    """Water equivalents `(size, size)` along each ray of the chest with `changes`."""
    heart, air = anatomy.heart, anatomy.veil
    vessels: Array | float = 1.0
    extra: Array | float = 0.0
    for change in changes:
        heart = heart if change.heart is None else np.maximum(heart, change.heart)
        air, vessels, extra = air * change.air, vessels * change.vessels, extra + change.extra
    lung = np.clip(anatomy.lung - heart, 0.0, None)
    inside = np.clip(lung / 0.25, 0.0, 1.0)
    return anatomy.base + extra - AERATION * lung * air + inside * vessels * anatomy.vessels


def severity_word(severity: float) -> str:
    return ("small", "moderate", "large")[min(int(severity * 3), 2)]


def _place(rng: np.random.Generator, anatomy: Anatomy, side: int, low: float = 0.15, high: float = 0.85):
    """A point `(u, v)` in the lung on `side` (1 is the patient's left), `low` to `high` of the way down."""
    build = anatomy.build
    v = build.apex + rng.uniform(low, high) * (build.domes[side > 0] - build.apex)
    wall = float(chest_anatomy.cage(build, np.asarray(v, np.float32)))
    inner = 0.2 if side < 0 or v < 0 else 0.38
    return side * (inner + rng.uniform(0.15, 0.75) * (wall - inner)), v


def draw_sides(rng: np.random.Generator, present: list[str]) -> dict[str, int]:
    """A side for each finding, 0 for both: lesions of the lung keep away from fluid or air that would hide them."""
    sides = {name: int(rng.choice([-1, 1])) for name in DRAW}
    pleural = [name for name in ("effusion", "pneumothorax") if name in present]
    solid = [name for name in ("consolidation", "nodule") if name in present]
    if pleural and solid:
        lung = sides[solid[0]]
        sides |= dict.fromkeys(solid, lung) | dict.fromkeys(pleural, -lung)
    both = rng.random() < 0.15
    return sides | {"effusion": 0} if both and not solid and "pneumothorax" not in present else sides


def _name(side: int) -> str:
    return {-1: "right", 1: "left", 0: "both"}[side]


def consolidation(rng: np.random.Generator, anatomy: Anatomy, side: int) -> Change:
    """Airspaces filled in part of a lobe: patchy, ill-defined, with open bronchi running through."""
    severity = rng.random()
    u, v = _place(rng, anatomy, side)
    reach = 0.16 + 0.19 * severity
    radii = (reach * rng.uniform(0.8, 1.15), reach * rng.uniform(0.9, 1.35))
    distance = fields.ellipse(anatomy.v, anatomy.u, (v, u), radii, rng.uniform(-0.6, 0.6) * side).astype(np.float32)
    coarse, fine = fields.smooth_field(rng, anatomy.size, 7), fields.smooth_field(rng, anatomy.size, 18)
    ragged = distance + 0.045 * coarse + 0.03 * fine
    extent = ramp(0.5 - ragged / (0.20 + 0.12 * rng.random()))
    if rng.random() < 0.35:  # a fissure stops the spread with a crisp, nearly level edge
        below, slope = rng.choice([-1.0, 1.0]), rng.normal(0, 0.15)
        extent = extent * ramp(0.5 + (below * (anatomy.v - v - slope * (anatomy.u - u)) + 0.55 * radii[0]) / 0.03)
    extent = extent * (anatomy.u * side > 0)
    patchy = 0.16 * fields.smooth_field(rng, anatomy.size, 13) + 0.10 * fields.smooth_field(rng, anatomy.size, 36)
    filled = np.clip((0.5 + 0.35 * severity) * extent * np.clip(1 + patchy, 0.3, 1.2), 0.0, 0.95)
    filled = filled * (1 - rng.uniform(0.08, 0.30) * _bronchi(rng, anatomy))
    filled = filled.astype(np.float32)
    return Change(air=1 - filled, vessels=1 - np.clip(1.3 * filled, 0, 1), facts=_facts(side, severity))


def _bronchi(rng: np.random.Generator, anatomy: Anatomy) -> Array:
    """Share `(size, size)` of each ray's airspaces that open bronchi take."""
    levels = chest_anatomy.tree(rng, anatomy.build, 3, max(12, anatomy.size // 10))
    calibre = np.array([1, 1, 0.45, 1], np.float32)[:, None]
    depth = sum(chest_anatomy.splat(anatomy.build, anatomy.size, calibre * level) for level in levels)
    return np.clip(depth / 0.018, 0.0, 1.0)


def effusion(rng: np.random.Generator, anatomy: Anatomy, side: int) -> Change:
    """Free fluid at the base: level in the middle, climbing up the side wall."""
    severity = rng.random()
    kept: Array | float = 1.0
    build = anatomy.build
    for here in [side] if side else [-1, 1]:
        floor = build.domes[here > 0] + build.dome_drop
        level = floor - 0.11 - 0.62 * severity**1.2 * rng.uniform(0.92, 1.08)
        climb = (0.10 + 0.14 * rng.random()) * np.clip(anatomy.across - 0.25, 0, 1) ** 2 / 0.75**2
        top = level + 0.05 - climb + 0.008 * fields.smooth_field(rng, anatomy.size, 4)
        depth = ramp((anatomy.v - top) / 0.10 + 0.3) * (anatomy.u * here > 0)
        kept = kept * (1 - 0.97 * depth)
    return Change(air=kept, vessels=kept, facts=_facts(side, severity))


def nodule(rng: np.random.Generator, anatomy: Anatomy, side: int) -> Change:
    """A roundish mass of 10 to 34 mm, slightly lobulated, at times with spicules."""
    severity = rng.random()
    u, v = _place(rng, anatomy, side, 0.12, 0.8)
    radius = 0.036 + 0.055 * severity
    dv, du = anatomy.v - v, anatomy.u - u
    angle, distance = np.arctan2(dv, du), np.hypot(dv, du)
    lobes = sum(rng.normal(0, 0.07) * np.cos(k * angle + rng.uniform(0, 6.28)) for k in (2, 3))
    t = distance / (radius * (1 + lobes))
    ball = 1.9 * radius * dome(t * t)
    if rng.random() < 0.3:
        rays = np.clip(np.cos(int(rng.integers(7, 12)) * angle + rng.uniform(0, 6.28)), 0, 1) ** 4
        ball = ball + 0.22 * radius * rays * np.clip(1.9 - t, 0, 1) * (t > 0.7)
    density = rng.uniform(1.7, 2.3)  # denser than life, or nobody would see it at 64 px
    return Change(extra=density * AERATION * (0.018 * slab(t * t) + ball), facts=_facts(side, severity))


def pneumothorax(rng: np.random.Generator, anatomy: Anatomy, side: int) -> Change:
    """Air between lung and wall: a strip without vessels, a fine pleural line, and a lung that has shrunk a little."""
    severity = rng.random()
    build = anatomy.build
    gap = 0.055 + 0.25 * severity
    down = np.clip((anatomy.v - build.apex) / (build.domes[side > 0] - build.apex), 0, 1.3)
    apical = rng.uniform(0.10, 0.22) + 0.2 * severity
    wall = chest_anatomy.cage(build, anatomy.v) - np.abs(anatomy.u)
    wave = 0.012 * fields.smooth_field(rng, anatomy.size, 4)
    retreat = gap * (1 - rng.uniform(0.3, 1.6) * (1 - severity) * ramp(down)) + wave
    lateral = retreat - wall
    above = build.apex + apical - anatomy.v + 0.9 * (np.abs(anatomy.u) - 0.3) ** 2 + wave
    outside = chest_anatomy.union(-lateral, -above, 0.12)  # negative in the free air
    here = anatomy.u * side > 0
    free = ramp(0.5 - outside / 0.012) * here
    line = np.exp(-((outside / 0.009) ** 2)) * here * np.clip(anatomy.lung / 0.2, 0, 1)
    shrunk = (1 - free) * here * np.exp(-np.clip(outside, 0, None) / 0.15)
    air = 1 + free * (1.0 / AERATION - 1) - 0.10 * (0.5 + severity) * shrunk
    return Change(air, 1 - free, 0.075 * line, within=(outside < 0.012) & here, facts=_facts(side, severity))


def cardiomegaly(rng: np.random.Generator, anatomy: Anatomy, _side: int) -> Change:
    """A heart wider than 0.55 of the chest."""
    severity, leftward = rng.random(), rng.uniform(0.6, 0.9)
    build = anatomy.build
    ratio = 0.57 + 0.13 * severity
    outline = chest_anatomy.heart_outline(build, ratio, leftward, anatomy.u, anatomy.v)
    facts = _facts(1 if leftward > 0.7 else 0, severity) | {"ratio": round(ratio, 3)}
    grown = (outline < 0.0) & (anatomy.silhouette > -0.02)
    return Change(heart=chest_anatomy.heart_depth(build, outline), within=grown, facts=facts)


def _facts(side: int, severity: float) -> dict:
    return {"side": _name(side), "severity": severity_word(severity)}


DRAW = {
    "consolidation": consolidation,
    "effusion": effusion,
    "nodule": nodule,
    "pneumothorax": pneumothorax,
    "cardiomegaly": cardiomegaly,
}
