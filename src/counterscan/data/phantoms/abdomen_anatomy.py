"""The healthy abdomen at kidney level: how each organ of a patient is painted, from the skin inwards."""

import numpy as np

from counterscan.data.phantoms.abdomen_canvas import Canvas, Point, tube
from counterscan.data.phantoms.abdomen_patient import Kidney, Patient, kidney
from counterscan.data.phantoms.fields import Array, ellipse, smooth_field, soft

ANGLES = 1024


def paint(rng: np.random.Generator, canvas: Canvas, body: Patient) -> tuple[Kidney, Kidney]:
    """Paint the whole healthy abdomen; the kidneys are told, as lesions grow from them (patient's right one first)."""
    cavity = _trunk(rng, canvas, body)
    _bowel(rng, canvas, body, cavity)
    _liver(rng, canvas, body, cavity)
    _left_upper_organs(rng, canvas, body, cavity)
    kidneys = kidney(rng, body, -1), kidney(rng, body, 1)
    for one in kidneys:
        halo = tuple(radius + 2 + 9 * body.visceral for radius in one.radii)
        canvas.blob(one.centre, (halo[1], halo[0]), _fat(canvas, body), angle=one.side * one.turn, clip=cavity)
    vessels = _great_vessels(rng, canvas, body)
    _psoas(rng, canvas, body)
    _spine(rng, canvas, body)
    canvas.crowd = ((canvas.hu > 0) | (canvas.hu < -200)).astype(np.float32)
    for one in kidneys:
        _paint_kidney(rng, canvas, body, one)
        _renal_vessels(rng, canvas, body, one, vessels)
    return kidneys


# Trunk -------------------------------------------------------------------------------------------------------------


def _curves(rng: np.random.Generator, body: Patient) -> tuple[Array, Array, Array]:
    """Radius in mm, at `ANGLES` angles, of the skin, of the muscles' outside and of the cavity."""
    angle = np.linspace(-np.pi, np.pi, ANGLES, endpoint=False, dtype=np.float32)
    power = rng.uniform(2.1, 2.5)
    depth = np.where(angle < 0, body.depth * rng.uniform(0.94, 1.08), body.depth * rng.uniform(0.96, 1.02))
    cosine, sine = np.abs(np.cos(angle)), np.abs(np.sin(angle))
    muscle = ((cosine / body.width) ** power + (sine / depth) ** power) ** (-1 / power)
    front, back = np.clip(-np.sin(angle), 0, 1) ** 2, np.clip(np.sin(angle), 0, 1) ** 2
    groove = np.exp(-(((angle - np.pi / 2) / 0.09) ** 2))
    fat = body.fat * (cosine**2 + front * rng.uniform(0.5, 1.1) + back * rng.uniform(0.6, 1.2)) + 3 * back
    wall = rng.uniform(7, 10.5) + 3.5 * cosine**2 + 30 * np.exp(-(((angle - np.pi / 2) / 0.6) ** 4))
    alba = np.exp(-(((angle + np.pi / 2) / 0.06) ** 2))
    return muscle + fat - 5 * groove, muscle - 3 * groove, muscle - wall * (1 - 0.7 * alba)


