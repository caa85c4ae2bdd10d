"""The healthy chest as line integrals: how much tissue, air and bone lies along each ray of a frontal film.

Lengths are in half image widths (1 is about 190 mm); attenuation is in water equivalents of the same unit. `u` runs
across the patient (positive to the patient's left, the viewer's right), `v` runs down.
"""

from dataclasses import dataclass

import numpy as np

from counterscan.data.phantoms import fields

Array = np.ndarray
AERATION = 0.72  # share of an inflated lung's depth that is air rather than tissue and blood
HABITUS = {"slim": (0.07, 0.98, 0.92), "average": (0.11, 1.10, 1.0), "large": (0.17, 1.27, 1.04)}  # wall, depth, width


@dataclass(frozen=True)
class Build:
    """The numbers that make one patient, all drawn before any pixel is."""

    habitus: str
    wall: float
    depth: float
    half_width: float
    apex: float
    widest: float
    domes: tuple[float, float]  # height of the diaphragm on the viewer's left and right
    dome_drop: float
    midline: float
    tilt: float
    zoom: float
    centre: tuple[float, float]
    ratio: float  # cardiothoracic
    rib_tilt: float
    pitch: float
    bone: float
    vessels: float
    breast: float


@dataclass(frozen=True)
class Anatomy:
    """A healthy chest; every array is `(size, size)` float32."""

    build: Build
    u: Array
    v: Array
    across: Array  # 0 at the midline, 1 at the inner chest wall
    base: Array  # attenuation of all that is not lung
    lung: Array  # depth of lung where the heart leaves it room
    heart: Array  # depth that heart and mediastinum take from the lung
    silhouette: Array  # heart alone, signed distance
    vessels: Array  # depth of blood in the lung vessels
    veil: Array  # texture of the lung, about 1

    @property
    def size(self) -> int:
        return len(self.u)

    @property
    def domes(self) -> Array:
        """The height `v` of the diaphragm under each pixel's column."""
        return diaphragm(self.build, self.u)


def draw_build(rng: np.random.Generator) -> Build:
    """Draw a patient and how they stand in front of the detector."""
    habitus = str(rng.choice(list(HABITUS), p=[0.28, 0.5, 0.22]))
    wall, depth, width = HABITUS[habitus]
    right = rng.uniform(0.32, 0.54)
    return Build(
        habitus=habitus,
        wall=wall * rng.uniform(0.85, 1.2),
        depth=depth * rng.uniform(0.95, 1.06),
        half_width=rng.uniform(0.68, 0.76) * width,
        apex=rng.uniform(-0.80, -0.70),
        widest=right - rng.uniform(0.0, 0.12),
        domes=(right, right + rng.uniform(0.0, 0.07)),
        dome_drop=rng.uniform(0.15, 0.25),
        midline=rng.normal(0.0, 0.012),
        tilt=rng.normal(0.0, 0.03),
        zoom=rng.uniform(0.97, 1.13),
        centre=(rng.normal(0.03, 0.03), rng.normal(0.0, 0.025)),
        ratio=rng.uniform(0.42, 0.50),
        rib_tilt=rng.uniform(0.16, 0.26),
        pitch=rng.uniform(0.125, 0.142),
        bone=rng.uniform(0.7, 1.25),
        vessels=rng.uniform(1.35, 1.9),
        breast=rng.uniform(0.08, 0.2) if rng.random() < 0.4 else 0.0,
    )


def draw(rng: np.random.Generator, size: int) -> Anatomy:
    """Draw a healthy chest."""
    build = draw_build(rng)
    u, v = patient_frame(build, size)
    across = np.abs(u - 0.4 * build.midline) / cage(build, v)
    mediastinum = _mediastinum(rng, build, u, v)
    outline = heart_outline(build, build.ratio, 0.5, u, v)
    base = _body(rng, build, u, v) + _bones(rng, build, u, v, across) + _airways(rng, build, u, v)
    return Anatomy(
        build=build,
        u=u,
        v=v,
        across=across,
        base=base - _gas(rng, build, u, v),
        lung=_lung(build, u, v, across),
        heart=np.maximum(mediastinum, heart_depth(build, outline)),
        silhouette=outline,
        vessels=_vessels(rng, build, size),
        veil=1 + 0.025 * fields.smooth_field(rng, size, 6) + 0.03 * fields.smooth_field(rng, size, 28),
    )


