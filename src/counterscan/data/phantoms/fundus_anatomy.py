"""The healthy eye: pigment, choroid, macula, disc and nerve fibres, as colours that a camera would see."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from counterscan.data.phantoms import fundus_vessels as vessels
from counterscan.data.phantoms.fields import Array, smooth_field
from counterscan.data.phantoms.fundus_canvas import Canvas

BLOOD = np.array([0.30, 1.0, 0.9], np.float32)[:, None, None]  # optical depth in red, green and blue light
MELANIN = np.array([0.75, 0.95, 1.0], np.float32)[:, None, None]
CHOROID = np.array([1.0, 0.65, 0.5], np.float32)[:, None, None]
XANTHOPHYLL = np.array([0.65, 0.9, 1.0], np.float32)[:, None, None]


@dataclass(frozen=True)
class Eye:
    """What makes one patient's eye: lengths in degrees of visual angle, shares between 0 and 1."""

    side: str
    disc: tuple[float, float]  # (v, u) from the fovea
    disc_radii: tuple[float, float]
    cup: float
    youth: float
    pigment: float
    tessellation: float
    macula: float
    tortuosity: float
    calibre: float

    @property
    def nose(self) -> int:
        """1 where the nose is on the viewer's right: in a right eye."""
        return 1 if self.side == "right" else -1

    @property
    def pigmentation(self) -> str:
        """Light, medium or dark."""
        return ("light", "medium", "dark")[int(self.pigment > 0.35) + int(self.pigment > 0.7)]


@dataclass(frozen=True)
class Fundus:
    """Layers of an eye: `floor` `(3, size, size)` below the vessels, their `blood` and the `sheen` above them.

    `white` is how a white lesion would look there, `nerve` is 1 within the disc; all but `floor` and `white` are
    `(size, size)`.
    """

    floor: Array
    white: Array
    blood: Array
    sheen: Array
    nerve: Array


def eye(rng: np.random.Generator) -> Eye:
    """Draw a patient's eye."""
    height = float(rng.normal(3.3, 0.22))
    youth = float(rng.beta(1.2, 1.6))
    return Eye(
        side=str(rng.choice(["right", "left"])),
        disc=(float(rng.normal(-1.5, 0.6)), float(rng.normal(15.6, 0.6))),
        disc_radii=(height, height * float(rng.uniform(0.84, 0.97))),
        cup=float(np.clip(rng.normal(0.42, 0.13), 0.15, 0.75)),
        youth=youth,
        pigment=float(rng.beta(1.5, 1.5)),
        tessellation=float(np.clip(rng.normal(0.12, 0.3) - 0.2 * youth, 0, 0.75)),
        macula=float(rng.uniform(0.25, 0.7)),
        tortuosity=float(np.clip(rng.gamma(4, 0.035), 0.05, 0.32)),
        calibre=float(rng.uniform(0.88, 1.15)),
    )


def paint(rng: np.random.Generator, canvas: Canvas, eye: Eye, light: Array, tint: Array) -> Fundus:
    """Paint the healthy fundus; `light` `(size, size)` falls on it and `tint` (3,) is the camera's mean colour."""
    vessel_rng, pigment_rng, disc_rng = rng.spawn(3)
    tint = tint[:, None, None]
    white = light * _white(tint)
    shade = _pigment(pigment_rng, canvas, eye)
    macula = _macula(canvas, eye)
    choroid = _tessellation(pigment_rng, canvas, eye)
    floor = tint * light * np.exp(-MELANIN * shade - XANTHOPHYLL * macula - CHOROID * choroid)
    floor, nerve = _disc(disc_rng, canvas, eye, floor, white)
    blood = vessels.paint(canvas, vessels.tree(vessel_rng, eye.disc, eye.tortuosity, eye.calibre))
    blood *= 1 - 0.25 * nerve
    return Fundus(floor, white, blood, _sheen(disc_rng, canvas, eye), nerve)


def _white(tint: Array) -> Array:
    """The camera's colour (3, 1, 1) of something white: paler than the fundus, most of all in blue."""
    red, green, blue = tint[:, 0, 0]
    return np.array([1.85 * red, 0.5 * red + 1.75 * green, 0.35 * red + 2.1 * blue], np.float32)[:, None, None]


def _pigment(rng: np.random.Generator, canvas: Canvas, eye: Eye) -> Array:
    """Optical depth `(size, size)` of melanin: uneven and grainy."""
    patchy = 0.05 * smooth_field(rng, canvas.size, 3) + 0.03 * smooth_field(rng, canvas.size, 9)
    grain = (0.018 + 0.012 * eye.pigment) * smooth_field(rng, canvas.size, 60)
    return patchy + grain + 0.25 * (eye.pigment - 0.5)


def _tessellation(rng: np.random.Generator, canvas: Canvas, eye: Eye) -> Array | float:
    """Optical depth `(size, size)` that choroidal vessels lack, seen where the pigment above them is sparse."""
    if eye.tessellation < 0.08:
        return 0.0
    far = np.clip(np.hypot(canvas.v, canvas.u - 2) / 9 - 0.3, 0.05, 1)
    patchy = np.clip(0.8 + 0.35 * smooth_field(rng, canvas.size, 3), 0, 1.3)
    return eye.tessellation * (0.25 + 0.65 * eye.pigment) * far * patchy * (0.4 - _choroid(rng, canvas))


