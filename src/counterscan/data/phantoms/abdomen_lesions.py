"""Renal cysts and tumours: where they grow, how they look on contrast-enhanced CT, and what they push aside."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from counterscan.data.phantoms.abdomen_canvas import Box, Canvas, Point
from counterscan.data.phantoms.abdomen_patient import Kidney, Patient
from counterscan.data.phantoms.fields import Array, smooth_field, soft

KINDS = {"clear cell": 0.45, "papillary": 0.2, "chromophobe": 0.2, "angiomyolipoma": 0.15}
ENHANCEMENT = {  # Hounsfield units (low, high) of the solid part
    "corticomedullary": {"clear cell": (115, 175), "papillary": (50, 72), "chromophobe": (88, 118)},
    "nephrographic": {"clear cell": (95, 130), "papillary": (58, 80), "chromophobe": (82, 108)},
    "weakly enhanced": {"clear cell": (56, 76), "papillary": (38, 50), "chromophobe": (46, 58)},
}
SIDES = {-1: "right", 1: "left"}  # the patient's


@dataclass(frozen=True)
class Tumour:
    """A tumour: `hu` with it, within `box` only, the `mask` of the same shape, and what is to be said of it."""

    box: Box
    hu: Array
    mask: Array
    side: str
    kind: str
    size_mm: float
    growth: str

    @property
    def severity(self) -> str:
        """Small to 25 mm, large from 45 mm."""
        return ("small", "moderate", "large")[int(self.size_mm > 25) + int(self.size_mm > 45)]


def cysts(rng: np.random.Generator, canvas: Canvas, kidneys: tuple[Kidney, Kidney]) -> tuple[Array, str]:
    """Paint one to three cysts; answers how far each pixel `(size, size)` is covered, and the side(s)."""
    cover = np.zeros_like(canvas.hu)
    sides = set()
    for _ in range(int(rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1]))):
        kidney = kidneys[int(rng.integers(2))]
        radius = max(rng.uniform(6, 10) + rng.exponential(5), 3.1 * canvas.px if canvas.size >= 128 else 0.0)
        radius = min(radius, 0.75 * kidney.radii[1])
        centre = _site(rng, canvas, kidney, radius, float(rng.uniform(0.0, 0.55)), cover)
        box = canvas.box(centre, radius)
        distance = np.hypot(canvas.y[box] - centre[0], canvas.x[box] - centre[1]) - radius
        inside = canvas.paint(box, distance, rng.uniform(1, 16)) * (1 - canvas.hard[box])
        np.maximum(cover[box], inside, out=cover[box])
        sides.add(SIDES[kidney.side])
    return cover, " and ".join(sorted(sides))


def tumour(
    rng: np.random.Generator,
    canvas: Canvas,
    body: Patient,
    kidneys: tuple[Kidney, Kidney],
    cyst: Array,
    share: float = 1.0,
) -> Tumour:
    """Grow a tumour in the healthy `canvas` (which stays as it is), beside the cysts that cover `cyst`.

    With the same `rng`, a `share` below 1 is a section of the same tumour whose radius is that part of the largest.
    """
    kidney, other = rng.permutation(np.array(kidneys, object))
    if _taken(canvas, kidney, cyst) > max(0.1, _taken(canvas, other, cyst)):
        kidney = other  # cysts leave too little of the first
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    growth = str(rng.choice(["exophytic", "endophytic", "central"], p=[0.7, 0.18, 0.12]))
    least = max(10.0, 6.8 * 2 * canvas.half / max(canvas.size, 128))
    most = {"exophytic": 72.0, "endophytic": 38.0, "central": 46.0}[growth]
    size = least + (most - least) * rng.beta(1.7, 1.6)
    centre = _centre(rng, canvas, kidney, size / 2, growth, cyst)
    box = canvas.box(centre, size)
    dy, dx = canvas.y[box] - np.float32(centre[0]), canvas.x[box] - np.float32(centre[1])
    far, limit = np.hypot(dy, dx), share * _outline(rng, dy, dx, size / 2, kind)
    free = (1 - canvas.hard[box]) * (1 - cyst[box])
    cover = soft(far - limit, 1.3 * canvas.px) * free
    pushed = _push_aside(canvas, box, (dy, dx), far, limit, free)
    plane = soft(far - limit - 2.5, 1.3 * canvas.px) * canvas.crowd[box] * free  # fat it took along parts it from liver
    pushed = pushed + 0.85 * plane * (body.hu["fat"] - pushed)
    value = _inside(rng, canvas, body, kidney, kind, box, far / limit, size)
    mask = cover > 0.5
    return Tumour(
        box=box,
        hu=(pushed + cover * (value - pushed)).astype(np.float32),
        mask=mask,
        side=SIDES[kidney.side],
        kind=kind,
        size_mm=round(float(2 * np.sqrt(mask.sum() / np.pi) * canvas.px), 1),
        growth=growth,
    )


def _taken(canvas: Canvas, kidney: Kidney, cyst: Array) -> float:
    return float(cyst[canvas.box(kidney.centre, kidney.radii[0])].mean())


def _centre(rng, canvas: Canvas, kidney: Kidney, radius: float, growth: str, taken: Array) -> Point:
    if growth == "central":
        return kidney.place(kidney.radii[0] * rng.uniform(0.0, 0.3), kidney.radii[1] * rng.normal(0, 0.12))
    out = rng.uniform(0.1, 0.6) if growth == "exophytic" else -rng.uniform(0.7, 1.0)
    return _site(rng, canvas, kidney, radius, float(out), taken)


def _site(rng, canvas: Canvas, kidney: Kidney, radius: float, out: float, taken: Array) -> Point:
    """The best of seven places on the kidney's convex side, `out` of the radius beyond its contour."""
    best, least = kidney.centre, np.inf
    for angle in rng.uniform(0.9, 2 * np.pi - 0.9, 7):  # 0 is the hilum
        cosine, sine = np.cos(angle), np.sin(angle)
        reach = 1 / np.hypot(cosine / kidney.radii[0], sine / kidney.radii[1]) + out * radius
        centre = kidney.place(float(reach * cosine), float(reach * sine))
        blocked = _blocked(canvas, centre, radius, taken)
        if blocked < least:
            best, least = centre, blocked
    if least > 0.45:  # hemmed in everywhere: rather within the kidney than cut off by muscle
        best = (best[0] + kidney.centre[0]) / 2, (best[1] + kidney.centre[1]) / 2
    return best


