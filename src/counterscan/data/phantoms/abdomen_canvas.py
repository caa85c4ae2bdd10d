"""A canvas in millimetres, on which the organs of an abdominal CT slice are painted in Hounsfield units."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from counterscan.data.phantoms.fields import Array, ellipse, grid, smooth_field

Box = tuple[slice, slice]
Point = tuple[float, float]


class Canvas:
    """Hounsfield units `hu` `(size, size)` over body coordinates `y`, `x` in mm (anterior up, patient's right left).

    The coordinates are turned, shifted and gently warped, so that every organ painted on them is too. `hard` is 1
    where bone, muscle or the outside stops a lesion from growing.
    """

    def __init__(self, rng: np.random.Generator, size: int, fov: float):
        self.size, self.px, self.half = size, fov / size, fov / 2
        self.tilt, self.shift = rng.normal(0, 0.045), (rng.normal(0, 0.012 * fov), rng.normal(0, 0.012 * fov))
        y, x = grid(size)
        dy, dx = y * np.float32(self.half) - self.shift[0], x * np.float32(self.half) - self.shift[1]
        self.turn = cosine, sine = math.cos(self.tilt), math.sin(self.tilt)
        self.y = (cosine * dy - sine * dx + 2.6 * smooth_field(rng, size, 4)).astype(np.float32)
        self.x = (sine * dy + cosine * dx + 2.6 * smooth_field(rng, size, 4)).astype(np.float32)
        self.edge = 1.2 * smooth_field(rng, size, 17) + 0.6 * smooth_field(rng, size, 37)  # mm by which an edge wavers
        self.mottle = smooth_field(rng, size, 30)  # deviation 1: the unevenness within an organ
        self.hu = np.full((size, size), -1000.0, np.float32)
        self.hard = np.zeros((size, size), np.float32)
        self.crowd = self.hard  # 1 where an organ other than the kidneys is, so that lesions rather grow into fat

    def pixel(self, point: Point) -> tuple[float, float]:
        """Where the body's `point` (y, x) in mm lies, in pixels (row, column), but for the warp of a few mm."""
        cosine, sine = self.turn
        y = cosine * point[0] + sine * point[1] + self.shift[0]
        x = -sine * point[0] + cosine * point[1] + self.shift[1]
        return (y + self.half) / self.px - 0.5, (x + self.half) / self.px - 0.5

    def box(self, point: Point, reach: float) -> Box:
        """The pixels within `reach` mm of `point`, with room for the warp."""
        spread = (reach + 9.0) / self.px
        row, column = self.pixel(point)
        return self._side(row, spread), self._side(column, spread)

    def _side(self, at: float, spread: float) -> slice:
        return slice(min(max(int(at - spread), 0), self.size - 1), min(max(int(at + spread + 2), 1), self.size))

    def paint(self, box: Box, distance: Array, value: Array | float, *, width: float = 1.3, hard: float = 0.0) -> Array:
        """Blend `value` into the shape of signed `distance` (mm) within `box`; `width` of its edge is in pixels."""
        cover = np.minimum(np.maximum(0.5 - distance * (1 / (width * self.px)), 0), 1)  # `soft`, sooner for small boxes
        self.hu[box] += cover * (value - self.hu[box])
        if hard:
            np.maximum(self.hard[box], cover * hard, out=self.hard[box])
        return cover

    def blob(
        self,
        centre: Point,
        radii: Point,
        value: Array | float,
        *,
        angle: float = 0.0,
        waver: float = 1.0,
        texture: float = 0.0,
        clip: Array | None = None,
        hard: float = 0.0,
    ) -> Box:
        """Paint an ellipse with a wavering edge, cut off where the distance `clip` `(size, size)` is positive."""
        box = self.box(centre, max(radii))
        distance = ellipse(self.y[box], self.x[box], centre, radii, angle)
        if waver:
            distance = distance + waver * self.edge[box]
        if clip is not None:
            distance = np.maximum(distance, clip[box])
        value = value[box] if isinstance(value, np.ndarray) else value
        self.paint(box, distance, value + texture * self.mottle[box] if texture else value, hard=hard)
        return box

    def stroke(self, points: Sequence[Point], radius: float, value: float, *, waver: float = 0.0) -> None:
        """Paint a tube of `radius` mm along `points`."""
        middle = np.mean(points, axis=0)
        box = self.box(tuple(middle), float(np.abs(np.asarray(points) - middle).max()) * 1.42 + radius)
        distance = tube(self.y[box], self.x[box], points) - radius
        self.paint(box, distance + waver * self.edge[box] if waver else distance, value)


def tube(y: Array, x: Array, points: Sequence[Point]) -> Array:
    """Distance in mm to the line through `points`."""
    nearest = np.float32(np.inf) * np.ones_like(y)
    plain = [(float(at[0]), float(at[1])) for at in points]  # numpy scalars would make the arrays float64
    for (y0, x0), (y1, x1) in pairwise(plain):
        along = 1 / max((y1 - y0) ** 2 + (x1 - x0) ** 2, 1e-6)
        part = ((y - y0) * ((y1 - y0) * along) + (x - x0) * ((x1 - x0) * along)).clip(0, 1)
        square = (y - y0 - part * (y1 - y0)) ** 2 + (x - x0 - part * (x1 - x0)) ** 2
        nearest = np.minimum(nearest, square)
    return np.sqrt(nearest)
