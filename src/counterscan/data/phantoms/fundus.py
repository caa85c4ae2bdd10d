"""Fundus photographs in colour: diabetic retinopathy of four grades, and drusen to confuse it with."""

import numpy as np

from counterscan.data.layouts.base import GRADES
from counterscan.data.phantoms import fundus_anatomy as anatomy
from counterscan.data.phantoms import fundus_camera as optics
from counterscan.data.phantoms import fundus_lesions as lesions
from counterscan.data.phantoms.base import Phantom
from counterscan.data.phantoms.fields import Array
from counterscan.data.phantoms.fundus_canvas import Canvas

CLASSES = ("dr", "drusen")
CONFOUNDERS = ("drusen",)
MODALITY = "fundus photograph"
COLOUR = True
MIRROR = True
WINDOW = (0.0, 255.0, "")

# The colours of lesions, of what something white would send back there.
EXUDATE = np.array([1.02, 0.98, 0.62], np.float32)[:, None, None]
COTTON = np.array([0.85, 0.86, 0.95], np.float32)[:, None, None]
DRUSEN = np.array([0.87, 0.87, 0.62], np.float32)[:, None, None]
GRADED = {"grades": ("grade", GRADES)}  # a fact that can be learned instead of the classes
SEVERITIES = (
    "no diabetic retinopathy",
    "mild non-proliferative diabetic retinopathy",
    "moderate non-proliferative diabetic retinopathy",
    "severe non-proliferative diabetic retinopathy",
    "proliferative diabetic retinopathy",
)
WORDS = {"exudates": "hard exudates", "cotton_wool_spots": "cotton-wool spots"}


def draw(rng: np.random.Generator, size: int, findings: tuple[str, ...]) -> Phantom:
    """Draw a photograph `(3, size, size)` in camera values from 0 to 255, red, green and blue.

    The patient, the camera and the noise are the same whatever the `findings` of the same `rng` are.
    """
    for_eye, for_camera, for_drusen, for_disease, for_noise = rng.spawn(5)
    eye = anatomy.eye(for_eye)
    camera = optics.camera(for_camera, eye.pigment)
    canvas = Canvas(for_eye, size, camera.field, camera.fill, camera.fovea, camera.tilt, eye.nose)
    fundus = anatomy.paint(for_eye, canvas, eye, optics.light(for_camera, camera, canvas), camera.tint)
    frame = optics.window(camera, canvas)
    masks, spots = {}, 0
    if "drusen" in findings:
        layer, spots = lesions.drusen(lesions.Sites(for_drusen, canvas, eye, frame, fundus.blood))
        fundus.floor[:] += layer * (DRUSEN * fundus.white - fundus.floor)
        masks["drusen"] = (layer > 0.13) & (frame > 0.5)
    shot = optics.Shot(camera, canvas, optics.haze(for_camera, camera, canvas), optics.grain(for_noise, size), frame)
    twin = shot.expose(_healthy(fundus))
    image, disease = twin.copy(), None
    if "dr" in findings:
        disease = lesions.retinopathy(for_disease, canvas, eye, frame, fundus.blood)
        image = shot.expose(_diseased(fundus, disease))
        masks |= {"dr": disease.mask, **disease.masks}
    return Phantom(
        image=image,
        twin=twin,
        masks=masks,
        labels={name: int(name in findings) for name in CLASSES},
        facts=_facts(eye, camera, canvas, disease, spots),
        report=_report(eye, disease, spots),
        disease=("dr",),
    )


def _healthy(fundus: anatomy.Fundus) -> Array:
    """What comes back `(3, size, size)` from the fundus through its vessels."""
    return fundus.floor * np.exp(-anatomy.BLOOD * fundus.blood) + fundus.sheen * fundus.white


def _diseased(fundus: anatomy.Fundus, disease: lesions.Retinopathy) -> Array:
    """The same through the lesions: vessels run over exudates, under cotton wool and unseen behind a preretinal veil.

    Where every layer is 0 this is `_healthy` to the bit.
    """
    floor = fundus.floor + disease.exudate * (EXUDATE * fundus.white - fundus.floor)
    blood = fundus.blood * np.exp(-4 * disease.veil) + disease.blood + disease.veil
    scene = floor * np.exp(-anatomy.BLOOD * blood) + fundus.sheen * fundus.white
    return scene + disease.cotton * (COTTON * fundus.white - scene)


def _facts(
    eye: anatomy.Eye, camera: optics.Camera, canvas: Canvas, disease: lesions.Retinopathy | None, spots: int
) -> dict[str, str | float]:
    counts = disease.counts if disease else dict.fromkeys(lesions.LEVELS, 0)
    return {
        "grade": GRADES[disease.grade if disease else 0],
        "laterality": eye.side,
        "field_degrees": camera.field,
        "centred": camera.centred,
        "pigmentation": eye.pigmentation,
        "pixel_degrees": round(canvas.px, 4),
        **{f"{kind}_count": n for kind, n in counts.items()},
        "drusen_count": spots,
    }


def _report(eye: anatomy.Eye, disease: lesions.Retinopathy | None, spots: int) -> str:
    said = f"{eye.side.capitalize()} eye: {SEVERITIES[disease.grade if disease else 0]}"
    if disease:
        kinds = [WORDS.get(kind, kind.replace("_", " ")) for kind, n in disease.counts.items() if n]
        listed = " and ".join(filter(None, (", ".join(kinds[:-1]), kinds[-1])))
        said += f" with {listed}"
    return f"{said}. Drusen at the macula." if spots else f"{said}."
