"""Abdominal CT at kidney level, contrast-enhanced: renal tumours, and simple cysts to confuse them with."""

from dataclasses import replace

import numpy as np

from counterscan.data.phantoms import abdomen_anatomy as anatomy
from counterscan.data.phantoms import abdomen_lesions as lesions
from counterscan.data.phantoms.abdomen_canvas import Box, Canvas
from counterscan.data.phantoms.abdomen_outcome import outcome
from counterscan.data.phantoms.abdomen_patient import Kidney, Patient, patient
from counterscan.data.phantoms.base import Phantom
from counterscan.data.phantoms.fields import Array, blur, noise

CLASSES = ("tumour", "cyst")
CONFOUNDERS = ("cyst",)
OUTCOMES = {"prognosis": ("poor_outcome",)}  # facts that can be learned as labels, too
MODALITY = "abdominal CT"
COLOUR = False
MIRROR = False  # the liver is on the right
WINDOW = (-160.0, 240.0, "HU")
LOWEST, HIGHEST = -1024.0, 2000.0
APPEARANCE = {
    "clear cell": "Heterogeneously enhancing",
    "papillary": "Homogeneous, weakly enhancing",
    "chromophobe": "Moderately enhancing",
    "angiomyolipoma": "Fat-containing",
}


def draw(rng: np.random.Generator, size: int, findings: tuple[str, ...]) -> Phantom:
    """Draw a slice `(size, size)` in HU; the patient is the same whatever the `findings` of the same `rng` are."""
    phantom, canvas, kidneys, tumour = _drawn(rng, size, findings)
    facts = outcome(rng.spawn(1)[0], canvas, kidneys, tumour)  # a stream of its own: nothing that is seen changes
    return replace(phantom, facts=phantom.facts | facts)


def draw_with_kidneys(
    rng: np.random.Generator, size: int, findings: tuple[str, ...]
) -> tuple[Phantom, tuple[Array, Array]]:
    """The same slice, and what lies within the contour of each kidney: `(size, size)` bool, the patient's right first.

    The sinus and cysts within the contour are part of it, tumours that grow beyond it are not.
    """
    phantom, canvas, kidneys, _ = _drawn(rng, size, findings)
    right, left = (_within(canvas, kidney) for kidney in kidneys)
    return phantom, (right, left)


def _drawn(
    rng: np.random.Generator, size: int, findings: tuple[str, ...]
) -> tuple[Phantom, Canvas, tuple[Kidney, Kidney], lesions.Tumour | None]:
    for_anatomy, for_scanner, for_cysts, for_tumour = rng.spawn(4)
    body = patient(for_anatomy)
    canvas = Canvas(for_anatomy, size, fov=2 * body.girth / float(for_anatomy.uniform(0.82, 0.95)))
    kidneys = anatomy.paint(for_anatomy, canvas, body)
    cyst, cyst_side = np.zeros_like(canvas.hu), ""
    if "cyst" in findings:
        cyst, cyst_side = lesions.cysts(for_cysts, canvas, kidneys)
    tumour = lesions.tumour(for_tumour, canvas, body, kidneys, cyst) if "tumour" in findings else None
    image, twin = _scan(for_scanner, canvas, tumour)
    phantom = Phantom(
        image=image,
        twin=twin,
        masks=_masks(tumour, cyst, findings),
        labels={name: int(name in findings) for name in CLASSES},
        facts=_facts(canvas, body, tumour, cyst_side),
        report=_report(tumour, cyst_side),
        disease=("tumour",),
    )
    return phantom, canvas, kidneys, tumour


def _within(canvas: Canvas, kidney: Kidney) -> Array:
    """Where the contour that `abdomen_anatomy` paints encloses the kidney, `(size, size)` bool."""
    along, across = kidney.local(canvas.y, canvas.x)
    beyond = (np.hypot(along / kidney.radii[0], across / kidney.radii[1]) - 1) * kidney.radii[1]
    return beyond + 0.8 * canvas.edge < 0


