"""Radial Gaussian anomalies in the kidneys of healthy abdominal CT: the synthetic data of COIN (arXiv 2404.12832).

A template of 20 pixels an edge (at 256), exp(-r^2 / (2 * 0.4^2)) on [-1, 1]^2, is scaled, stretched and turned at
random and added to the windowed slice where a kidney is; its mask is where it exceeds a quarter. Changes: the slices
are phantoms, whose twin is known; the template is computed where it lies, not resampled, and stretched about its
centre.
"""

import numpy as np

from counterscan.data.phantoms import abdomen
from counterscan.data.phantoms.base import Phantom
from counterscan.data.phantoms.fields import Array

CLASSES = ("anomaly",)
CONFOUNDERS = ()  # the cysts of half of the slices are healthy here, and go without a label
DISEASED = 0.65  # share of the slices that an anomaly is asked for
MODALITY = "abdominal CT"
COLOUR = False
MIRROR = True
WINDOW = (-57.0, 302.0, "HU")  # half a per cent of the voxels of renal tumours lies below it, half a per cent above
EDGE = 20 / 256  # of the template, and the least of a kidney, as a share of the image's
SIGMA, STRENGTH, SEEN = 0.4, 0.9, 0.25
MARGIN = 0.05  # at each side of a kidney's bounding box, where no anomaly has its centre


def draw(rng: np.random.Generator, size: int, findings: tuple[str, ...]) -> Phantom:
    """Draw a slice `(size, size)` in HU; it stays healthy where neither kidney is large enough."""
    for_patient, for_anomaly = rng.spawn(2)
    benign = ("cyst",) if for_patient.random() < 0.5 else ()
    healthy, kidneys = abdomen.draw_with_kidneys(for_patient, size, benign)
    rooms = {side: room(kidney) for side, kidney in zip(("right", "left"), kidneys, strict=True)}
    sides = [side for side, inside in rooms.items() if inside.any()]
    if "anomaly" not in findings or not sides:
        return _phantom(healthy, healthy.twin, np.zeros((size, size), bool), {})
    side = sides[int(for_anomaly.integers(len(sides)))]
    rows, columns = np.nonzero(rooms[side])
    chosen = int(for_anomaly.integers(len(rows)))
    row, column = int(rows[chosen]), int(columns[chosen])
    blob = template(for_anomaly, size, row, column)
    facts: dict[str, str | float] = {"anomaly_side": side, "anomaly_row": row, "anomaly_column": column}
    return _phantom(healthy, added(healthy.twin, blob), blob > SEEN, facts)


def room(kidney: Array) -> Array:
    """Where in the mask `kidney` `(size, size)` an anomaly may have its centre; nowhere in one that is too small."""
    inside = np.zeros_like(kidney)
    rows, columns = (np.flatnonzero(kidney.any(axis)) for axis in (1, 0))
    if not len(rows) or np.ptp(rows) * np.ptp(columns) <= (EDGE * len(kidney)) ** 2:
        return inside
    box = tuple(
        slice(at[0] + round(MARGIN * np.ptp(at)), at[-1] + 1 - round(MARGIN * np.ptp(at))) for at in (rows, columns)
    )
    inside[box] = kidney[box]
    return inside


def template(rng: np.random.Generator, size: int, row: int, column: int) -> Array:
    """A Gaussian `(size, size)` with its peak, 1, at a pixel: up to a quarter smaller; half are stretched, half turned.

    It ends where the template does, with a small step, as the published one.
    """
    half = EDGE * size / 2 * rng.uniform(0.75, 1)
    stretch = rng.uniform(0.8, 1.2, 2) if rng.random() < 0.5 else np.ones(2)
    turn = rng.uniform(-np.pi / 2, np.pi / 2) if rng.random() < 0.5 else 0.0
    y, x = (np.arange(size) - row)[:, None] / half, (np.arange(size) - column) / half
    across, along = np.cos(turn) * y - np.sin(turn) * x, np.sin(turn) * y + np.cos(turn) * x
    there = np.maximum(np.abs(across), np.abs(along)) <= 1
    square = (across * stretch[0]) ** 2 + (along * stretch[1]) ** 2
    return np.where(there, np.exp(-square / (2 * SIGMA**2)), 0).astype(np.float32)


def added(healthy: Array, blob: Array) -> Array:
    """`healthy` in HU with `STRENGTH` times the `blob` added in units of the window, whose upper end it cannot pass."""
    low, high, _ = WINDOW
    before = np.clip((healthy - low) / (high - low), 0, 1)
    after = np.minimum(before + STRENGTH * blob, 1)
    return np.where(after > before, low + after * (high - low), healthy).astype(np.float32)


def _phantom(healthy: Phantom, image: Array, mask: Array, facts: dict[str, str | float]) -> Phantom:
    side = facts.get("anomaly_side")
    return Phantom(
        image=image,
        twin=healthy.twin,
        masks={"anomaly": mask} if side else {},
        labels={"anomaly": int(bool(side))},
        facts=healthy.facts | facts,
        report=f"Round bright anomaly of the {side} kidney." if side else "Both kidneys are unremarkable.",
        disease=("anomaly",),
    )