def _trunk(rng: np.random.Generator, canvas: Canvas, body: Patient) -> Array:
    """Skin, fat, muscle and ribs; answers the signed distance `(size, size)` to the cavity."""
    everywhere = (slice(None), slice(None))
    at = ((np.arctan2(canvas.y, canvas.x) + np.pi) * (ANGLES / (2 * np.pi))).astype(np.int32) % ANGLES
    radius = np.hypot(canvas.y, canvas.x)
    skin, muscle, cavity = (radius - curve.astype(np.float32)[at] for curve in _curves(rng, body))
    _table(rng, canvas, body)
    fat = _fat(canvas, body)
    canvas.paint(everywhere, skin, 30.0)
    canvas.paint(everywhere, skin + 2.2, fat)
    meat = body.hu["muscle"] + 4 * canvas.mottle
    depth = np.clip(muscle / np.minimum(cavity - muscle, -1e-3) * -1, -1, 0)  # -1 at the cavity, 0 outside
    layers = np.clip(1 - np.abs(np.abs(depth + 0.5) - 0.17) / 0.06, 0, 1) * (np.abs(canvas.x) > 0.6 * body.width)
    streaks = np.clip(1.3 * canvas.mottle - 1.5, 0, 1) * (canvas.y > 0.3 * body.depth)
    meat -= (110 * np.maximum(0.7 * layers, streaks * (0.4 + body.visceral))).astype(np.float32)
    canvas.paint(everywhere, muscle + 0.6 * canvas.edge, meat)
    canvas.hard[:] = soft(-cavity, 2 * canvas.px)
    strands = np.clip(1 - np.abs(smooth_field(rng, canvas.size, 13)) / 0.13, 0, 1)
    strands *= np.clip(0.8 * smooth_field(rng, canvas.size, 6) + 0.4, 0, 1) * (canvas.y < 0.15 * body.depth)
    canvas.paint(everywhere, cavity, fat + strands * (body.hu["cava"] + 40) * 0.8)
    _mesentery(rng, canvas, body)
    _ribs(rng, canvas, body, cavity)
    return cavity


def _mesentery(rng: np.random.Generator, canvas: Canvas, body: Patient) -> None:
    """Small vessels that fan out from the root towards the bowel."""
    for _ in range(int(rng.integers(4, 10))):
        heading, reach = rng.uniform(np.pi, 2 * np.pi), rng.uniform(18, 0.75 * body.depth)
        y, x = reach * np.sin(heading) * 0.9, 1.25 * reach * np.cos(heading) + 6
        length, turn = rng.exponential(7), heading + rng.normal(0, 0.5)
        end = y + length * np.sin(turn), x + length * np.cos(turn)
        canvas.stroke(((y, x), end), rng.uniform(0.9, 1.9), body.hu["cava"] + 10, waver=0.4)


def _fat(canvas: Canvas, body: Patient) -> Array:
    return body.hu["fat"] + 7 * canvas.mottle


def _table(rng: np.random.Generator, canvas: Canvas, body: Patient) -> None:
    """The curved table top, seen in two of three."""
    if rng.random() < 0.35:
        return
    sag = canvas.x**2 / rng.uniform(700, 1600)
    top = body.depth + body.fat * 0.9 + rng.uniform(6, 14)
    for gap, value in ((0, rng.uniform(150, 500)), (rng.uniform(14, 26), rng.uniform(-200, 0))):
        line = np.abs(canvas.y - top - gap + sag - 3) - 1.8
        canvas.paint((slice(None), slice(None)), np.maximum(line, np.abs(canvas.x) - 0.85 * body.width), value)


def _ribs(rng: np.random.Generator, canvas: Canvas, body: Patient, cavity: Array) -> None:
    """Ribs cut obliquely, within the wall at the sides; fewer at a low level."""
    for side in (-1, 1):
        angle = rng.uniform(0.5, 0.75)
        for _ in range(int(rng.integers(1, 3) + 3 * body.level)):
            reach = body.width * 0.955 / np.sqrt(np.cos(angle) ** 2 + (np.sin(angle) * body.width / body.depth) ** 2)
            centre = float(reach * np.sin(angle)), float(side * reach * np.cos(angle))
            lean = side * angle * body.width / body.depth
            long = rng.uniform(6, 11)
            canvas.blob(centre, (long, 3.4), rng.uniform(450, 800), angle=lean, waver=0.3, hard=1)
            canvas.blob(centre, (long - 2, 1.5), rng.uniform(180, 330), angle=lean, waver=0.3)
            angle -= rng.uniform(0.28, 0.42)


# Bowel, liver and what lies on the left ---------------------------------------------------------------------------


