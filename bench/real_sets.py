"""Bring the real images in $COUNTERSCAN_REAL_DATA into manifests for bench/comparison.py and bench/real_retina.py.

    python bench/real_sets.py OUT [SET ...]

writes OUT/cxr (NIH and Kermany, pneumonia or not), OUT/cxr_masks (opacities with masks, for measuring only), OUT/ct
(sarcoma or not, Hounsfield units) and OUT/kits (kidney tumours, for measuring what learned from phantoms). Images are
copied, never changed but for those of kits and OCT; patients and folds are their sources'.

Photographs of the fundus, right and left eyes, so that a mirrored one could be another of them:

- OUT/fundus: no retinopathy against what shows at this size (moderate or worse, or maculopathy); a single
  microaneurysm does not, so mild ones are in neither class, nor is advanced disease behind opaque media;
- OUT/fundus_grades: the same source in its five grades, the mild ones too;
- OUT/fundus_masks: another camera, with lesions drawn by hand. They say where a change should lie and train no
  classifier: the rest of a patient's lesions is not drawn, and bright lesions that are no retinopathy (drusen, scars)
  are taken out of the masks and are `no_dr`. Eyes of this camera do train the denoiser, which is to draw them;
- OUT/fundus_images: both, for the denoiser. Their folds hold, so fold 0 of either is measured on eyes nobody saw.

B-scans of OCT, cut to the square in the middle; white corners that the scanner's registration left are filled with the
mirror image of what lies beside them, because they would tell the sources and scans apart:

- OUT/oct: fluid or none, with the fluid drawn. All seven patients have diabetic macular oedema, eleven scans each,
  so `no_fluid` is no healthy eye: it is the edge of a diseased macula, where the other class is its middle. Two
  patients are measured on and two select, which leaves three to learn from;
- OUT/oct_kermany: of the classes of the other source `dme` has fluid, `normal` and `drusen` have none; in `cnv` there
  may be some, which nobody drew, so it is left out. It trains nothing. No patient is in both sources, so all of its
  patients are measured on: the only healthy eyes there are.
"""

import csv
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from counterscan.data.layouts.base import GRADES

Row = dict[str, str]
COLUMNS = ("path", "label", "patient_id", "fold", "mask_path", "source_set", "matched", "spacing_mm", "grade")
CT = """modality = "CT of the limbs"
window = [-160.0, 240.0, "HU"]
slope = 1.0
intercept = -1024.0
licence = "CC BY 3.0"
"""
KITS = """modality = "abdominal CT"
window = [-160.0, 240.0, "HU"]
slope = 1.0
intercept = -1024.0
licence = "CC BY-NC-SA 4.0"
"""
FAT, AIR = -100, -1000  # HU: what kits19's grey value 0 is taken for within and without the body; the source clipped it
AROUND = ((0, 1, 1), (0, -1, 1), (1, 1, 1), (1, 1, -1))  # axis, and the way along rows and columns
TUMOUR = 2  # the value of kits19's masks that means one; 1 is the kidney
CXR = 'modality = "chest X-ray"\n'
FUNDUS = 'modality = "fundus photograph"\nwindow = [0.0, 255.0]\n'
FIVE = f"{FUNDUS}classes = {list(GRADES)}\n".replace("'", '"')
BINARY = FUNDUS + 'classes = ["no_dr", "dr"]\n'
RETINOPATHY = (1, 3, 4)  # exudates, microaneurysms and haemorrhages, of the values of the drawn masks
OCT = 'modality = "retinal OCT"\nwindow = [0.0, 255.0]\nclasses = ["no_fluid", "fluid"]\n'
FLUID = {"dme": "fluid", "normal": "no_fluid", "drusen": "no_fluid"}  # what Kermany's labels say of fluid
WHITE, RIM = 200, 2  # grey values from here are padding where they touch the border, and how far it blurs, pixels


