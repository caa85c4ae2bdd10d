"""OCT B-scans of the retina: normal, choroidal neovascularisation, drusen and diabetic macular oedema, one an image."""

import numpy as np

from counterscan.data.phantoms import oct_anatomy as anatomy
from counterscan.data.phantoms import oct_lesions as lesions
from counterscan.data.phantoms import oct_scan as scan
from counterscan.data.phantoms.base import Phantom
from counterscan.data.phantoms.fields import Array

NORMAL = "normal"
CLASSES = (NORMAL, "cnv", "drusen", "dme")
CONFOUNDERS = ()
MODALITY = "retinal OCT"
COLOUR = False
MIRROR = True
WINDOW = (0.0, 255.0, "")


def draw(rng: np.random.Generator, size: int, findings: tuple[str, ...]) -> Phantom:
    """Draw a B-scan `(size, size)` in grey values 0 to 255; the patient is the same whatever the `findings` are."""
    disease = [name for name in findings if name != NORMAL]
    assert len(disease) <= 1, "an OCT phantom has one disease at most"
    for_eye, for_device, *for_lesions = rng.spawn(2 + len(lesions.DRAW))
    eye = anatomy.draw(for_eye, size)
    device = scan.device(for_device, eye)
    twin = device.show(scan.signal(eye, slice(0, size)), slice(0, size))
    name, lesion = NORMAL, None
    if disease:
        name = disease[0]
        lesion = lesions.DRAW[name](for_lesions[list(lesions.DRAW).index(name)], eye)
    masks = {} if lesion is None else _masks(eye, device, lesion, name)
    facts = _facts(eye, device, lesion)
    return Phantom(
        image=twin.copy() if lesion is None else _with(eye, device, lesion, twin),
        twin=twin,
        masks=masks,
        labels={label: int(label == name) for label in CLASSES},
        facts=facts,
        report=_report(eye, name, masks, facts),
        disease=CLASSES[1:],
    )


def _with(eye: anatomy.Eye, device: scan.Device, lesion: scan.Lesion, twin: Array) -> Array:
    """The image: drawn anew in the lesion's columns alone, so that all others equal the twin to the bit."""
    image, columns = twin.copy(), lesion.columns(eye)
    seen = scan.signal(eye, columns, lesion)
    image[:, columns] = device.show(seen, columns)
    return image


def _masks(eye: anatomy.Eye, device: scan.Device, lesion: scan.Lesion, name: str) -> dict[str, Array]:
    """The disease's mask, and one for each kind of lesion that is seen (the RPE counts to what lifts it)."""
    kinds = lesions.masks(eye, lesion)
    if device.frame is not None:
        kinds = {kind: mask & np.isnan(device.frame) for kind, mask in kinds.items()}
    kinds = {kind: mask for kind, mask in kinds.items() if mask.any()}
    return {name: np.logical_or.reduce(list(kinds.values())), **kinds}


def _facts(eye: anatomy.Eye, device: scan.Device, lesion: scan.Lesion | None) -> dict:
    tissue = eye.tissue if lesion is None else lesion.tissue
    central = np.abs(eye.x - np.float32(eye.fovea)) <= 500
    return {
        "laterality": eye.laterality,
        "scan_position": eye.position,
        "device": device.name,
        "pixel_um_across": round(eye.px[1], 3),
        "pixel_um_deep": round(eye.px[0], 3),
        "central_thickness_um": round(float(tissue.thick.sum(0)[central].mean())),
        **({} if lesion is None else lesion.facts),
    }


def _report(eye: anatomy.Eye, name: str, kinds: dict[str, Array], facts: dict) -> str:
    """One sentence, as a reader would dictate it."""
    where = f"of the {eye.laterality} eye"
    if name == NORMAL:
        return f"Regular retinal layers {where}, {eye.position} scan."
    fluids = [kind.split("_")[0] for kind in ("subretinal_fluid", "intraretinal_fluid") if kind in kinds]
    wet = f", with {' and '.join(fluids)} fluid" if fluids else ""
    if name == "drusen":
        return f"Drusen {where}, up to {facts['drusen_height_um']} µm high."
    if name == "cnv":
        look = f"{facts['cnv_type']} membrane and pigment epithelial detachment, {facts['cnv_height_um']} µm high"
        return f"Choroidal neovascularisation {where}: {look}{wet}."
    foci = " and hyperreflective foci" if "foci" in kinds else ""
    return f"Diabetic macular oedema {where}: thickened by {facts['dme_thickening_um']} µm{wet}{foci}."
