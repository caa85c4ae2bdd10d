"""How an OCT device sees the layers: reflectivity, shadows, speckle, background noise, contrast, cropped margins."""

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from counterscan.data.phantoms.fields import Array
from counterscan.data.phantoms.oct_anatomy import AT, LAYERS, Eye, Tissue, Vessel


@dataclass(frozen=True)
class Blob:
    """Something small within the layers: where it lies, how much it covers of each pixel there, its grey and kind."""

    kind: str
    box: tuple[slice, slice]
    cover: Array
    grey: float
    shadow: float = 0.0  # share of light that it takes from what lies below


@dataclass
class Lesion:
    """A disease in one retina: the layers as it leaves them, what lies within them, the light that it lets through."""

    tissue: Tissue
    veil: Array  # share of light that reaches the choroid `(size,)`
    blobs: list[Blob] = field(default_factory=list)
    clumps: Array | None = None  # unevenness of what grows between retina and Bruch's membrane `(size, size)`
    under: str = "deposits"  # what the mask calls the room below the RPE
    facts: dict[str, str | float] = field(default_factory=dict)

    def columns(self, eye: Eye) -> slice:
        """The columns from the first to the last in which anything differs from the healthy retina."""
        differs = (self.tissue.thick != eye.tissue.thick).any(0) | (self.tissue.grey != eye.tissue.grey).any(0)
        differs |= self.veil < 1
        for blob in self.blobs:
            differs[blob.box[1]] = True
        where = np.nonzero(differs)[0]
        return slice(int(where[0]), int(where[-1]) + 1)


@dataclass(frozen=True)
class Device:
    """One acquisition: speckle and noise are fixed to the screen, so that image and twin share them to the bit."""

    name: str
    speckle: Array  # factor `(size, size)`, mean about 1
    floor: Array  # grey added `(size, size)`
    gain: Array  # factor over the columns `(size,)`
    fade: Array  # factor over the rows `(size, 1)`: sensitivity falls off with depth
    low: float
    high: float
    gamma: float
    frame: Array | None  # grey of the cropped margin `(size, size)`, NaN within the scan

    def show(self, signal: Array, columns: slice) -> Array:
        """Grey values 0 to 255 of `signal` `(size, columns)`, a reflectivity of 0 to about 1."""
        seen = signal * (self.gain[columns] * self.fade) * self.speckle[:, columns] + self.floor[:, columns]
        np.clip(seen, 0, 1, out=seen)
        grey = np.clip(self.low + (self.high - self.low) * seen ** np.float32(self.gamma), 0, 255)
        if self.frame is not None:
            margin = self.frame[:, columns]
            grey = np.where(np.isnan(margin), grey, margin)
        return grey.astype(np.float32)


# Grain across in µm, strength of the speckle, background noise; ranges of gamma and of the darkest and brightest grey.
DEVICES = {
    "averaged": ((9.0, 0.15, 0.03), (0.9, 1.15), (0.0, 5.0), (225.0, 290.0)),
    "single-frame": ((12.0, 0.24, 0.06), (0.75, 1.0), (2.0, 18.0), (205.0, 255.0)),
    "swept-source": ((14.0, 0.2, 0.045), (0.8, 1.05), (0.0, 14.0), (190.0, 245.0)),
}


