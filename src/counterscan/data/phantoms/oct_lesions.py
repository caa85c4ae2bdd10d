"""Choroidal neovascularisation, drusen and diabetic macular oedema: each deforms a copy of the patient's layers."""

import numpy as np
from scipy import ndimage

from counterscan.data.phantoms.fields import Array, smooth_field
from counterscan.data.phantoms.oct_anatomy import AT, Eye, Tissue, wave
from counterscan.data.phantoms.oct_scan import Blob, Lesion, cover

KINDS = ("intraretinal_fluid", "subretinal_fluid", "ped", "membrane", "deposits", "foci")
# The least thickness in µm of a layer that its mask counts.
LEAST = {"subretinal_fluid": 9.0, "ped": 18.0, "membrane": 10.0, "deposits": 14.0}


def bump(at: Array, half: float) -> Array:
    """A smooth bump of height 1 at 0, exactly none beyond `half`."""
    return np.maximum(1 - (at / np.float32(half)) ** 2, 0) ** 2


def _fresh(eye: Eye) -> Lesion:
    return Lesion(eye.tissue.copy(), np.ones(eye.size, np.float32))


def _lift(eye: Eye, tissue: Tissue, share: float, reach: float) -> None:
    """What grew below the ONL lifts the layers above by a `share`, smoothed over `reach` µm; those between give way."""
    below = slice(AT["elm"], None)
    lift = tissue.thick[below].sum(0) - eye.tissue.thick[below].sum(0)
    layers = [AT[name] for name in ("onl", "opl", "inl", "ipl")]
    room = 0.6 * tissue.thick[layers].sum(0)
    passed = share * _smooth(eye, lift, reach)
    for _ in range(2):  # what the layers have no room for is passed on as well, as smoothly as can be
        passed += 1.4 * _smooth(eye, np.maximum(lift - passed - room, 0), reach)
    passed[np.abs(passed) < 0.5] = 0  # a tail that nobody sees would only spread the lesion's influence
    spare = lift - passed
    tissue.thick[AT["onl"]] -= np.minimum(spare, 0)
    for layer in layers:
        give = np.clip(spare, 0, 0.6 * tissue.thick[layer])
        tissue.thick[layer] -= give
        spare = spare - give


def _smooth(eye: Eye, curve: Array, reach: float) -> Array:
    return ndimage.gaussian_filter1d(curve, reach / eye.px[1], mode="nearest", truncate=3)


def _thin(tissue: Tissue, where: Array, share: float) -> None:
    """Photoreceptors lose up to `share` of their thickness and of their reflectivity where `where` is 1."""
    rows = slice(AT["elm"], AT["interdigitation"] + 1)
    keep = 1 - np.float32(share) * where
    tissue.thick[rows] *= keep
    tissue.grey[rows] += (1 - keep) * (tissue.grey[AT["onl"]] + 0.06 - tissue.grey[rows])


def _severity(size: float, moderate: float, large: float) -> str:
    return "large" if size >= large else "moderate" if size >= moderate else "small"


# Drusen -----------------------------------------------------------------------------------------------------------


def drusen(rng: np.random.Generator, eye: Eye) -> Lesion:
    """Domes of debris between RPE and Bruch's membrane; the RPE and the ellipsoid zone ride over them."""
    lesion = _fresh(eye)
    tissue, (height, widest) = lesion.tissue, _domes(rng, eye)
    there, share = height > 0, np.clip(height / 110, 0, 1)
    tissue.thick[AT["deposit"]] = height
    tissue.grey[AT["deposit"], there] = rng.uniform(0.38, 0.6)
    tissue.grey[AT["bruch"], there] *= 0.85
    tissue.grey[AT["rpe"]] *= 1 - 0.12 * share
    _thin(tissue, share, 0.5)
    _lift(eye, tissue, 0.3, 160)
    lesion.veil = 1 - np.float32(rng.uniform(0.0, 0.25)) * share
    lesion.facts = {
        "drusen_count": _islands(height > LEAST["deposits"]),
        "drusen_height_um": round(float(height.max())),
        "drusen_width_um": round(widest),
        "severity": _severity(float(height.max()), 70, 100),
    }
    return lesion