def _choroid(rng: np.random.Generator, canvas: Canvas) -> Array:
    """Choroidal vessels `(size, size)`, 1 along their middle: winding lines that run outwards behind the macula."""
    rays = int(rng.integers(26, 44))
    dv, du = canvas.v, canvas.u - np.float32(rng.uniform(4, 12))
    turn = np.arctan2(dv + 1.2 * canvas.bend[0], du + 1.2 * canvas.bend[1]) + np.float32(np.pi)
    from_pole = np.hypot(dv, du)
    far = np.log(from_pole + np.float32(3.0))
    lines = np.zeros_like(dv)
    for many, bright in ((rays, 1.0), (2 * rays, 0.7)):
        knots = rng.standard_normal((many, 15)).astype(np.float32)
        fine = ndimage.zoom(knots, (5, 5), order=2, mode="grid-wrap", grid_mode=True)
        at = turn * (5 * many / (2 * np.pi)), far * (5 * 4.6)
        field = ndimage.map_coordinates(fine, at, order=1, mode="grid-wrap", output=np.float32)
        np.maximum(lines, bright * np.clip(1.1 - np.abs(field) / 0.3, 0, 1), out=lines)
    return lines * np.clip((from_pole - 2.5) / 5, 0, 1)  # near the pole the lines would crowd


def _macula(canvas: Canvas, eye: Eye) -> Array:
    """Optical depth `(size, size)` of the macular pigment, with a darker fovea."""
    square = canvas.v**2 + canvas.u**2
    wide = np.exp(square * np.float32(-1 / (2 * 3.4**2)))
    return eye.macula * (0.75 * wide + 0.6 * np.exp(square * np.float32(-1 / (2 * 1.05**2))))


def _disc(rng: np.random.Generator, canvas: Canvas, eye: Eye, floor: Array, white: Array) -> tuple[Array, Array]:
    """Paint the disc with its cup; answers the floor with it, and where the disc is."""
    dv, du = canvas.v - np.float32(eye.disc[0]), canvas.u - np.float32(eye.disc[1])
    far = np.hypot(dv / np.float32(eye.disc_radii[0]), du / np.float32(eye.disc_radii[1]))
    ragged = far + 0.015 * canvas.waver
    temporal = np.clip(-du / np.maximum(np.hypot(dv, du), 1e-3), 0, 1)
    halo = rng.uniform(0.05, 0.22) * np.exp(-np.clip(far - 1, 0, None) * 3.0)
    crescent = rng.uniform(0, 0.5) * (rng.random() < 0.4) * temporal * np.clip((1.3 - ragged) / 0.1, 0, 1)
    nerve = np.clip((1.0 - ragged) / rng.uniform(0.12, 0.3) + 0.5, 0, 1)
    shift = rng.uniform(0, 0.15)
    inner = np.hypot(dv / eye.disc_radii[0], du / eye.disc_radii[1] + shift) / eye.cup
    cup = np.clip((1 - inner) / rng.uniform(0.3, 0.9) + 0.5, 0, 1) * rng.uniform(0.55, 1)
    rim = rng.uniform(0.4, 0.62) + 0.12 * temporal
    pale = np.maximum(np.maximum(halo, crescent), nerve * (rim + (1.0 - rim) * cup)).astype(np.float32)
    return floor + pale * (white - floor), nerve.astype(np.float32)


def _sheen(rng: np.random.Generator, canvas: Canvas, eye: Eye) -> Array:
    """Reflections of a young retina `(size, size)`: nerve-fibre streaks by the disc and the foveal reflex."""
    knots, reflex = rng.standard_normal(180).astype(np.float32), rng.uniform(0, 1)
    young = min(max(1.6 * eye.youth - 0.35, 0.0), 1.0), min(max(1.8 * eye.youth - 0.9, 0.0), 1.0)
    sheen = np.zeros_like(canvas.v)
    if young[0] > 0.05:
        sheen += 0.14 * young[0] * _fibres(canvas, eye, np.append(knots, knots[0]))
    if young[1] > 0.05:
        centre = np.hypot(canvas.v - 0.1, canvas.u)
        spot = 0.22 * np.exp(-((centre / 0.32) ** 2)) + 0.05 * np.exp(-(((centre - 2.3) / 0.5) ** 2))
        sheen += young[1] * reflex * spot
    return sheen


def _fibres(canvas: Canvas, eye: Eye, knots: Array) -> Array:
    """Streaks `(size, size)` along the nerve fibres, strongest above and below the disc."""
    dv, du = canvas.v - eye.disc[0], canvas.u - eye.disc[1]
    turn = np.arctan2(dv, np.where(du < 0, 2 * du, du))  # parabolas around the macula, rays on the nasal side
    at = (turn + np.float32(np.pi)) * np.float32((knots.size - 1) / (2 * np.pi))
    below = np.minimum(at.astype(np.int32), knots.size - 2)
    streaks = knots[below] + (knots[below + 1] - knots[below]) * (at - below)
    far = np.hypot(dv, du)
    bundles = np.clip(np.abs(dv) / np.maximum(far, 1e-3) * 1.5 - 0.35, 0, 1) * np.where(du < 0, 1, np.float32(0.4))
    near = np.clip((far - 2.4) / 1.5, 0, 1) * np.exp(-np.clip(far - 4, 0, None) / 4)
    return bundles * near * (1 + 0.45 * streaks)
