"""The healthy retina in a B-scan: layers of a patient's own thickness and reflectivity upon Bruch's membrane."""

from dataclasses import dataclass, replace

import numpy as np

from counterscan.data.phantoms.fields import Array, smooth_field

# From the vitreous down to the choroid. Three of them have no thickness unless a lesion gives them one.
LAYERS = (
    *("ilm", "nfl", "gcl", "ipl", "inl", "opl", "onl", "elm", "myoid", "ez", "outer segments", "interdigitation"),
    *("fluid", "membrane", "rpe", "deposit", "bruch"),
)
AT = {name: index for index, name in enumerate(LAYERS)}
# Grey of each layer, of 1, and its spread between patients.
GREY = {
    "ilm": (0.68, 0.05),
    "nfl": (0.58, 0.06),
    "gcl": (0.32, 0.03),
    "ipl": (0.40, 0.03),
    "inl": (0.25, 0.03),
    "opl": (0.38, 0.04),
    "onl": (0.185, 0.025),
    "elm": (0.38, 0.04),
    "myoid": (0.25, 0.03),
    "ez": (0.80, 0.07),
    "outer segments": (0.33, 0.04),
    "interdigitation": (0.66, 0.07),
    "fluid": (0.10, 0.0),
    "membrane": (0.70, 0.0),
    "rpe": (0.88, 0.06),
    "deposit": (0.45, 0.0),
    "bruch": (0.66, 0.05),
}
POSITIONS = {"foveal": (0.0, 120.0), "parafoveal": (300.0, 750.0), "perifoveal": (1100.0, 2300.0)}  # µm off the fovea


@dataclass(frozen=True)
class Tissue:
    """The layers that a lesion may deform, `(len(LAYERS), size)` each: thickness in µm, and grey of 1."""

    thick: Array
    grey: Array

    def copy(self) -> "Tissue":
        """The same layers, free to be changed."""
        return Tissue(self.thick.copy(), self.grey.copy())

    def tops(self, bruch: Array) -> Array:
        """Depth in µm of the top of each layer and, last, of the choroid: `(len(LAYERS) + 1, size)`."""
        edges = np.empty((len(LAYERS) + 1, bruch.size), np.float32)
        edges[-1] = bruch
        edges[:-1] = bruch - np.cumsum(self.thick[::-1], axis=0)[::-1]
        return edges


@dataclass(frozen=True)
class Vessel:
    """A retinal vessel cut across: position and radius in µm, and the share of light that it takes."""

    x: float
    radius: float
    dark: float


@dataclass(frozen=True)
class Eye:
    """One patient's retina along one scan; lengths in µm, arrays over the columns `(size,)` unless said otherwise."""

    size: int
    px: tuple[float, float]  # height and width of a pixel
    x: Array  # position along the scan, 0 at its middle
    fovea: float  # where the scan passes closest to the fovea
    away: Array  # distance from the fovea
    laterality: str
    position: str
    bruch: Array  # depth of the choroid's top
    tissue: Tissue
    choroid: Array  # grey below the retina `(size, size)`
    vitreous: float
    vessels: tuple[Vessel, ...]
    hyaloid: Array | None  # depth of the detached posterior hyaloid

    def column(self, x: float) -> int:
        """The column at `x` µm, within the image."""
        return int(min(max(round(x / self.px[1] + self.size / 2 - 0.5), 0), self.size - 1))


def wave(rng: np.random.Generator, x: Array, length: float, octaves: int = 4) -> Array:
    """A smooth random curve over `x` (µm), of deviation about 1, that bends over about `length` µm."""
    numbers = rng.random((3, octaves))
    rate = 2 * np.pi / (length * (0.6 + 1.4 * numbers[0]))
    turns = np.sin(np.outer(rate, x) + 2 * np.pi * numbers[1][:, None]) * (0.6 + 0.8 * numbers[2][:, None])
    return (turns.sum(0) * (1.4 / np.sqrt(octaves))).astype(np.float32)