def _domes(rng: np.random.Generator, eye: Eye) -> tuple[Array, float]:
    """Height in µm `(size,)` of three to ten drusen about the fovea, some of which run together, and the widest one."""
    height, widest = np.zeros(eye.size, np.float32), 0.0
    span, middle = rng.uniform(600, 1700), eye.fovea + rng.normal(0, 400)
    edge = 0.46 * eye.size * eye.px[1]
    for number in range(int(rng.integers(3, 11))):
        half = float(rng.uniform(90, 230)) if number else float(rng.uniform(170, 300))
        tall = half * float(rng.uniform(0.12, 0.32)) + (14 if number else 26)
        place = middle + span * np.clip(rng.normal(0, 0.7), -1.5, 1.5)
        at = eye.x[eye.column(float(np.clip(place, -edge, edge)))]  # the top falls upon a pixel, at any size
        dome = tall * np.maximum(1 - ((eye.x - at) / np.float32(half)) ** 2, 0) ** np.float32(0.8)
        height = np.maximum(height, dome + 0.3 * np.minimum(height, dome))
        widest = max(widest, 2 * half)
    return height.astype(np.float32), widest


def _islands(there: Array) -> int:
    return int(there[0]) + int(np.count_nonzero(there[1:] & ~there[:-1]))


# Choroidal neovascularisation -------------------------------------------------------------------------------------


def cnv(rng: np.random.Generator, eye: Eye) -> Lesion:
    """A membrane upon a detached pigment epithelium, with fluid under and sometimes within the lifted retina."""
    lesion = _fresh(eye)
    half = float(rng.uniform(550, 1400))
    room = 0.5 * eye.size * eye.px[1] - 1.05 * half
    middle = float(np.clip(eye.fovea + rng.normal(0, 450), -room, room))
    occult = bool(rng.random() < 0.5)  # below the pigment epithelium; otherwise it broke through
    serous = occult and bool(rng.random() < 0.3)
    off = eye.x - np.float32(middle)
    ped, membrane = _detachment(rng, off, half, occult, serous), _membrane(rng, off, half, occult)
    solid = ped + membrane
    dome = float(rng.uniform(0.45, 0.95)) * float(solid.max())
    fluid = dome * bump(off - np.float32(rng.normal(0, 0.25) * half), half * float(rng.uniform(1.15, 1.6)))
    for name, thick in (("deposit", ped), ("membrane", membrane)):
        lesion.tissue.thick[AT[name]] = thick
    if rng.random() < 0.85:  # it fills the angles beside the membrane
        lesion.tissue.thick[AT["fluid"]] = np.maximum(fluid - solid, 0)
    _stain(rng, eye, lesion, serous)
    _lift(eye, lesion.tissue, float(rng.uniform(0.75, 0.95)), 190)
    if rng.random() < 0.4:
        _cysts(rng, eye, lesion, middle, 0.9 * half)
    lesion.under = "ped"
    lesion.facts = {
        "cnv_type": "occult" if occult else "classic",
        "cnv_height_um": round(float(solid.max())),
        "cnv_width_um": round(2 * half),
        "severity": _severity(float(solid.max()), 130, 200),
    }
    return lesion