def _bowel(rng: np.random.Generator, canvas: Canvas, body: Patient, cavity: Array) -> None:
    """Loops in the front half, then the colon at either side."""
    filled = rng.random() < 0.15  # positive contrast medium, drunk before the scan
    for _ in range(int(rng.integers(8, 15))):
        y = -body.depth * rng.uniform(0.0, 0.8)
        x = body.width * rng.uniform(-0.72, 0.75)
        _loop(rng, canvas, body, cavity, (y, x), rng.uniform(8, 15), filled)
    for _ in range(int(rng.integers(1, 4))):
        y, x = -body.depth * rng.uniform(0.5, 0.75), body.width * rng.uniform(-0.4, 0.6)
        _colon(rng, canvas, body, cavity, (y, x))
    if body.level < 0.5:
        _colon(rng, canvas, body, cavity, (-0.05 * body.depth + rng.normal(0, 8), -0.7 * body.width))
    _colon(rng, canvas, body, cavity, (rng.normal(0, 10) - 5, 0.76 * body.width))


def _loop(rng, canvas: Canvas, body: Patient, cavity: Array, at: Point, radius: float, filled: bool) -> None:
    """A bent piece of small bowel with an enhancing wall, collapsed or filled."""
    turn, bend = rng.uniform(0, np.pi), rng.uniform(-0.9, 0.9)
    points = [at]
    for step in range(int(rng.integers(1, 4))):
        y, x = points[-1]
        heading = turn + bend * step
        points.append((y + 14 * np.sin(heading) * 0.7, x + 14 * np.cos(heading)))
    box = canvas.box(at, 44 + radius)
    distance = np.maximum(tube(canvas.y[box], canvas.x[box], points) - radius + 1.6 * canvas.edge[box], cavity[box] + 2)
    canvas.paint(box, distance, body.hu["wall"])
    inside = rng.uniform(180, 320) if filled and rng.random() < 0.7 else rng.uniform(5, 45)
    canvas.paint(box, distance + rng.uniform(2.2, 4.5), inside + 10 * canvas.mottle[box])
    if rng.random() < 0.22:
        level = canvas.y[box] - at[0] + rng.uniform(0, 6)  # gas collects in front, above a flat fluid level
        canvas.paint(box, np.maximum(distance + 3, level), -880.0)


def _colon(rng, canvas: Canvas, body: Patient, cavity: Array, at: Point) -> None:
    """A piece of colon with stool, gas or both."""
    radii = rng.uniform(13, 21), rng.uniform(14, 24)
    box = canvas.box(at, max(radii))
    distance = ellipse(canvas.y[box], canvas.x[box], at, radii, rng.uniform(-1, 1)) + 2.2 * canvas.edge[box]
    distance = np.maximum(distance, cavity[box] + 1.5)
    canvas.paint(box, distance, body.hu["wall"] - 15)
    stool = np.clip(20 + 45 * canvas.edge[box] - 260 * np.clip(canvas.mottle[box] - 0.4, 0, 2), -700, 90)
    canvas.paint(box, distance + 2.5, stool)
    if rng.random() < 0.6:
        level = canvas.y[box] - at[0] + rng.normal(0, 7) + 2 * canvas.mottle[box]
        canvas.paint(box, np.maximum(distance + 2.8, level), -930.0)