def device(rng: np.random.Generator, eye: Eye) -> Device:
    """Draw the device and its noise for one scan; all but the noise is the same at every size."""
    name = str(rng.choice(list(DEVICES), p=[0.5, 0.3, 0.2]))
    (grain, contrast, noise), gamma, low, high = DEVICES[name]
    fine = (eye.size / 128) ** 0.35  # a smaller pixel averages less speckle
    strength = float(contrast * fine * rng.uniform(0.75, 1.25))
    dust = np.float32(noise * fine * rng.uniform(0.6, 1.4))
    middle, roll = rng.uniform(0.3, 0.6), rng.uniform(0.0, 0.6)
    rows = (np.arange(eye.size, dtype=np.float32)[:, None] + 0.5) / eye.size
    part = eye.x / eye.x[-1]
    gain = rng.uniform(0.85, 1.15) * (1 - rng.uniform(0, 0.2) * part**2 + rng.normal(0, 0.05) * part)
    fixed = {
        "gain": gain.astype(np.float32),
        "fade": np.exp(-roll * (rows - middle) ** 2).astype(np.float32),
        "low": float(rng.uniform(*low)),
        "high": float(rng.uniform(*high)),
        "gamma": float(rng.uniform(*gamma)),
        "frame": _frame(rng, eye),
    }
    speckle = np.exp(_grain(rng, eye, grain) * np.float32(strength) - np.float32(strength**2 / 2))
    floor = dust * np.abs(rng.standard_normal((eye.size, eye.size), dtype=np.float32))
    return Device(name=name, speckle=speckle, floor=floor, **fixed)


def _grain(rng: np.random.Generator, eye: Eye, across: float) -> Array:
    """Speckle of deviation 1, wider across than in depth."""
    grain: Array = rng.standard_normal((eye.size, eye.size), dtype=np.float32)
    for axis, reach in ((0, 3.0), (1, across)):
        sigma = max(reach / eye.px[axis], 0.3)
        grain = ndimage.gaussian_filter1d(grain, sigma, axis, mode="nearest", truncate=3)
    return grain / np.float32(grain.std())


def _frame(rng: np.random.Generator, eye: Eye) -> Array | None:
    """White or black wedges above and below, left where a set was registered and cropped; one of three has them."""
    if rng.random() > 0.35:
        return None
    grey = np.float32(255 if rng.random() < 0.75 else 0)
    frame = np.full((eye.size, eye.size), np.nan, np.float32)
    rows = (np.arange(eye.size, dtype=np.float32)[:, None] + 0.5) * np.float32(eye.px[0])
    part = eye.x / eye.x[-1]
    lean = rng.normal(0, 60) * part
    room = float((eye.tissue.tops(eye.bruch)[0] - lean).min()) - 200
    if rng.random() < 0.8 and room > 0:
        frame[rows < rng.uniform(0.1, 1.0) * room + lean] = grey
    if rng.random() < 0.6:
        end = eye.size * eye.px[0] - rng.uniform(0, 110)
        frame[rows > np.maximum(end + lean, eye.bruch + 120)] = grey
    if rng.random() < 0.3:
        frame[:, 0] = grey
    return frame


def signal(eye: Eye, columns: slice, lesion: Lesion | None = None) -> Array:
    """Reflectivity `(size, columns)` of the healthy layers, or of those that a `lesion` has deformed."""
    tissue = eye.tissue if lesion is None else lesion.tissue
    edges = tissue.tops(eye.bruch)[:, columns] / np.float32(eye.px[0])  # pixels
    rows = np.arange(eye.size, dtype=np.float32)[:, None] + np.float32(1.0)
    seen = np.full((eye.size, edges.shape[1]), eye.vitreous, np.float32)
    before, step = seen[0].copy(), np.empty_like(seen)
    for layer in range(len(LAYERS)):
        step = _below(rows, edges[layer], step)
        step *= tissue.grey[layer, columns] - before
        seen += step
        before = tissue.grey[layer, columns]
    step = _below(rows, edges[-1], step)
    seen += step * (eye.choroid[:, columns] - seen)
    if lesion is not None:
        _fill(seen, rows, edges, lesion, columns)
    if eye.hyaloid is not None:
        at = np.minimum(eye.hyaloid[columns] / np.float32(eye.px[0]), edges[0] - 1.5)  # a swollen retina lifts it
        seen += np.float32(0.16) * np.maximum(1 - np.abs(rows - 0.5 - at), 0)
    start = columns.start or 0
    for vessel in eye.vessels:
        _vessel(seen, eye, edges, vessel, start)
    for blob in () if lesion is None else lesion.blobs:
        _blob(seen, blob, start)
    return seen