def _stain(rng: np.random.Generator, eye: Eye, lesion: Lesion, serous: bool) -> None:
    """Reflectivity of a neovascular lesion, of the epithelium and the photoreceptors that it harms, and its shade."""
    tissue = lesion.tissue
    ped, membrane = tissue.thick[AT["deposit"]], tissue.thick[AT["membrane"]]
    tissue.grey[AT["deposit"], ped > 0] = rng.uniform(0.1, 0.16) if serous else rng.uniform(0.36, 0.56)
    tissue.grey[AT["membrane"], membrane > 0] = rng.uniform(0.56, 0.8)
    clumps = rng.uniform(0.12, 0.28) * smooth_field(rng, eye.size, 26)
    lesion.clumps = clumps * np.clip((ped + membrane) / 30, 0, 1)
    scarred = np.clip(membrane / 40 + ped / 160, 0, 1)
    tissue.grey[AT["rpe"]] *= 1 - 0.45 * scarred * np.clip(0.6 + 0.6 * wave(rng, eye.x, 400), 0, 1)
    _thin(tissue, scarred, 0.75)
    streaks = np.clip(0.75 + 0.3 * wave(rng, eye.x, 400, 6), 0, 1)
    shade = rng.uniform(0.35, 0.75) * np.clip((ped + membrane) / 90, 0, 1) * streaks
    lesion.veil = (1 - shade).astype(np.float32)


def _detachment(rng: np.random.Generator, off: Array, half: float, occult: bool, serous: bool) -> Array:
    """Height in µm of the detached pigment epithelium: one dome, or a hilly ridge."""
    tall = rng.uniform(80, 230) if occult else rng.uniform(35, 80)
    rough = 0.04 if serous else rng.uniform(0.08, 0.35)
    hills = 1 + rough * wave(rng, off, 1000) + 0.5 * rough * wave(rng, off, 450)
    return (tall * np.sqrt(bump(off, half)) * np.clip(hills, 0.3, 1.6)).astype(np.float32)


def _membrane(rng: np.random.Generator, off: Array, half: float, occult: bool) -> Array:
    """Thickness in µm of the hyperreflective tissue upon the pigment epithelium."""
    thick = rng.uniform(20, 50) if occult else rng.uniform(60, 140)
    reach = half * rng.uniform(0.45, 0.8)
    shift = np.float32(rng.uniform(-0.9, 0.9) * (half - reach))
    uneven = np.clip(1 + 0.25 * wave(rng, off, 900), 0.4, 1.5)
    return (thick * np.sqrt(bump(off - shift, reach)) * uneven).astype(np.float32)


# Diabetic macular oedema ------------------------------------------------------------------------------------------


def dme(rng: np.random.Generator, eye: Eye) -> Lesion:
    """A swollen retina with cystoid fluid, in some with fluid below it, and lipid that casts shadows."""
    lesion = _fresh(eye)
    tissue, x = lesion.tissue, eye.x
    half = float(rng.uniform(600, 1400))
    room = max(0.5 * eye.size * eye.px[1] - 0.8 * half, 0)
    middle = float(np.clip(eye.fovea + rng.normal(0, 0.3) * half, -room, room))
    if rng.random() < 0.3:
        off = x - np.float32(eye.fovea + rng.normal(0, 150))
        tissue.thick[AT["fluid"]] = float(rng.uniform(40, 130)) * bump(off, rng.uniform(500, 1000))
        _lift(eye, tissue, 0.8, 150)
    _swell(rng, eye, tissue, bump(x - np.float32(middle), 1.5 * half))
    tallest = _cysts(rng, eye, lesion, middle, half)
    if rng.random() < 0.75:
        _foci(rng, eye, lesion, middle, half)
    thicker = float((tissue.thick.sum(0) - eye.tissue.thick.sum(0)).max())
    lesion.facts = {
        "dme_thickening_um": round(thicker),
        "dme_cysts": sum(blob.kind == "intraretinal_fluid" for blob in lesion.blobs),
        "dme_largest_cyst_um": round(tallest),
        "severity": _severity(thicker, 110, 190),
    }
    return lesion


def _swell(rng: np.random.Generator, eye: Eye, tissue: Tissue, shape: Array) -> None:
    """Thicken the nuclear layers as `shape` says, most where the pit was, but not beyond the image."""
    total = tissue.thick.sum(0)
    swelling = shape * (rng.uniform(50, 230) + rng.uniform(0.2, 0.9) * (total.max() - total))
    room = (tissue.tops(eye.bruch)[0] - 40) / np.maximum(swelling, 1)
    swelling *= min(1.0, max(0.2, float(room.min())))
    tissue.thick[AT["inl"]] += 0.3 * swelling
    tissue.thick[AT["onl"]] += 0.7 * swelling