def patient_frame(build: Build, size: int) -> tuple[Array, Array]:
    """Coordinates `(u, v)` of every pixel in the frame of the patient, who leans and stands off centre."""
    y, x = fields.grid(size)
    cosine, sine = np.cos(build.tilt) / build.zoom, np.sin(build.tilt) / build.zoom
    dy, dx = y - build.centre[0], x - build.centre[1]
    return (cosine * dx + sine * dy).astype(np.float32), (cosine * dy - sine * dx).astype(np.float32)


def to_pixels(build: Build, u: Array, v: Array, size: int) -> tuple[Array, Array]:
    """Where `(u, v)` lies in the image, as fractional `(row, column)`."""
    cosine, sine = np.cos(build.tilt) * build.zoom, np.sin(build.tilt) * build.zoom
    x, y = cosine * u - sine * v + build.centre[1], sine * u + cosine * v + build.centre[0]
    return (y + 1) * size / 2 - 0.5, (x + 1) * size / 2 - 0.5


def cage(build: Build, v: Array) -> Array:
    """Half the inner width of the rib cage at height `v`."""
    up = np.clip((build.widest - v) / (build.widest - build.apex + 0.02), 0.0, 1.0)
    down = np.clip((v - build.widest) / 0.5, 0.0, 1.5)
    return build.half_width * (0.3 + 0.7 * np.sqrt(1 - up * up * (0.3 + 0.7 * up)) - 0.05 * down**2)


def diaphragm(build: Build, u: Array | np.float32) -> Array:
    """Height `v` of the diaphragm in column `u`: two domes that fall off steeply towards the side walls."""
    x = np.abs(u)
    top = np.where(u < 0, np.float32(build.domes[0]), np.float32(build.domes[1]))
    lateral = np.clip((x - 0.27) / (build.half_width - 0.27), 0.0, 1.3)
    medial = np.clip((0.27 - x) / 0.27, 0.0, 1.0)
    return top + build.dome_drop * lateral**2 * (0.7 + 0.45 * lateral**2) + 0.09 * medial**2


def ramp(t: Array) -> Array:
    """A smooth step from 0 at `t` = 0 to 1 at `t` = 1."""
    t = np.minimum(np.maximum(t, 0.0), 1.0)
    return t * t * (3 - 2 * t)


def dome(square: Array) -> Array:
    """Chord through a ball of radius 1 where `square` is the squared distance from its axis."""
    return np.sqrt(np.maximum(1 - square, 0.0))


def slab(square: Array) -> Array:
    """Like `dome`, but flatter on top and steeper at the rim."""
    return np.sqrt(dome(square))


def _fourth(x: Array) -> Array:
    square = x * x
    return square * square


def _lung(build: Build, u: Array, v: Array, across: Array) -> Array:
    """Depth of both lungs before heart and mediastinum."""
    x = np.abs(u - build.midline)
    rise = np.clip((v - build.apex) / 0.5, 0.0, 1.0)
    inner = 0.085 + 0.14 * np.clip(1 - (v - build.apex) / 0.3, 0.0, 1.0) ** 2
    below = diaphragm(build, u) - v
    floor = 0.86 * ramp(below / 0.022 + 0.5) + 0.14 * ramp((below + 0.13) / 0.13)
    apex = build.apex + 1.1 * (x - 0.27) ** 2
    top = np.sqrt(np.clip((v - apex) / 0.09, 0.0, 1.0))
    depth = 0.80 * build.depth * (0.55 + 0.45 * np.sqrt(rise))
    return (depth * dome(across**2) * ramp((x - inner) / 0.05) * floor * top).astype(np.float32)


def heart_outline(build: Build, ratio: float, leftward: float, u: Array, v: Array) -> Array:
    """Signed distance to a heart of cardiothoracic `ratio`, a share `leftward` of whose growth is to the left."""
    normal = 2 * build.half_width * min(ratio, 0.46)
    growth = 2 * build.half_width * max(ratio - 0.46, 0.0)
    left = 0.69 * normal + max(leftward, 0.5) * growth
    right = 0.31 * normal + (1 - max(leftward, 0.5)) * growth
    floor, mid = build.domes[1], build.midline
    high = 0.30 + 0.25 * growth
    atrium = fields.ellipse(v, u, (floor - 0.16, mid + 0.02), (high * 0.92, right + 0.02))
    ventricle = fields.ellipse(v, u, (floor - 0.11 - 0.1 * growth, mid + left * 0.36), (high * 0.8, left * 0.70), 0.5)
    trunk = (0.28 + 0.1 * growth, 0.11 + 0.17 * left)
    outflow = fields.ellipse(v, u, (floor - 0.34, mid + 0.05 + 0.12 * left), trunk, 0.2)
    return union(union(atrium, ventricle, 0.08), outflow, 0.16).astype(np.float32)