def _blocked(canvas: Canvas, centre: Point, radius: float, taken: Array) -> float:
    """How much of a lesion at `centre` would meet bone, muscle or another lesion."""
    row, column = canvas.pixel(centre)
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    ring = radius / canvas.px * np.array([0.35, 0.7, 1.05])[:, None]
    rows = np.clip(row + ring * np.sin(angle), 0, canvas.size - 1).astype(int)
    columns = np.clip(column + ring * np.cos(angle), 0, canvas.size - 1).astype(int)
    cost = canvas.hard[rows, columns] + 1.5 * canvas.crowd[rows, columns] + 4 * taken[rows, columns]
    return float(cost.mean())


def _outline(rng, dy: Array, dx: Array, radius: float, kind: str) -> Array:
    """The lobulated border: its distance in mm from the centre, in the direction of each pixel."""
    angle = np.arctan2(dy, dx)
    rough = {"clear cell": 1.0, "papillary": 0.5, "chromophobe": 0.6, "angiomyolipoma": 1.2}[kind]
    limit = 1 + rng.normal(0, 0.07) * np.cos(2 * angle + rng.uniform(0, 6))
    for waves in (3, 4, 5, 6, 7):
        limit += rough * rng.uniform(-0.21, 0.21) / waves * np.cos(waves * angle + rng.uniform(0, 6))
    return (radius * np.clip(limit, 0.7, 1.35)).astype(np.float32)


def _push_aside(canvas: Canvas, box: Box, offset: tuple[Array, Array], far: Array, limit: Array, free: Array) -> Array:
    """The surroundings, pushed outward by up to 2 mm next to the tumour and not at all 0.4 radii away."""
    push = np.minimum(0.12 * limit, 2.0) * np.clip(1 - (far - limit) / (0.4 * limit), 0, 1) * free / canvas.px
    push[far < 0.5 * limit] = 0
    unit = push / np.maximum(far, 1e-3)
    rows, columns = np.indices(far.shape, dtype=np.float32)
    moved = ndimage.map_coordinates(
        canvas.hu[box], (rows - unit * offset[0], columns - unit * offset[1]), order=1, mode="nearest"
    )
    return np.where(push > 0.02, moved, canvas.hu[box])


def _inside(
    rng, canvas: Canvas, body: Patient, kidney: Kidney, kind: str, box: Box, depth: Array, size: float
) -> Array:
    """Hounsfield units within the tumour; `depth` is 0 at its centre and 1 at its border."""
    clumps = smooth_field(rng, canvas.size, 2 * canvas.half / (0.28 * size + 4))[box]
    grain = canvas.mottle[box]
    if kind == "angiomyolipoma":
        level = np.quantile(clumps[depth < 1], rng.uniform(0.35, 0.65))  # so much of it is soft tissue, the rest fat
        fat = np.clip(0.5 + 2 * (clumps - level), 0, 1)
        return rng.uniform(0.6, 0.9) * kidney.cortex * (1 - fat) + fat * rng.uniform(-95, -60) + 8 * grain
    solid = rng.uniform(*ENHANCEMENT[body.phase][kind])
    if kind == "papillary":
        return solid + 3 * grain
    if kind == "chromophobe":
        scar = np.clip((0.42 - depth + 0.12 * clumps) / 0.12, 0, 1) * (size > 28 and rng.random() < 0.6)
        return solid + 7 * clumps - scar * 0.55 * solid + 4 * grain
    core = rng.uniform(0.35, 0.75)
    dead = np.clip((core - depth + 0.3 * clumps) / 0.25, 0, 1)
    patchy = solid * (1 + 0.16 * clumps) + 9 * grain
    return patchy + dead * (rng.uniform(14, 34) - patchy)