def main(out: Path, names: Sequence[str]) -> None:
    """Write the manifests of `names`, by default all, below `out`."""
    if not (source := os.environ.get("COUNTERSCAN_REAL_DATA")):
        raise SystemExit("COUNTERSCAN_REAL_DATA names no folder; set it to where the real images lie")
    if unknown := sorted(set(names) - SETS.keys()):
        raise SystemExit(f"there is no set {unknown[0]!r}; choose among {', '.join(SETS)}")
    for name in names or SETS:
        SETS[name](Path(source), out / name)


def cxr(real: Path, out: Path) -> None:
    write(out, CXR, [row for name in ("cxr_nih", "cxr_kermany") for row in rows(real / name)])


def cxr_masks(real: Path, out: Path) -> None:
    masked = [{**row, "label": "pneumonia"} for row in rows(real / "cxr_lesion_masks")]
    write(out, CXR + 'classes = ["normal", "pneumonia"]\n', masked)


def ct(real: Path, out: Path) -> None:
    write(out, CT, [{**row, "spacing_mm": "0.977,0.977"} for row in rows(real / "ct_sarcoma")])


def kidneys(real: Path, out: Path) -> None:
    write(out, KITS, rows(real / "ct_kidney_kits19"))
    kits(out)


def fundus(real: Path, out: Path) -> None:
    seen = [row for row in graded(real) if row["grade"] != "mild" or row["maculopathy"] == "1"]
    write(out, BINARY, seen)


def fundus_grades(real: Path, out: Path) -> None:
    write(out, FIVE, [{**row, "label": row["grade"]} for row in graded(real)])


def fundus_masks(real: Path, out: Path) -> None:
    write(out, BINARY, drawn(real), retinopathy)


def fundus_images(real: Path, out: Path) -> None:
    write(out, BINARY, [{**row, "mask_path": ""} for row in graded(real) + drawn(real)])


def oct_fluid(real: Path, out: Path) -> None:
    write(out, OCT, rows(real / "oct_dme_fluid"), squared)


def oct_kermany(real: Path, out: Path) -> None:
    known = [row for row in rows(real / "oct_kermany_mini") if row["label"] in FLUID]
    write(out, OCT, [{**row, "grade": row["label"], "label": FLUID[row["label"]]} for row in known], squared)


def graded(real: Path) -> list[Row]:
    """The photographs with a grade of retinopathy, as one of `GRADES`."""
    known = [row for row in rows(real / "fundus_dr_grades") if row["icdr"]]
    return [{**row, "grade": GRADES[int(row["icdr"])]} for row in known]


def drawn(real: Path) -> list[Row]:
    """The photographs with drawn lesions."""
    known = rows(real / "fundus_lesion_masks")
    return [{**row, "label": "dr" if row["label"] == "dr" else "no_dr", "grade": row["label"]} for row in known]


def retinopathy(out: Path, row: Row) -> None:
    """Keep of a copied mask what is retinopathy."""
    path = out / row["mask_path"]
    Image.fromarray((np.isin(np.array(Image.open(path)), RETINOPATHY) * 255).astype(np.uint8)).save(path)