def union(a: Array, b: Array, blend: float) -> Array:
    """The union of two signed distances with its corners rounded over `blend`."""
    h = np.clip(blend - np.abs(a - b), 0.0, None)
    return np.minimum(a, b) - h * h / (4 * blend)


def heart_depth(build: Build, outline: Array) -> Array:
    """How much lung the heart displaces: little at its rim, most of the chest's depth from 2 cm inside on."""
    return 0.72 * build.depth * np.sqrt(np.clip(-outline / 0.06, 0.0, 1.0))


def _mediastinum(rng: np.random.Generator, build: Build, u: Array, v: Array) -> Array:
    """Depth taken by the great vessels, the aortic knob, the descending aorta and the hila."""
    mid, knob = build.midline, rng.uniform(0.06, 0.088)
    arch = -0.27 + rng.normal(0, 0.025)
    size = build.depth * 0.5
    ball = size * dome(((u - mid - 0.105) / knob) ** 2 + ((v - arch) / (knob * 1.15)) ** 2)
    aorta = 0.2 * dome(((u - mid - 0.10) / (0.075 + 0.02 * rng.random())) ** 2) * ramp((v - arch) / 0.1)
    cava = size * dome(((u - mid + 0.09) / rng.uniform(0.05, 0.075)) ** 2) * ramp((v - arch + 0.45) / 0.3)
    core = size * 1.5 * dome(((u - mid) / rng.uniform(0.10, 0.125)) ** 2)
    hila: Array | int = 0
    for side, height in ((-1, 0.0), (1, -0.04)):
        square = ((u - mid - side * 0.165) / 0.075) ** 2 + ((v - height + 0.08) / 0.13) ** 2
        hila = hila + rng.uniform(0.18, 0.30) * np.maximum(1 - square, 0.0)
    return np.maximum(np.maximum(ball, cava), np.maximum(core, aorta)) + hila


def _body(rng: np.random.Generator, build: Build, u: Array, v: Array) -> Array:
    """Soft tissue: trunk, shoulders, neck, arms and breasts."""
    x = np.abs(u)
    neck = 1.1 * np.exp(-((x / rng.uniform(0.26, 0.33)) ** 2))
    shoulder = rng.uniform(-0.98, -0.84) - neck + 0.8 * np.clip(x - 0.75, 0, 1) ** 2
    top = np.sqrt(1 - (1 - np.clip((v - shoulder) / 0.50, 0.0, 1.0)) ** 2)
    flank = build.half_width * (1.0 + 0.05 * ramp(v)) + build.wall + 0.45 * ramp((0.05 - v) / 0.6)
    trunk = build.depth * (0.80 + 0.29 * ramp((v + 0.4) / 0.9)) * dome(_fourth(x / flank))
    start, lean, girth = build.half_width + 0.10 + build.wall, rng.uniform(0.05, 0.35), rng.uniform(0.22, 0.30)
    axis = np.abs(x - start - lean * (v + 0.6)) / girth
    arm = 0.66 * build.depth * dome(axis**2) * ramp((v + 1.0) / 0.3)
    body = np.maximum(trunk, arm) * top
    fat = 1 + 0.022 * fields.smooth_field(rng, len(u), 8)
    return body * fat + _breasts(rng, build, u, v)


def _breasts(rng: np.random.Generator, build: Build, u: Array, v: Array) -> Array | float:
    if not build.breast:
        return 0.0
    low, wide = rng.uniform(0.18, 0.36), rng.uniform(0.26, 0.33)
    square = ((np.abs(u) - build.half_width * 0.66) / wide) ** 2
    return build.breast * dome(square + (np.clip(v - low, 0, None) / 0.2) ** 2 + (np.clip(low - v, 0, None) / 0.5) ** 2)


def _bones(rng: np.random.Generator, build: Build, u: Array, v: Array, across: Array) -> Array:
    spine = _spine(rng, build, u, v)
    return build.bone * (_ribs(rng, build, u, v, across) + spine + _girdle(rng, build, u, v))


def _shell(t: Array) -> Array:
    """Depth of the cortex of a hollow bone across its width, `t` in [-1, 1], brightest near its rims."""
    return dome(t * t) - 0.72 * dome((t / 0.8) ** 2)