def draw(rng: np.random.Generator, size: int) -> Eye:
    """Draw one patient's eye along one scan of `size` columns."""
    width = float(rng.uniform(4600, 7400))
    x = ((np.arange(size, dtype=np.float32) + 0.5) / size - 0.5) * np.float32(width)
    laterality = str(rng.choice(["right", "left"]))
    position = str(rng.choice(list(POSITIONS), p=[0.6, 0.22, 0.18]))
    fovea, off = float(np.clip(rng.normal(0, 0.08), -0.2, 0.2) * width), float(rng.uniform(*POSITIONS[position]))
    away = np.hypot(x - np.float32(fovea), np.float32(off))
    nasal = (x - fovea) * (1 if laterality == "right" else -1)  # the disc of a right eye is to the viewer's right
    tissue = Tissue(_thickness(rng, x, away, nasal), _grey(rng, x, away))
    bruch = _slope(rng, x, width)
    bruch, depth = _place(rng, bruch, tissue)
    eye = Eye(
        size=size,
        px=(depth / size, width / size),
        x=x,
        fovea=fovea,
        away=away,
        laterality=laterality,
        position=position,
        bruch=bruch,
        tissue=tissue,
        choroid=np.empty(0),
        vitreous=float(rng.uniform(0.015, 0.055)),
        vessels=_vessels(rng, width, fovea, position),
        hyaloid=None,
    )
    return replace(eye, hyaloid=_hyaloid(rng, eye), choroid=_choroid(rng, eye))


# Layers -----------------------------------------------------------------------------------------------------------


def _thickness(rng: np.random.Generator, x: Array, away: Array, nasal: Array) -> Array:
    """Thickness in µm `(len(LAYERS), size)`: the inner layers make way at the fovea, the outer ones grow there."""
    far = away / np.float32(1000 * rng.uniform(0.85, 1.2))
    pit = np.exp(-((far / 0.42) ** 2))
    rim = np.exp(-(((far - 1.05) / 0.75) ** 2))
    fibres = 1 / (1 + np.exp((600 - nasal) / 700)) * np.clip(far, 0, 2.2)
    thick = np.zeros((len(LAYERS), x.size), np.float32)
    filling = rng.uniform(0.85, 1.0)  # some pits are deeper than others
    for name, value in {
        "ilm": 5,
        "nfl": 11 - 8 * pit + rng.uniform(12, 24) * fibres,
        "gcl": (1 - filling * np.exp(-((far / 0.62) ** 2))) * (21 + 32 * rim),
        "ipl": (1 - filling * np.exp(-((far / 0.52) ** 2))) * (25 + 16 * rim),
        "inl": (1 - filling * np.exp(-((far / 0.45) ** 2))) * (33 + 7 * rim),
        "opl": 13 + 15 * (1 - pit),
        "onl": 50 + 44 * np.exp(-((far / 0.55) ** 2)) + 14 * np.exp(-((far / 1.6) ** 2)),
        "elm": 6,
        "myoid": 21 + 7 * pit,
        "ez": 14,
        "outer segments": 21 + 12 * pit,
        "interdigitation": 9,
        "rpe": 19,
        "bruch": 5,
    }.items():
        thick[AT[name]] = value * np.float32(np.clip(rng.normal(1, 0.08), 0.8, 1.25))
    inner = slice(AT["nfl"], AT["onl"] + 1)
    thick[inner] *= 1 + 0.035 * np.stack([wave(rng, x, 1500, 3) for _ in range(AT["onl"] + 1 - AT["nfl"])])
    return thick * np.float32(np.clip(rng.normal(1, 0.05), 0.88, 1.12))


def _grey(rng: np.random.Generator, x: Array, away: Array) -> Array:
    """Grey `(len(LAYERS), size)`; Henle's fibres reflect on the side from which the beam meets them squarely."""
    grey = np.empty((len(LAYERS), x.size), np.float32)
    for name, (mean, spread) in GREY.items():
        grey[AT[name]] = mean + np.clip(rng.normal(0, 1), -1.8, 1.8) * spread
    lean = rng.normal(0, 0.05) if rng.random() < 0.4 else 0.0
    grey[AT["onl"]] += np.float32(lean) * np.tanh(x / 700) * np.exp(-(((away - 1200) / 900) ** 2))
    pit = np.exp(-((away / 330) ** 2))
    for name in ("opl", "inl", "ipl", "gcl"):  # they end at the pit's slope
        grey[AT[name]] += 0.75 * pit * (grey[AT["onl"]] + 0.02 - grey[AT[name]])
    for name in ("ez", "interdigitation", "rpe", "nfl"):
        grey[AT[name]] *= 1 + 0.06 * wave(rng, x, 700, 3)
    return np.clip(grey, 0.04, 1.05)