def squared(out: Path, row: Row) -> None:
    """Fill the padding of a copied B-scan, cut image and mask to the middle; a scan whose fluid is cut off has none."""
    path = out / row["path"]
    grey = np.array(Image.open(path).convert("L"))
    given = row.get("valid_masks_path")
    valid = np.array(Image.open(Path(row["folder"]) / given)) > 0 if given else ~padding(grey)
    middle = slice((grey.shape[1] - grey.shape[0]) // 2, (grey.shape[1] + grey.shape[0]) // 2)
    Image.fromarray(filled(grey, ndimage.binary_erosion(valid, iterations=RIM, border_value=1))[:, middle]).save(path)
    if row["mask_path"]:
        mask = np.array(Image.open(out / row["mask_path"]))[:, middle] * (row["label"] == "fluid")
        Image.fromarray(mask).save(out / row["mask_path"])
        row["label"] = "fluid" if mask.any() else "no_fluid"


def padding(grey: np.ndarray) -> np.ndarray:
    """What is white `(h, w)` from the upper or the lower border on."""
    pieces, _ = ndimage.label(grey >= WHITE)
    return np.isin(pieces, np.setdiff1d(pieces[[0, -1]], [0]))


def filled(grey: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """`grey` `(h, w)` with each column mirrored where it begins and ends to be `valid`."""
    here, last = np.arange(len(grey))[:, None], len(grey) - 1
    first, end = valid.argmax(0), last - valid[::-1].argmax(0)
    source = np.where(here < first, 2 * first - here, np.where(here > end, 2 * end - here, here))
    return np.take_along_axis(grey, source.clip(0, last), 0)


def kits(out: Path) -> None:
    """Turn the copied images into HU + 1024, the masks into tumour or not, the labels into those of the phantoms."""
    for path in (out / "images").rglob("*.png"):
        grey = np.array(Image.open(path).convert("L")).astype(np.int32)
        hu = np.where(grey > 0, grey, np.where(body(grey > 0), FAT, AIR))
        Image.fromarray((hu + 1024).astype(np.uint16)).save(path)
    for path in (out / "masks").rglob("*.png"):
        Image.fromarray(((np.array(Image.open(path)) == TUMOUR) * 255).astype(np.uint8)).save(path)
    with (out / "labels.csv").open(newline="") as file:
        chosen = [{**row, "tumour": int(row["label"] == "tumour")} for row in csv.DictReader(file)]
    with (out / "labels.csv").open("w", newline="") as file:
        names = ("path", "tumour", "cyst", "patient_id", "fold", "mask_path")
        writer = csv.DictWriter(file, names, extrasaction="ignore", restval="")
        writer.writeheader()
        writer.writerows(chosen)


def body(tissue: np.ndarray) -> np.ndarray:
    """What lies between parts of the largest piece of `tissue` `(h, w)`, to the left and right, above and below."""
    pieces, _ = ndimage.label(ndimage.binary_dilation(tissue, iterations=3))
    largest = tissue & (pieces == np.bincount(pieces[pieces > 0]).argmax())
    sides = [np.logical_or.accumulate(largest[::y, ::x], axis)[::y, ::x] for axis, y, x in AROUND]
    return np.logical_and.reduce(sides)


def rows(folder: Path) -> list[Row]:
    """The rows of a source's labels.csv, with the folder that their paths are relative to."""
    with (folder / "labels.csv").open(newline="") as file:
        return [{**row, "folder": str(folder), "source_set": folder.name} for row in csv.DictReader(file)]


def write(out: Path, dataset: str, chosen: list[Row], change: Callable[[Path, Row], None] | None = None) -> None:
    """Copy images and masks of the `chosen` rows, `change` each that was copied, and write the manifest last."""
    for row in chosen:
        for column in ("path", "mask_path"):
            if row.get(column):
                kept = Path(column.replace("path", "images").replace("mask_images", "masks")) / row["source_set"]
                target = out / kept / Path(row[column]).name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(Path(row["folder"]) / row[column], target)
                row[column] = target.relative_to(out).as_posix()
        if change is not None:
            change(out, row)
    (out / "dataset.toml").write_text(dataset)
    with (out / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", restval="")
        writer.writeheader()
        writer.writerows(chosen)
    print(f"{out}: {len(chosen)} images")


SETS: dict[str, Callable[[Path, Path], None]] = {
    "cxr": cxr,
    "cxr_masks": cxr_masks,
    "ct": ct,
    "kits": kidneys,
    "fundus": fundus,
    "fundus_grades": fundus_grades,
    "fundus_masks": fundus_masks,
    "fundus_images": fundus_images,
    "oct": oct_fluid,
    "oct_kermany": oct_kermany,
}

if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2:])