def _ribs(rng: np.random.Generator, build: Build, u: Array, v: Array, across: Array) -> Array:
    """Ribs as hoops that lean forward: the back half is seen high and flat, the front half low and steep."""
    reach = dome(np.minimum(across, 1.0) ** 2)
    offset = rng.normal(0, 0.05, (2, 24)).astype(np.float32)
    weight = rng.uniform(0.12, 0.19, (2, 24)).astype(np.float32)
    start = build.apex + 0.02 + build.rib_tilt
    edge = (1 + 0.5 * _fourth(across)) * (1 - 0.45 * ramp((v - diaphragm(build, u)) / 0.1))
    inside = ramp((1.05 - across) / 0.05) * edge
    slope = [0.05 * rng.normal() for _ in range(2)]
    result = 0.0
    for front in (0, 1):
        bend = -build.rib_tilt * reach * (1.0 - 2.5 * front) * (1 + slope[front] * np.sign(u))
        phase = (v - bend - start) / build.pitch + 1.0
        phase = np.clip(phase, 0, 23.9)
        index = phase.astype(np.intp)
        wide = 0.23 + 0.03 * front
        t = (phase - np.floor(phase) - 0.5 - offset[front].take(index)) / wide
        fade = ramp((np.abs(u) - 0.055) / 0.03) if not front else 0.6 * ramp((across - 0.42) / 0.35) * (index < 8)
        result = result + _shell(t) * weight[front].take(index) * inside * fade * (phase > 0)
    return result + 0.035 * dome(((across - 1.03) / 0.05) ** 2) * ramp((v - build.apex - 0.1) / 0.2)


def _spine(rng: np.random.Generator, build: Build, u: Array, v: Array) -> Array:
    curve = 0.015 * np.sin(2.2 * v + rng.uniform(0, 6.28)) * rng.uniform(0, 1)
    x = (u - 0.3 * build.midline - curve) / (0.085 + 0.012 * v)
    phase = (v + rng.random()) / 0.118
    disc = np.abs(phase - np.floor(phase) - 0.5) * 2
    body = slab(x * x) * (0.62 + 0.38 * ramp((1 - disc) / 0.35))
    pedicle = np.exp(-(((np.abs(x) - 0.62) / 0.17) ** 2) - ((disc - 0.35) / 0.35) ** 2)
    process = np.exp(-((x / 0.16) ** 2) - ((disc - 0.2) / 0.5) ** 2)
    return (0.12 * body + 0.05 * pedicle + 0.04 * process) * (1 - 0.35 * ramp((v - 0.1) / 0.5))


def _girdle(rng: np.random.Generator, build: Build, u: Array, v: Array) -> Array:
    """Clavicles, shoulder blades and the heads of the upper arms."""
    x, wide = np.abs(u - 1.5 * build.midline * np.sign(u)), build.half_width
    lift, low = rng.normal(0, 0.03, 2).astype(np.float32), build.apex + rng.uniform(0.16, 0.27)
    s = np.clip((x - 0.06) / (wide * 1.05), 0.0, 1.2)
    line = low - rng.uniform(0.12, 0.22) * s + 0.035 * np.sin(6.0 * s) + np.where(u < 0, *lift) * s
    collar = 0.26 * _shell((v - line) / (0.030 + 0.012 * _fourth(1 - s)))
    collar = collar * ramp((x - 0.06) / 0.03) * ramp((1.15 - s) / 0.25)
    edge = wide * rng.uniform(0.84, 1.0) + 0.12 * (v + 0.3) ** 2 - 0.10 * (v + 0.3)
    plate = ramp((v + 0.72) / 0.12) * ramp((0.02 - v) / 0.25) * ramp((edge + 0.3 - x) / 0.12)
    blade = 0.045 * ramp((x - edge) / 0.02) * plate
    border = 0.05 * np.exp(-(((x - edge) / 0.014) ** 2)) * ramp((v + 0.66) / 0.1) * ramp((0.02 - v) / 0.2)
    head = 0.07 * dome(((x - wide - 0.24) / 0.13) ** 2 + ((v + 0.60) / 0.15) ** 2)
    shaft = 0.16 * _shell((x - wide - 0.24 - 0.22 * (v + 0.5)) / 0.062) * ramp((v + 0.52) / 0.06)
    return collar + blade + border + head + shaft


def _airways(rng: np.random.Generator, build: Build, u: Array, v: Array) -> Array:
    """The windpipe and the two main bronchi: less tissue, so negative."""
    mid, fork = build.midline - 0.008, -0.16 + rng.normal(0, 0.02)
    pipe = dome(((u - mid - 0.012 * (v + 0.6)) / rng.uniform(0.040, 0.052)) ** 2) * ramp((fork - v) / 0.05)
    along = np.clip(v - fork + 0.03, 0.0, 0.2)
    branch = dome(((np.abs(u - mid) - along * np.where(u < mid, np.float32(0.7), np.float32(1.0))) / 0.032) ** 2)
    branch = branch * ramp((v - fork + 0.05) / 0.04) * ramp((fork + 0.16 - v) / 0.05)
    return -0.15 * np.maximum(pipe, 0.5 * branch)