def _liver(rng: np.random.Generator, canvas: Canvas, body: Patient, cavity: Array) -> None:
    """The liver leans on the wall on the patient's right; high sections show more, and the left lobe."""
    value = body.hu["liver"] - (25 * rng.random() if rng.random() < 0.25 else 0)  # some are fatty
    clip = cavity + 1.5
    size = 0.55 + 0.5 * body.level + rng.normal(0, 0.06)
    centre = -(0.02 + 0.12 * body.level) * body.depth, -body.width * (0.86 - 0.2 * body.level)
    radii = body.depth * 0.74 * size, body.width * 0.46 * size
    canvas.blob(centre, radii, value, angle=rng.normal(0.1, 0.12), waver=0.9, texture=4, clip=clip)
    if body.level > 0.55:
        lobe = (-0.55 * body.depth, -body.width * rng.uniform(0.1, 0.25))
        canvas.blob(lobe, (0.36 * body.depth, body.width * 0.45), value, waver=1.0, texture=4, clip=clip)
    _liver_vessels(rng, canvas, body, centre, radii, cavity)
    if body.level < 0.55 and rng.random() < 0.5:
        gall = centre[0] - 0.45 * radii[0], centre[1] + radii[1] * rng.uniform(0.75, 0.95)
        canvas.blob(gall, (rng.uniform(12, 22), rng.uniform(9, 14)), rng.uniform(5, 18), angle=-0.4, clip=clip)


def _liver_vessels(rng, canvas: Canvas, body: Patient, centre: Point, radii: Point, cavity: Array) -> None:
    """Branches that run out from the porta, thinner the further they start from it."""
    root = centre[0] - 0.1 * radii[0], centre[1] + 0.55 * radii[1]
    for _ in range(int(3 + 5 * body.level)):
        heading, reach = np.pi + rng.uniform(-1.3, 1.3), rng.uniform(0.1, 0.9)
        points = [(root[0] + reach * radii[0] * np.sin(heading), root[1] + reach * radii[1] * np.cos(heading))]
        length, bend = rng.uniform(4, 11), rng.normal(0, 0.4)
        for step in range(2):
            turn = heading + bend * (step + 0.5)
            points.append((points[-1][0] + length * np.sin(turn), points[-1][1] + length * np.cos(turn)))
        row, column = (int(min(max(value, 0), canvas.size - 1)) for value in canvas.pixel(points[-1]))
        if cavity[row, column] < -9:
            canvas.stroke(points, rng.uniform(1.6, 3.2) * (1.1 - 0.6 * reach), body.hu["portal"], waver=0.3)


def _left_upper_organs(rng: np.random.Generator, canvas: Canvas, body: Patient, cavity: Array) -> None:
    """Spleen and stomach at a high level, the pancreas' head and the duodenum at any."""
    if body.level > 0.45:
        centre = body.depth * rng.uniform(0.05, 0.25), body.width * rng.uniform(0.82, 0.9)
        radii = body.depth * (0.2 + 0.35 * body.level), body.width * rng.uniform(0.18, 0.26)
        canvas.blob(centre, radii, body.hu["spleen"], angle=-0.25, texture=5, clip=cavity + 1.5)
    if body.level > 0.65:
        _colon(rng, canvas, body, cavity, (-0.55 * body.depth, body.width * rng.uniform(0.25, 0.45)))
    y, x = -body.depth * rng.uniform(0.12, 0.22), -rng.uniform(24, 40)
    points = [(y + 6, x), (y - 6, x + 22), (y - 10, x + 44), (y - 4, x + 66)]
    tail = points[: int(rng.integers(2, 5))]
    canvas.stroke(tail, rng.uniform(6, 10), 0.6 * body.hu["liver"] + 0.35 * body.hu["spleen"], waver=3.5)


# Kidneys and great vessels ----------------------------------------------------------------------------------------


