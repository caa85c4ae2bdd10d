"""The fundus camera: its round field, the light it throws, its colours, blur and noise."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from counterscan.data.phantoms.fields import Array, smooth_field
from counterscan.data.phantoms.fundus_canvas import Canvas

KNEE = 185.0  # values above it are compressed, as cameras do with highlights
FIELDS = {50.0: 0.35, 45.0: 0.45, 40.0: 0.12, 35.0: 0.08}  # degrees, and their shares


@dataclass(frozen=True)
class Camera:
    """One camera and how it was held; angles in degrees, `tint` the mean colour (3,) in camera values."""

    field: float
    fill: float
    fovea: tuple[float, float]  # (v, u) from the picture's middle
    centred: str
    tilt: float
    crop: float
    notch: float
    tint: Array
    vignette: float
    sharpness: float  # degrees
    grain: float


def camera(rng: np.random.Generator, pigment: float) -> Camera:
    """Draw a camera; dark eyes come out darker."""
    centred = str(rng.choice(["macula", "between", "disc"], p=[0.3, 0.6, 0.1]))
    field = 45.0 if centred == "disc" else float(rng.choice(list(FIELDS), p=list(FIELDS.values())))
    middle, spread = {"macula": (-0.5, 1.2), "between": (-5.5, 1.5), "disc": (-14.0, 1.0)}[centred]
    green = 0.36 + 0.44 * rng.beta(1.6, 1.5)
    blue = max(0.95 * (green - 0.36) + rng.normal(-0.01, 0.05), 0.05)
    red = rng.uniform(120, 205) * (1.1 - 0.3 * pigment)
    return Camera(
        field=field,
        fill=float(rng.uniform(0.94, 1.0)),
        fovea=(float(rng.normal(0.5, 1.2)), float(rng.normal(middle, spread))),
        centred=centred,
        tilt=float(rng.normal(0, 0.05)),
        crop=float(rng.uniform(0.8, 0.93)) if rng.random() < 0.45 else 1.0,
        notch=float(rng.uniform(0.3, 0.8)) if rng.random() < 0.18 else 0.0,
        tint=np.array([red, red * green, red * blue], np.float32),
        vignette=float(rng.uniform(0.1, 0.7)),
        sharpness=float(rng.uniform(0.1, 0.22)),
        grain=float(rng.uniform(1.0, 3.2)),
    )


def window(camera: Camera, canvas: Canvas) -> Array:
    """How much of each pixel `(size, size)` lies within the camera's field."""
    half, px = camera.field / 2, canvas.px
    far = np.hypot(canvas.y, canvas.x) - half
    if camera.notch:
        sine, cosine = math.sin(camera.notch), math.cos(camera.notch)
        along, across = canvas.x * cosine + canvas.y * sine, canvas.y * cosine - canvas.x * sine
        tab = np.maximum(np.maximum(along - half * 1.05, half * 0.9 - along), np.abs(across) - 0.03 * half)
        far = np.minimum(far, tab)
    if camera.crop < 1:
        far = np.maximum(far, np.abs(canvas.y) - half * camera.crop)
    return np.clip(0.5 - far / px, 0, 1)


def light(rng: np.random.Generator, camera: Camera, canvas: Canvas) -> Array:
    """The light on the fundus `(size, size)`, about 1: less at the border, more on one side, a little uneven."""
    half = np.float32(camera.field / 2)
    y, x = canvas.y / half, canvas.x / half
    lean = rng.normal(0, 0.15, 2).tolist()
    off = rng.normal(0, 0.12, 2).tolist()
    square = (y - off[0]) ** 2 + (x - off[1]) ** 2
    fall = 1 + 0.35 * camera.vignette - camera.vignette * np.minimum(square, 1.6)
    return np.clip(fall + lean[0] * y + lean[1] * x + 0.05 * smooth_field(rng, canvas.size, 2.5), 0.12, 1.6)


def haze(rng: np.random.Generator, camera: Camera, canvas: Canvas) -> Array:
    """Stray light `(3, size, size)` in camera values: a veil, a bright rim on one side, a lens reflex in the middle."""
    half = camera.field / 2
    far = np.hypot(canvas.y, canvas.x) / half
    veil = rng.uniform(0.0, 0.08) * (1 + 0.4 * smooth_field(rng, canvas.size, 2))
    heading, around = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.6)
    side = (math.cos(heading) * canvas.x + math.sin(heading) * canvas.y) / half
    glow = rng.uniform(0.2, 1.0) * (rng.random() < 0.4)
    rim = glow * (np.clip(side + around, 0, 1) * np.clip((far - 0.75) / 0.25, 0, 1)) ** 2
    at = rng.normal(0, 0.06 * half, 2).tolist()
    spot = rng.uniform(0.05, 0.25) * (rng.random() < 0.15)
    reflex = spot * np.exp(-((canvas.y - at[0]) ** 2 + (canvas.x - at[1]) ** 2) / (2 * (0.07 * half) ** 2))
    colour = np.array([85, 110 * rng.uniform(0.9, 1.2), 110 * rng.uniform(0.6, 1.2)], np.float32)
    return (veil + rim + reflex).astype(np.float32) * colour[:, None, None]


def grain(rng: np.random.Generator, size: int) -> Array:
    """Noise `(3, size, size)` of deviation about 1, partly common to the colours, as after demosaicing."""
    own = rng.standard_normal((3, size, size), dtype=np.float32)
    own[[0, 2]] += 0.8 * own[1]
    return own * np.array([0.8, 0.9, 0.9], np.float32)[:, None, None]


@dataclass(frozen=True)
class Shot:
    """One exposure: its `stray` light and `noise` `(3, size, size)`, and the `frame` `(size, size)` of the camera."""

    camera: Camera
    canvas: Canvas
    stray: Array
    noise: Array
    frame: Array

    def expose(self, scene: Array) -> Array:
        """The picture `(3, size, size)` in [0, 255] of a `scene` in camera values."""
        sigma = self.camera.sharpness / self.canvas.px
        picture = ndimage.gaussian_filter(scene, (0, sigma, sigma), mode="nearest", truncate=3.0)
        picture += self.stray
        picture += self.camera.grain * self.noise * np.sqrt(np.maximum(picture, 4.0) * np.float32(1 / 110))
        bright = picture > KNEE
        picture[bright] = 255 - (255 - KNEE) * np.exp((KNEE - picture[bright]) / (255 - KNEE))
        return np.clip(picture, 0, 255) * self.frame
