"""Chest X-rays: a frontal film of a procedural patient, with and without five kinds of disease."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from counterscan.data.phantoms import chest_anatomy, chest_lesions, fields
from counterscan.data.phantoms.base import Phantom
from counterscan.prompts import mentions_of, report

Array = np.ndarray
CLASSES = ("consolidation", "effusion", "nodule", "pneumothorax", "cardiomegaly")
CONFOUNDERS = ()
MODALITY = "chest X-ray"
COLOUR = False
MIRROR = False  # the heart is on the left
WINDOW = (0.0, 1.0, "intensity")

LETTERS = {"L": ("1000", "1000", "1000", "1000", "1000", "1111"), "R": ("1110", "1001", "1001", "1110", "1010", "1001")}


@dataclass(frozen=True)
class Film:
    """One exposure: everything between the rays that leave the patient and the grey values on the screen."""

    grain: Array  # noise in attenuation, for a ray of medium depth
    middle: float
    latitude: float
    low: float
    high: float
    sharpness: float  # deviation of the blur, in pixels
    frame: Array  # 1 within the collimated field
    lead: Array  # the side marker, 0 or 1
    lines: Array  # shadow of the anti-scatter grid
    facts: dict

    def grey(self, depth: Array) -> Array:
        """The screen's grey values for attenuation `depth`, without marker and frame."""
        curve = 1 / (1 + np.exp((self.middle - depth) / self.latitude))
        floor = 1 / (1 + np.exp(self.middle / self.latitude))
        return self.low + (self.high - self.low) * (curve - floor) / (1 - floor)

    def expose(self, depth: Array) -> Array:
        """The image `(size, size)` in [0, 1]: fewer photons come through a deeper ray, so it is noisier."""
        depth = fields.blur(depth, self.sharpness)
        noisy = depth + self.grain * np.exp(0.8 * (depth - 0.7)) + self.lines
        grey = np.maximum(self.grey(noisy), 0.97 * self.lead) * self.frame
        return np.clip(grey, 0.0, 1.0).astype(np.float32)


def draw(rng: np.random.Generator, size: int, findings: tuple[str, ...]) -> Phantom:
    """Draw one film with `findings`; anatomy and exposure do not depend on which these are."""
    bodies, exposures, where, *lesions = rng.spawn(3 + len(CLASSES))
    anatomy = chest_anatomy.draw(bodies, size)
    film = _film(exposures, size)
    order = [name for name in CLASSES if name in findings]
    sides = chest_lesions.draw_sides(where, order)
    changes = {name: chest_lesions.DRAW[name](lesions[CLASSES.index(name)], anatomy, sides[name]) for name in order}
    healthy = chest_lesions.attenuation(anatomy, [])
    twin, before = film.expose(healthy), film.grey(healthy)
    image = film.expose(chest_lesions.attenuation(anatomy, list(changes.values()))) if order else twin.copy()
    masks = {name: _mask(anatomy, film, before, change) for name, change in changes.items()}
    facts = {"habitus": anatomy.build.habitus, **film.facts}
    for name, change in changes.items():
        facts |= _facts(name, change, anatomy, masks[name])
    labels = {name: int(name in order) for name in CLASSES}
    return Phantom(image, twin, masks, labels, facts, report(mentions_of(dict.fromkeys(order, 1), facts)), CLASSES)


def _film(rng: np.random.Generator, size: int) -> Film:
    letter = str(rng.choice(["none", "L", "R"], p=[0.4, 0.4, 0.2]))
    fine = float(np.sqrt(size / 128))  # smaller detector elements catch fewer photons each
    period = rng.uniform(2.3, 4.0)
    lines = 0.004 * (rng.random() < 0.3) * np.sin(2 * np.pi * np.arange(size) / period)
    return Film(
        grain=rng.uniform(0.005, 0.016) * fine * fields.noise(rng, size, 0.45),
        middle=rng.uniform(0.56, 0.74),
        latitude=rng.uniform(0.19, 0.28),
        low=rng.uniform(0.0, 0.04),
        high=rng.uniform(0.90, 1.0),
        sharpness=rng.uniform(0.002, 0.006) * size / 2,
        frame=_frame(rng, size),
        lead=_marker(rng, size, letter),
        lines=lines.astype(np.float32)[None],
        facts={"marker": letter, "grid": "yes" if lines.any() else "no"},
    )


def _frame(rng: np.random.Generator, size: int) -> Array:
    """The collimated field `(size, size)`: 1 inside, dark beyond blades that lean a little."""
    y, x = fields.grid(size)
    frame = np.ones((size, size), np.float32)
    for axis, other, sign in ((y, x, 1), (y, x, -1), (x, y, 1), (x, y, -1)):
        at, lean = rng.uniform(0.93, 1.02), rng.normal(0, 0.01)
        if rng.random() < 0.3:
            frame = frame * fields.soft(sign * axis + lean * other - at, 4 / size)
    return frame


def _marker(rng: np.random.Generator, size: int, letter: str) -> Array:
    """The lead letter `(size, size)` beside the shoulder of its side."""
    lead = np.zeros((size, size), np.float32)
    row, column, scale = rng.uniform(0.03, 0.12), rng.uniform(0.03, 0.09), size * rng.uniform(0.010, 0.014)
    if letter == "none":
        return lead
    glyph = np.array([[int(bit) for bit in line] for line in LETTERS[letter]], np.float32)
    shape = ndimage.zoom(glyph, (scale, scale), order=1, grid_mode=True, mode="grid-constant")
    top, left = int(row * size), int(column * size)
    left = size - left - shape.shape[1] if letter == "L" else left
    lead[top : top + shape.shape[0], left : left + shape.shape[1]] = shape
    return lead


def _mask(anatomy: chest_anatomy.Anatomy, film: Film, before: Array, change: chest_lesions.Change) -> Array:
    """Where the lesion alone changes the grey values by more than a quarter of its greatest effect."""
    after = film.grey(chest_lesions.attenuation(anatomy, [change]))
    effect = fields.blur(np.abs(after - before), anatomy.size * 0.007) * film.frame
    effect = effect * change.within
    mask = effect > 0.28 * effect.max()
    return ndimage.binary_fill_holes(mask)


def _facts(name: str, change: chest_lesions.Change, anatomy: chest_anatomy.Anatomy, mask: Array) -> dict:
    build = anatomy.build
    height = (float(anatomy.v[mask].mean()) - build.apex) / (build.domes[0] - build.apex)
    zone = ("upper", "middle", "lower")[int(np.clip(height * 3, 0, 2))]
    facts = {**change.facts, "zone": zone, "area": round(float(mask.mean()), 5)}
    return {f"{name}_{key}": value for key, value in facts.items()}