def _scan(rng: np.random.Generator, canvas: Canvas, tumour: lesions.Tumour | None) -> tuple[Array, Array]:
    """Image and twin `(size, size)` as one scanner sees them: the same kernel, noise and streaks."""
    sigma = max(float(rng.uniform(0.5, 1.1)) / canvas.px, 0.35)
    twin = blur(canvas.hu, sigma) + _artefacts(rng, canvas)
    image = twin
    if tumour is not None:
        image = twin.copy()
        change, box = _spread(tumour.hu - canvas.hu[tumour.box], tumour.box, canvas.size, sigma)
        image[box] += change
    return tuple(np.clip(each, LOWEST, HIGHEST).astype(np.float32) for each in (image, twin))


def _spread(change: Array, box: Box, size: int, sigma: float) -> tuple[Array, Box]:
    """Blur a local `change` in HU as the whole image is blurred; what falls below half a unit is none."""
    room = int(np.ceil(4 * sigma)) + 1
    wider = tuple(slice(max(side.start - room, 0), min(side.stop + room, size)) for side in box)
    margins = [(side.start - wide.start, wide.stop - side.stop) for side, wide in zip(box, wider, strict=True)]
    spread = blur(np.pad(change, margins), sigma)
    spread[np.abs(spread) < 0.5] = 0
    return spread, wider  # type: ignore[return-value]


def _artefacts(rng: np.random.Generator, canvas: Canvas) -> Array:
    """Noise, strongest amid the body, and in one of three scans faint streaks from the spine, in HU `(size, size)`."""
    radius = np.hypot(canvas.y, canvas.x) / canvas.half
    dose = rng.uniform(6, 16) * min(max(2.2 / canvas.px, 0.7), 1.6) ** 0.5
    grain = noise(rng, canvas.size, rng.uniform(0.35, 0.75)) * (dose * np.clip(1.25 - 0.6 * radius, 0.5, None))
    if rng.random() < 0.35:
        knots = rng.standard_normal(64).astype(np.float32)
        turn = (np.arctan2(canvas.y - 30, canvas.x) + np.pi) * (64 / (2 * np.pi))
        grain += rng.uniform(2, 6) * np.interp(turn, np.arange(65), np.append(knots, knots[0])) * (radius < 0.85)
    return grain.astype(np.float32)


def _masks(tumour: lesions.Tumour | None, cyst: Array, findings: tuple[str, ...]) -> dict[str, Array]:
    masks = {}
    if tumour is not None:
        masks["tumour"] = np.zeros(cyst.shape, bool)
        masks["tumour"][tumour.box] = tumour.mask
    if "cyst" in findings:
        masks["cyst"] = cyst > 0.5
    return masks


def _facts(canvas: Canvas, body: Patient, tumour: lesions.Tumour | None, cyst_side: str) -> dict:
    facts = {"phase": body.phase, "habitus": body.habitus, "pixel_mm": round(canvas.px, 4)}
    if cyst_side:
        facts["cyst_side"] = cyst_side
    if tumour is not None:
        facts |= {
            "tumour_side": tumour.side,
            "tumour_kind": tumour.kind,
            "tumour_size_mm": tumour.size_mm,
            "tumour_severity": tumour.severity,
            "tumour_growth": tumour.growth,
        }
    return facts


def _report(tumour: lesions.Tumour | None, cyst_side: str) -> str:
    said = []
    if tumour is not None:
        look = APPEARANCE[tumour.kind]
        said.append(f"{look} {tumour.size_mm:.0f} mm mass of the {tumour.side} kidney, {tumour.growth}.")
    if cyst_side:
        said.append(f"Simple cyst of the {cyst_side} kidney." if " " not in cyst_side else "Cysts of both kidneys.")
    return " ".join(said) or "Both kidneys are unremarkable."
