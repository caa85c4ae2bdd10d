"""A fundus in degrees around its fovea, and soft dots stamped on it many at a time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from counterscan.data.phantoms.fields import Array, grid, smooth_field

REACHES = (1, 2, 3, 4, 6, 9, 14, 22, 34, 56, 90)  # half widths in pixels of the boxes that dots are stamped in


@dataclass(frozen=True)
class Dots:
    """Soft dots: centres `v`, `u` and `radius` in degrees, `height` in the middle; each `(n,)`."""

    v: Array
    u: Array
    radius: Array
    height: Array

    def __len__(self) -> int:
        return self.v.size

    @staticmethod
    def join(parts: Sequence["Dots"]) -> "Dots":
        """All dots of `parts` as one."""
        names = ("v", "u", "radius", "height")
        return Dots(*(np.concatenate([getattr(part, name) for part in parts] or [np.zeros(0)]) for name in names))


class Canvas:
    """Degrees `v` (down) and `u` (towards the nose) from the fovea at each pixel, `(size, size)`.

    `field` is the camera's angle and fills the part `fill` of the picture's width; the fovea lies at `fovea` (v, u)
    from the picture's middle, the eye is turned by `tilt` radians and `nose` is 1 where the nose is on the right, in
    a right eye, and -1 in a left one.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        size: int,
        field: float,
        fill: float,
        fovea: tuple[float, float],
        tilt: float,
        nose: int,
    ):
        self.size, self.px, self.nose, self.fovea = size, field / fill / size, nose, fovea
        self.turn = math.cos(tilt), math.sin(tilt)
        y, x = grid(size)
        half = np.float32(field / fill / 2)
        self.y, self.x = y * half, x * half
        dv, du = self.y - np.float32(fovea[0]), self.x * nose - np.float32(fovea[1])
        cosine, sine = self.turn
        self.v, self.u = cosine * dv - sine * du, sine * dv + cosine * du
        self.waver = 0.6 * smooth_field(rng, size, 40) + 0.4 * smooth_field(rng, size, 75)  # how an edge wavers
        self.bend = smooth_field(rng, size, 7), smooth_field(rng, size, 7)

    def pixels(self, v: Array, u: Array) -> tuple[Array, Array]:
        """Rows and columns, not rounded, of places in degrees from the fovea."""
        cosine, sine = self.turn
        y = cosine * v + sine * u + self.fovea[0]
        x = self.nose * (-sine * v + cosine * u + self.fovea[1])
        middle = self.size / 2 - 0.5
        return y / self.px + middle, x / self.px + middle

    def at(self, layer: Array, v: Array, u: Array) -> Array:
        """The values of `layer` `(size, size)` at the pixels nearest to the places, or at the border beyond it."""
        rows, columns = (np.clip(np.rint(each), 0, self.size - 1).astype(int) for each in self.pixels(v, u))
        return layer[rows, columns]

    def inside(self, frame: Array, v: Array, u: Array) -> Array:
        """Whether places lie in the picture and within the `frame` `(size, size)` there."""
        rows, columns = self.pixels(v, u)
        last = self.size - 1
        return (np.minimum(rows, columns) >= 0) & (np.maximum(rows, columns) <= last) & (self.at(frame, v, u) > 0.99)

    def stamp(self, dots: Dots, softness: float = 1.2, waver: float = 0.0) -> Array:
        """The highest of the `dots` at each pixel `(size, size)`; `softness` of their edge is in pixels.

        The edge wavers by the part `waver` of the radius. A dot thinner than a pixel is drawn paler, not wider.
        """
        rows, columns = self.pixels(dots.v, dots.u)
        radius = dots.radius / self.px
        height = dots.height * np.minimum(radius / 0.5, 1)
        radius = np.maximum(radius, 0.5)
        soft = np.maximum(softness, 0.5 * radius) if softness < 2 else np.full_like(radius, softness)
        extent = np.floor(radius * (1 + 1.5 * waver) + soft / 2 + 0.5)
        reach = np.searchsorted(REACHES, extent)
        middle = self.size / 2
        seen = (np.maximum(np.abs(rows - middle), np.abs(columns - middle)) < middle + extent) & (height > 0.04)
        margin = 2 * REACHES[min(int(reach[seen].max(initial=0)), len(REACHES) - 1)] + 2  # for what is half outside
        plane = np.zeros((self.size + 2 * margin, self.size + 2 * margin), np.float32)
        for group in np.unique(reach[seen]):
            chosen = np.nonzero(seen & (reach == group))[0]
            parts = [each[chosen].astype(np.float32) for each in (rows, columns, radius, soft, height)]
            self._stamp(plane, margin, REACHES[min(group, len(REACHES) - 1)], waver, parts)
        return plane[margin:-margin, margin:-margin].copy()

    def _stamp(self, plane: Array, margin: int, reach: int, waver: float, parts: Sequence[Array]) -> None:
        """Stamp dots that fit into boxes of `reach` pixels around them."""
        rows, columns, radius, soft, height = parts
        offset = np.arange(-reach, reach + 1, dtype=np.float32)
        top, left = np.rint(rows), np.rint(columns)
        dy, dx = offset - (rows - top)[:, None], offset - (columns - left)[:, None]
        scale = 1 / soft
        dy, dx = dy * scale[:, None], dx * scale[:, None]
        value = (dy * dy)[:, :, None] + (dx * dx)[:, None, :]
        np.sqrt(value, out=value)
        y = top.astype(np.int32)[:, None] + offset.astype(np.int32)
        x = left.astype(np.int32)[:, None] + offset.astype(np.int32)
        np.subtract((radius * scale + 0.5)[:, None, None], value, out=value)
        if waver:
            inside = np.clip(y, 0, self.size - 1)[:, :, None], np.clip(x, 0, self.size - 1)[:, None, :]
            rough = waver * radius * scale * np.clip(radius - 0.8, 0, 1)  # what is near a pixel has no outline
            value += rough[:, None, None] * np.clip(self.waver[inside], -1.5, 1.5)
        np.minimum(value, 1, out=value)
        value *= height[:, None, None]  # what is negative outside the dot loses against the empty plane
        index = ((y + margin) * plane.shape[1])[:, :, None] + (x + margin)[:, None, :]
        np.maximum.at(plane.reshape(-1), index.ravel(), value.ravel())
