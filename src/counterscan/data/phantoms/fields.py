"""Grids, smooth random fields and soft shapes that the phantoms are drawn with (numpy only, float32)."""

import functools
import math

import numpy as np
from scipy import ndimage

Array = np.ndarray


@functools.lru_cache(maxsize=8)
def grid(size: int) -> tuple[Array, Array]:
    """Pixel centres `(y, x)`, each `(size, size)` in [-1, 1]; y grows downwards, x to the viewer's right."""
    axis = ((np.arange(size, dtype=np.float32) + 0.5) * (2.0 / size) - 1.0).astype(np.float32)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    y.setflags(write=False)
    x.setflags(write=False)
    return y, x


def smooth_field(rng: np.random.Generator, size: int, cells: float) -> Array:
    """A smooth random field `(size, size)` of mean 0 and standard deviation about 1, with `cells` bumps an edge."""
    knots = max(4, int(np.ceil(cells)) + 3)
    coarse = rng.standard_normal((knots, knots)).astype(np.float32)
    step = cells / size
    start = rng.random(2) * 0.5 + 0.75
    steps = np.arange(size, dtype=np.float32) * np.float32(step)
    rows, columns = (_spline(steps + np.float32(first), knots) for first in start)
    return rows @ coarse @ columns.T * np.float32(1 / 0.48)  # 0.48: deviation of a cubic B-spline mixture of unit knots


def _spline(at: Array, knots: int) -> Array:
    distance = np.abs(at[:, None] - np.arange(knots, dtype=np.float32)[None])
    square = distance * distance
    beyond = np.clip(2 - distance, 0, None)
    return np.where(distance < 1, 2 / 3 - square + square * distance / 2, beyond * beyond * beyond / 6)


def soft(distance: Array, width: float) -> Array:
    """1 inside a shape, 0 outside, with an edge of `width`; `distance` is signed, negative inside."""
    return np.clip(0.5 - distance / width, 0.0, 1.0).astype(np.float32)


def ellipse(y: Array, x: Array, centre: tuple[float, float], radii: tuple[float, float], angle: float = 0.0) -> Array:
    """Approximate signed distance to an ellipse with `centre` and `radii` as (y, x), turned by `angle` radians."""
    dy, dx = y - centre[0], x - centre[1]
    if angle:
        cosine, sine = math.cos(angle), math.sin(angle)  # plain floats keep the arrays in float32
        dy, dx = cosine * dy - sine * dx, sine * dy + cosine * dx
    return (np.sqrt((dy / radii[0]) ** 2 + (dx / radii[1]) ** 2) - 1.0) * min(radii)


def blur(image: Array, sigma: float) -> Array:
    """Gaussian blur with `sigma` in pixels."""
    return ndimage.gaussian_filter(image, sigma, mode="nearest") if sigma > 0 else image


def noise(rng: np.random.Generator, size: int, sigma: float = 0.0) -> Array:
    """White noise of deviation 1, correlated over `sigma` pixels."""
    field = blur(rng.standard_normal((size, size), dtype=np.float32), sigma)
    return field / max(float(field.std()), 1e-6)