def _cysts(rng: np.random.Generator, eye: Eye, lesion: Lesion, middle: float, half: float) -> float:
    """Rows of cysts in the outer and in the inner nuclear layer, as large as these have room for; the tallest in µm."""
    edges, inside, tallest = lesion.tissue.tops(eye.bruch), 0.5 * eye.size * eye.px[1], 0.0
    for layer, share in (("onl", rng.uniform(0.35, 0.9)), ("inl", rng.uniform(0.1, 0.7))):
        at = middle - half * rng.uniform(0.5, 1)
        while at < middle + half:
            column = eye.column(at + 120)
            top, bottom = float(edges[AT[layer], column]), float(edges[AT[layer] + 1, column])
            up = (bottom - top) * float(rng.uniform(0.3, 0.46))
            along = float(np.clip(up * rng.uniform(1.0, 2.2), 50, 280))
            at += along
            centre = 0.5 * (top + bottom) + (0.5 * (bottom - top) - up) * float(rng.uniform(-0.7, 0.7))
            grey = eye.vitreous + float(rng.uniform(0.0, 0.06))
            if (rng.random() < share or not tallest) and abs(at) < inside - along:
                box, covered = cover(eye, (centre, at), (up, along))
                lesion.blobs.append(Blob("intraretinal_fluid", box, covered, grey))
                tallest = max(tallest, 2 * up)
            at += along + float(rng.uniform(10, 50) + rng.choice([0, 300], p=[0.75, 0.25]) * rng.random())
    return tallest


def _foci(rng: np.random.Generator, eye: Eye, lesion: Lesion, middle: float, half: float) -> None:
    """Small bright spots, most of them about the outer plexiform layer; the larger are exudates and cast shadows."""
    edges = lesion.tissue.tops(eye.bruch)
    heavy = rng.random() < 0.4
    inside = 0.49 * eye.size * eye.px[1]
    for _ in range(int(rng.integers(3, 11))):
        at = float(np.clip(middle + rng.normal(0, 0.6) * half, -inside, inside))
        column = eye.column(at)
        upper, lower = float(edges[AT["inl"], column]), float(edges[AT["elm"], column])
        depth = upper + (lower - upper) * float(rng.beta(2.2, 2.2))
        radius = float(rng.uniform(9, 16)) + (float(rng.uniform(0, 14)) if heavy else 0)
        wide = radius * float(rng.uniform(1.3, 3.0))
        box, covered = cover(eye, (depth, at), (radius, wide))
        shadow = min(0.012 * radius, 0.55)
        lesion.blobs.append(Blob("foci", box, covered, float(rng.uniform(0.6, 0.95)), shadow))


DRAW = {"cnv": cnv, "drusen": drusen, "dme": dme}


def masks(eye: Eye, lesion: Lesion) -> dict[str, Array]:
    """Boolean `(size, size)` per kind of lesion that is there."""
    edges = lesion.tissue.tops(eye.bruch) / np.float32(eye.px[0])
    rows = np.arange(eye.size, dtype=np.float32)[:, None] + 0.5
    found = {}
    for kind, top, bottom, layer in (
        ("subretinal_fluid", "fluid", "membrane", "fluid"),
        ("membrane", "membrane", "rpe", "membrane"),
        (lesion.under, "rpe", "bruch", "deposit"),
    ):
        there = lesion.tissue.thick[AT[layer]] > LEAST[kind]
        found[kind] = there & (rows > edges[AT[top]]) & (rows < edges[AT[bottom]])
    for blob in lesion.blobs:
        mask = found.setdefault(blob.kind, np.zeros((eye.size, eye.size), bool))
        mask[blob.box] |= blob.cover >= min(0.5, float(blob.cover.max()))
    return {kind: found[kind] for kind in KINDS if kind in found and found[kind].any()}