def _gas(rng: np.random.Generator, build: Build, u: Array, v: Array) -> Array:
    """The gastric bubble under the left dome, often with a fluid level, and a little gas in the bowel."""
    centre = rng.uniform(0.26, 0.42)
    high, wide = rng.uniform(0.04, 0.10), rng.uniform(0.09, 0.17)
    roof = diaphragm(build, u) + 0.03 + high
    loops = fields.smooth_field(rng, len(u), 10)
    square = ((v - roof) / high) ** 2 + ((u - centre) / wide) ** 2 + 0.15 * loops
    level = ramp((diaphragm(build, np.float32(centre)) + 0.03 + rng.uniform(1.0, 2.0) * high - v) / 0.02)
    bowel = np.clip(loops - 1.0, 0.0, 1.0) * ramp((v - roof - 0.1) / 0.15)
    return rng.uniform(0.12, 0.38) * dome(square) * level + 0.10 * bowel


def tree(rng: np.random.Generator, build: Build, levels: int, points: int) -> list[Array]:
    """Both lungs' vessel trees: for each level `(4, n)`, the points' u, v, radius and distance to the next."""
    first = np.array([-1.35, -0.85, -0.4, 0.1, 0.55, 0.95, 1.3], np.float32)
    angle = np.concatenate([np.pi - first, first]) + rng.normal(0, 0.12, 14)
    u = np.repeat([-0.15, 0.15], 7) + build.midline
    v = np.repeat([-0.03, -0.07], 7) + 0.08 * np.sin(angle)
    length = rng.uniform(0.22, 0.36, 14)
    radius = rng.uniform(0.017, 0.024, 14) * build.vessels
    result = []
    for level in range(levels):
        here = max(8, int(points * 0.72**level))
        s = np.linspace(0, 1, here)
        turn = angle[:, None] + rng.normal(0, 0.35, len(angle))[:, None] * s / 2
        along = length[:, None] * s
        at_u, at_v = u[:, None] + along * np.cos(turn), v[:, None] + along * np.sin(turn)
        steps = np.broadcast_to(length[:, None] / (here - 1), at_u.shape)
        curves = np.stack([at_u, at_v, radius[:, None] * (1 - 0.35 * s), steps])
        result.append(curves.reshape(4, -1).astype(np.float32))
        where = np.array([here // 2, here - 1, here - 1])
        spread = np.array([0.6, -0.35, 0.35]) + rng.normal(0, 0.16, (len(angle), 3))
        spread[:, 0] *= rng.choice([-1, 1], len(angle))
        u, v = at_u[:, where].ravel(), at_v[:, where].ravel()
        angle = (angle[:, None] + spread).ravel()
        length = np.repeat(length * 0.66, 3) * rng.uniform(0.7, 1.2, len(u))
        radius = (radius[:, None] * np.array([0.58, 0.66, 0.62])).ravel()
    return result


def splat(build: Build, size: int, curves: Array) -> Array:
    """Depth `(size, size)` of tubes along `curves` `(4, n)`: each point's cross-section is shared by four pixels."""
    row, column = to_pixels(build, curves[0], curves[1], size)
    keep = (row > 0) & (row < size - 2) & (column > 0) & (column < size - 2)
    row, column = row[keep], column[keep]
    pixels, steps = curves[2:, keep] * (size / 2)
    mass = np.pi * pixels**2 * steps * (2 / size)
    i, j = row.astype(np.intp), column.astype(np.intp)
    a, b = row - i, column - j
    at = np.concatenate([i * size + j, i * size + j + 1, (i + 1) * size + j, (i + 1) * size + j + 1])
    share = np.concatenate([(1 - a) * (1 - b), (1 - a) * b, a * (1 - b), a * b]) * np.tile(mass, 4)
    image = np.bincount(at, share, size * size).reshape(size, size).astype(np.float32)
    return fields.blur(image, max(0.35, 0.55 * float(pixels.mean() if len(pixels) else 1)))


def _vessels(rng: np.random.Generator, build: Build, size: int) -> Array:
    levels = tree(rng, build, 4, max(16, size // 6))
    classes = (levels[0], levels[1], np.concatenate(levels[2:], axis=1))  # of calibre, which sets the blur
    return np.sum([splat(build, size, curves) for curves in classes], axis=0)