def _slope(rng: np.random.Generator, x: Array, width: float) -> Array:
    """Tilt, curvature and slight unevenness of Bruch's membrane in µm, about 0."""
    part = x / np.float32(width / 2)
    tilt = np.clip(rng.normal(0, 70), -150, 150)
    sag = np.clip(rng.normal(60, 55), -30, 210)
    return (tilt * part - sag * part**2 + 4 * wave(rng, x, 2500, 3)).astype(np.float32)


def _place(rng: np.random.Generator, bruch: Array, tissue: Tissue) -> tuple[Array, float]:
    """Bruch's depth and the image's in µm: room above for a swollen retina, below for the choroid."""
    top = float((bruch - tissue.thick.sum(0)).min())
    span = float(bruch.max()) - top
    depth = max(float(rng.uniform(1050, 1600)), span + 500)
    above = 200 + (depth - span - 430) * float(rng.beta(1.6, 1.8))
    return (bruch - np.float32(top - above)).astype(np.float32), depth


# What lies around -------------------------------------------------------------------------------------------------


def _vessels(rng: np.random.Generator, width: float, fovea: float, position: str) -> tuple[Vessel, ...]:
    """Retinal vessels; the fovea itself has none."""
    free = 450 if position == "foveal" else 150
    places = rng.uniform(-width / 2, width / 2, int(rng.integers(2, 9)))
    return tuple(
        Vessel(float(x), float(rng.gamma(3, 11) + 28), float(rng.uniform(0.15, 0.5)))
        for x in places
        if abs(x - fovea) > free
    )


def _hyaloid(rng: np.random.Generator, eye: Eye) -> Array | None:
    """The posterior hyaloid, detached in one of four, often still attached at the fovea or at one end."""
    if rng.random() > 0.28:
        return None
    surface = eye.tissue.tops(eye.bruch)[0]
    part = (eye.x - np.float32(eye.fovea)) / np.float32(eye.x[-1])
    gap = 15 + rng.uniform(40, 160) * np.clip(np.abs(part + rng.normal(0, 0.4)), 0, 1) ** rng.uniform(0.6, 1.5)
    level = surface.mean() * 0.6 + 0.4 * surface  # stretched, it does not follow the pit
    return np.minimum(level - gap + 8 * wave(rng, eye.x, 2500, 3), surface - 14).astype(np.float32)


def _choroid(rng: np.random.Generator, eye: Eye) -> Array:
    """Grey `(size, size)` below Bruch's membrane: choriocapillaris, vessels in stroma, then the sclera."""
    depth = (np.arange(eye.size, dtype=np.float32) + 0.5)[:, None] * np.float32(eye.px[0]) - eye.bruch
    np.maximum(depth, 0, out=depth)
    floor = rng.uniform(180, 330) * (1 + 0.12 * wave(rng, eye.x, 3000, 3))
    reach, stroma = np.float32(rng.uniform(75, 160)), np.float32(rng.uniform(0.42, 0.6))
    cells = rng.uniform(18, 28)
    lumen = smooth_field(rng, eye.size, cells) + 0.35 * smooth_field(rng, eye.size, 2.2 * cells)
    lumen = np.clip(1.5 * lumen + 0.1, -0.5, 1) * np.clip((depth - 22) / 30, 0, 1)
    lumen *= np.clip((floor - depth) / 40, 0, 1)
    fall = np.exp(-depth / reach)
    sclera = 0.06 * np.clip((depth - floor) / 40, 0, 1) * np.exp(-np.maximum(depth - floor, 0) / 160)
    return (stroma * fall * (1 - rng.uniform(0.3, 0.5) * lumen) + sclera + eye.vitreous * 0.7).astype(np.float32)