def _paint_kidney(rng: np.random.Generator, canvas: Canvas, body: Patient, kidney: Kidney) -> None:
    """Cortex, pyramids, and a sinus of fat with the pelvis and small vessels in it."""
    box = canvas.box(kidney.centre, max(kidney.radii) + 4)
    along, across = kidney.local(canvas.y[box], canvas.x[box])
    outer = (np.hypot(along / kidney.radii[0], across / kidney.radii[1]) - 1) * kidney.radii[1]
    outer += 0.8 * canvas.edge[box]
    sinus = _sinus(kidney, along, across) - 0.8 * canvas.edge[box]
    angle = np.arctan2(across, along - 0.15 * kidney.radii[0])
    pyramids = np.cos(int(rng.integers(5, 9)) * angle + rng.uniform(0, 6) + 0.5 * canvas.edge[box])
    pyramids *= np.minimum(np.hypot(along, across) / 14, 1)  # columns of cortex end before the middle
    inner = np.clip((-outer - rng.uniform(5, 7)) / 3.5, 0, 1) * np.clip(0.8 + pyramids + 0.3 * canvas.mottle[box], 0, 1)
    value = kidney.cortex + inner * (kidney.medulla - kidney.cortex) + 4 * canvas.mottle[box]
    canvas.hard[box] *= 1 - canvas.paint(box, outer, value)
    canvas.paint(box, np.maximum(sinus, outer - 2), body.hu["fat"] + 15)
    turn = kidney.side * kidney.turn
    if kidney.sinus > 0.15:
        pelvis = kidney.place(kidney.radii[0] * rng.uniform(0.3, 0.8), rng.normal(0, 2))
        canvas.blob(pelvis, (rng.uniform(2.5, 5), rng.uniform(4, 9)), rng.uniform(5, 25), angle=turn)


def _sinus(kidney: Kidney, along: Array, across: Array) -> Array:
    """Signed distance (mm) to the sinus and its way out to the hilum."""
    if not kidney.sinus:
        return np.full_like(along, 99.0)
    long, wide = kidney.radii[0] * (0.3 + 0.5 * kidney.sinus), kidney.radii[1] * (0.12 + 0.55 * kidney.sinus)
    offset = 0.3 * kidney.radii[0]
    room = (np.hypot((along - offset) / long, across / wide) - 1) * wide
    return np.minimum(room, np.maximum(np.abs(across) - 0.6 * wide, offset - along))


def _great_vessels(rng: np.random.Generator, canvas: Canvas, body: Patient) -> dict[str, Point]:
    """Aorta, vena cava and the mesenteric pair, each with its calibre; answers where they lie."""
    front = body.depth * 0.28 - 27
    places = {
        "aorta": (front - rng.uniform(2, 7), rng.uniform(4, 14)),
        "cava": (front - rng.uniform(0, 6), -rng.uniform(15, 23)),
    }
    canvas.blob(places["aorta"], (15, 17), _fat(canvas, body), waver=0)
    canvas.blob((places["aorta"][0] - 18, 2), (9, 18), body.hu["fat"] + 10)
    radius = rng.uniform(8.5, 11.5)
    canvas.blob(places["aorta"], (radius, radius), body.hu["aorta"], waver=0.2)
    if rng.random() < 0.3:
        canvas.blob((places["aorta"][0] + radius - 1, places["aorta"][1] + 4), (1.6, 4), 500, waver=0.2)  # plaque
    canvas.blob(places["cava"], (rng.uniform(6, 11), rng.uniform(9, 14)), body.hu["cava"], waver=0.5)
    y, x = places["aorta"][0] - rng.uniform(17, 22), places["aorta"][1] + rng.normal(-2, 3)
    canvas.blob((y, x), (3.8, 3.8), body.hu["aorta"], waver=0.2)
    canvas.blob((y - 2, x - rng.uniform(11, 15)), (5.5, 5.5), body.hu["portal"], waver=0.2)
    return places


