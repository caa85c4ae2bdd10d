"""Abdominal CT volumes: one patient through many slices, with tumours that are ellipsoids and noise of its own a slice.

The anatomy is that of `abdomen` and drifts slowly from slice to slice; it does not change in kind, so a volume is the
middle of the kidneys, stretched. What a volume of real slices adds (organs that come and go) is not in it.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from counterscan.data.phantoms import abdomen, abdomen_lesions
from counterscan.data.phantoms import abdomen_anatomy as anatomy
from counterscan.data.phantoms.abdomen_canvas import Canvas
from counterscan.data.phantoms.abdomen_patient import patient
from counterscan.data.phantoms.fields import Array, smooth_field

DRIFT = 3.0  # mm (standard deviation): how far the anatomy moves within the plane
PERIOD = 60.0  # mm along z over which it moves there


@dataclass(frozen=True)
class VolumePhantom:
    """A CT volume whose tumour is known.

    `image` is float32 `(slices, size, size)` in HU, `mask` the boolean tumour of the same shape, `spacing` (row,
    column, slice) in mm; `size_mm` is the tumour's largest diameter within the plane, 0 without one, `extent_mm` its
    length across the slices.
    """

    image: Array
    mask: Array
    spacing: tuple[float, float, float]
    size_mm: float
    extent_mm: float

    @property
    def ml(self) -> float:
        """The tumour's volume."""
        return float(self.mask.sum() * np.prod(self.spacing) / 1000)


def draw_volume(
    index: int, *, slices: int = 40, thickness: float = 3.0, size: int = 128, seed: int = 0, tumour: bool | None = None
) -> VolumePhantom:
    """Draw volume number `index` of the series `seed`: `slices` of `thickness` mm, `(size, size)` pixels each.

    Half of the volumes have a tumour, and half a cyst, unless `tumour` says so; it lies anywhere along z, cut off by
    the ends of the volume at times.
    """
    rng = np.random.default_rng([seed, index, 77])
    for_anatomy, for_scanner, for_cysts, for_tumour, for_drift, chance = rng.spawn(6)
    body = patient(for_anatomy)
    canvas = Canvas(for_anatomy, size, fov=2 * body.girth / float(for_anatomy.uniform(0.82, 0.95)))
    kidneys = anatomy.paint(for_anatomy, canvas, body)
    cyst = np.zeros_like(canvas.hu)
    present = bool(chance.random() < 0.5) if tumour is None else tumour
    if chance.random() < 0.5:
        cyst, _ = abdomen_lesions.cysts(for_cysts, canvas, kidneys)
    state = for_tumour.bit_generator.state

    def section(share: float) -> abdomen_lesions.Tumour:
        for_tumour.bit_generator.state = state
        return abdomen_lesions.tumour(for_tumour, canvas, body, kidneys, cyst, share)

    length = float(chance.uniform(0.75, 1.3))  # across the slices, in diameters
    diameter = section(1.0).size_mm if present else 0.0
    half, places = diameter * length / 2, (np.arange(slices) + 0.5) * thickness
    middle = float(chance.uniform(0.1, 0.9)) * slices * thickness
    image, mask = np.empty((slices, size, size), np.float32), np.zeros((slices, size, size), bool)
    drift = _drift(for_drift, canvas, places)
    for number, place in enumerate(places):
        share = float(np.sqrt(max(1 - ((place - middle) / half) ** 2, 0))) if half else 0.0
        grown = section(share) if share * diameter > 2 * canvas.px else None
        hu, sick = _painted(canvas, grown)
        image[number] = _scanned(for_scanner, canvas, _moved(hu, drift[number]))
        mask[number] = _moved(sick.astype(np.float32), drift[number]) > 0.5
    return VolumePhantom(image, mask, (canvas.px, canvas.px, thickness), diameter, 2 * half)


def _painted(canvas: Canvas, tumour: abdomen_lesions.Tumour | None) -> tuple[Array, Array]:
    """Hounsfield units of a section and the mask of the tumour in it, both `(size, size)`."""
    mask = np.zeros(canvas.hu.shape, bool)
    if tumour is None:
        return canvas.hu, mask
    hu = canvas.hu.copy()
    hu[tumour.box] = tumour.hu
    mask[tumour.box] = tumour.mask
    return hu, mask


def _scanned(rng: np.random.Generator, canvas: Canvas, hu: Array) -> Array:
    """A section `(size, size)` as the scanner shows it: one kernel and dose for the volume would need one scan."""
    drawn = Canvas.__new__(Canvas)
    drawn.__dict__ = {**canvas.__dict__, "hu": hu}
    return abdomen._scan(rng, drawn, None)[0]


def _drift(rng: np.random.Generator, canvas: Canvas, places: Array) -> Array:
    """Where each pixel comes from `(slices, 2, size, size)`, in pixels: waves along z of smooth fields in the plane."""
    fields = np.stack([[smooth_field(rng, canvas.size, 3) for _ in range(2)] for _ in range(4)])
    turn = 2 * np.pi * places[:, None] / (PERIOD * np.array([1.0, 1.0, 2.3, 2.3])) + np.array([0, np.pi / 2] * 2)
    weights = np.sin(turn + rng.uniform(0, 2 * np.pi)) * DRIFT / canvas.px / np.sqrt(2)
    return np.einsum("zk,kdyx->zdyx", weights, fields).astype(np.float32)


def _moved(plane: Array, drift: Array) -> Array:
    rows, columns = np.indices(plane.shape, dtype=np.float32)
    return ndimage.map_coordinates(plane, (rows + drift[0], columns + drift[1]), order=1, mode="nearest")