def _fill(seen: Array, rows: Array, edges: Array, lesion: Lesion, columns: slice) -> None:
    """Unevenness of what has grown upon Bruch's membrane, and the shade that it casts."""
    grown = _below(rows, edges[AT["membrane"]], np.empty_like(seen))
    if lesion.clumps is not None:
        solid = grown - _below(rows, edges[AT["bruch"]], np.empty_like(seen))
        seen *= 1 + solid * lesion.clumps[:, columns]
    seen *= 1 - _below(rows, edges[AT["deposit"]], grown) * (1 - lesion.veil[columns])


def _below(rows: Array, edge: Array, out: Array) -> Array:
    """How much of each pixel that ends at `rows` lies below `edge`, both in pixels: exact for the thinnest layer."""
    np.subtract(rows, edge, out=out)
    np.maximum(out, 0, out=out)
    return np.minimum(out, 1, out=out)


def _vessel(seen: Array, eye: Eye, edges: Array, vessel: Vessel, start: int) -> None:
    """A bright wall in the inner layers, and the shadow below it."""
    first = int((vessel.x - vessel.radius) / eye.px[1] + eye.size / 2) - 1 - start
    last = int((vessel.x + vessel.radius) / eye.px[1] + eye.size / 2) + 2 - start
    box = slice(max(first, 0), max(min(last, seen.shape[1]), 0))
    if box.start >= box.stop:
        return
    x = eye.x[start:][box] - np.float32(vessel.x)
    width = max(vessel.radius, 0.9 * eye.px[1])
    share = np.clip(1.3 - 1.1 * np.abs(x) / width, 0, 1) ** 2
    rows = np.arange(eye.size, dtype=np.float32)[:, None]
    middle = edges[AT["nfl"], box] * np.float32(0.4) + edges[AT["ipl"], box] * np.float32(0.6)
    tall = np.clip(0.5 * (middle - edges[0, box]), 0.5, max(0.6 * vessel.radius / eye.px[0], 1.0))
    seen[:, box] *= 1 - np.float32(vessel.dark) * share * np.clip((rows - middle) / 3, 0, 1)
    seen[:, box] += 0.25 * share * np.clip(1 - np.abs(rows - middle + tall) / tall, 0, 1)


def cover(eye: Eye, centre: tuple[float, float], radii: tuple[float, float]) -> tuple[tuple[slice, slice], Array]:
    """An ellipse with `centre` and `radii` as (depth, x) in µm: a box of the image, and the cover of its pixels."""
    sides, offsets, least = [], [], np.inf
    for axis in (0, 1):
        middle = centre[axis] / eye.px[axis] + (eye.size / 2 if axis else 0) - 0.5
        radius = max(radii[axis] / eye.px[axis], 0.7)
        low = min(max(int(middle - radius - 2), 0), eye.size - 1)
        side = slice(low, min(max(int(middle + radius + 4), low + 1), eye.size))
        sides.append(side)
        offsets.append(((np.arange(side.start, side.stop, dtype=np.float32) - np.float32(middle)) / radius) ** 2)
        least = min(least, radius)
    distance = (np.sqrt(offsets[0][:, None] + offsets[1]) - 1) * np.float32(least)
    return (sides[0], sides[1]), np.clip(0.5 - distance, 0, 1)


def _blob(seen: Array, blob: Blob, start: int) -> None:
    rows, columns = blob.box
    box = rows, slice(columns.start - start, columns.stop - start)
    seen[box] += blob.cover * (np.float32(blob.grey) - seen[box])
    if blob.shadow:
        below = slice(rows.stop - 2, None), box[1]
        seen[below] *= 1 - np.float32(blob.shadow) * blob.cover.max(0)