def _renal_vessels(rng, canvas: Canvas, body: Patient, kidney: Kidney, vessels: dict[str, Point]) -> None:
    """Vein in front, artery behind, from the great vessels to an open hilum; a section shows pieces of them."""
    if kidney.sinus < 0.2:
        return
    vein, artery = 0.6 * body.hu["cava"] + 0.4 * kidney.cortex, 0.9 * body.hu["aorta"]
    for name, radius, value, lift in (("cava", 3.2, vein, -7), ("aorta", 1.9, artery, 4)):
        gate = kidney.place(kidney.radii[0] * rng.uniform(0.9, 1.15), 0.3 * lift + rng.normal(0, 2))
        deep = kidney.place(kidney.radii[0] * rng.uniform(0.2, 0.5), rng.normal(0, 4))
        y, x = vessels[name]
        x += kidney.side * 7
        middle = (y + gate[0]) / 2 + lift + rng.normal(0, 2), (x + gate[1]) / 2 + rng.normal(0, 3)
        course = [(y, x), middle, gate]
        if name == "cava" and kidney.side > 0:  # the left vein crosses in front of the aorta
            course[0:1] = [(y - 4, x), (vessels["aorta"][0] - 13, vessels["aorta"][1])]
        if rng.random() < 0.45:
            canvas.stroke(course, radius, value, waver=0.6)
        else:
            canvas.stroke(course[-2:], 0.8 * radius, value, waver=0.6)
        canvas.stroke((gate, deep), radius * 0.7, value, waver=0.4)


# Muscles and bones along the back ---------------------------------------------------------------------------------


def _psoas(rng: np.random.Generator, canvas: Canvas, body: Patient) -> None:
    size = rng.uniform(0.8, 1.15) * (1.15 - 0.4 * body.level)
    for side in (-1, 1):
        centre = body.depth * 0.34, side * 32
        canvas.blob(centre, (19 * size, 13 * size), body.hu["muscle"], angle=-0.25 * side, texture=4, hard=1)
        flank = body.depth * 0.56, side * (52 + rng.normal(0, 3))
        canvas.blob(flank, (8, 17), body.hu["muscle"], angle=0.5 * side, texture=4, hard=1)
        _septa(rng, canvas, body, side)


def _septa(rng: np.random.Generator, canvas: Canvas, body: Patient, side: int) -> None:
    """Fat between the muscles of the back: around the erector spinae and between its two columns."""
    centre, radii = (body.depth * 0.72, side * 31.0), (body.depth * 0.2, 27.0)
    box = canvas.box(centre, 32)
    around = ellipse(canvas.y[box], canvas.x[box], centre, radii, 0.15 * side) + canvas.edge[box]
    between = np.maximum(np.abs(canvas.x[box] - side * 30 + 1.5 * canvas.edge[box]) - 0.2, around)
    lines = np.minimum(np.abs(around) - rng.uniform(0, 0.6) - body.visceral, between - body.visceral)
    canvas.paint(box, lines, -60.0 + 20 * canvas.mottle[box], width=1.6)


def _spine(rng: np.random.Generator, canvas: Canvas, body: Patient) -> None:
    """Vertebral body with a cortical rim, canal, pedicles, transverse and spinous processes."""
    y, bone = body.depth * 0.3, rng.uniform(380, 700)
    marrow = rng.uniform(130, 240) + (25 if body.phase != "weakly enhanced" else 0)
    deep, wide = rng.uniform(15, 19), rng.uniform(21, 26)
    canvas.blob((y, 0), (deep, wide), bone, waver=0.5, hard=1)
    canvas.blob((y, 0), (deep - 2.2, wide - 2.4), marrow, waver=0.7, texture=28)
    back = y + deep
    tip = min(back + 46, body.depth * 0.9)
    for side in (-1, 1):
        if rng.random() < 0.75:
            wing = back + 14, side * rng.uniform(24, 40)
            canvas.stroke(((back + 12, side * 13), wing), 3.0, bone * 0.75, waver=0.6)
        canvas.stroke(((back - 3, side * 14), (back + 14, side * 13)), 4.4, bone * 0.85, waver=0.6)
        canvas.stroke(((back + 14, side * 13), (back + 21, 0)), 3.4, bone, waver=0.6)
    canvas.stroke(((back + 20, 0), (tip, rng.normal(0, 1.5))), rng.uniform(2.6, 4), bone * 0.85, waver=0.7)
    canvas.blob((back + 8, 0), (9, 11), -20.0, waver=0.2, hard=1)
    canvas.blob((back + 8, 0), (6.5, 8), 32.0, waver=0.2)
