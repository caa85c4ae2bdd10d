"""Bring the real images in $COUNTERSCAN_REAL_DATA into manifests for bench/comparison.py.

    python bench/real_sets.py OUT

writes OUT/cxr (NIH and Kermany, pneumonia or not), OUT/cxr_masks (opacities with masks, for measuring only), OUT/ct
(sarcoma or not, Hounsfield units) and OUT/kits (kidney tumours, for measuring what learned from phantoms). Images are
copied, never changed but for those of kits; patients and folds are their sources'.
"""

import csv
import os
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

COLUMNS = ("path", "label", "patient_id", "fold", "mask_path", "source_set", "matched", "spacing_mm")
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


def main(out: Path) -> None:
    """Write the three manifests below `out`."""
    if not (source := os.environ.get("COUNTERSCAN_REAL_DATA")):
        raise SystemExit("COUNTERSCAN_REAL_DATA names no folder; set it to where the real images lie")
    real = Path(source)
    write(out / "cxr", CXR, [row for name in ("cxr_nih", "cxr_kermany") for row in rows(real / name)])
    masked = [{**row, "label": "pneumonia"} for row in rows(real / "cxr_lesion_masks")]
    write(out / "cxr_masks", CXR + 'classes = ["normal", "pneumonia"]\n', masked)
    write(out / "ct", CT, [{**row, "spacing_mm": "0.977,0.977"} for row in rows(real / "ct_sarcoma")])
    write(out / "kits", KITS, rows(real / "ct_kidney_kits19"))
    kits(out / "kits")


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


def rows(folder: Path) -> list[dict[str, str]]:
    """The rows of a source's labels.csv, with the folder that their paths are relative to."""
    with (folder / "labels.csv").open(newline="") as file:
        return [{**row, "folder": str(folder), "source_set": folder.name} for row in csv.DictReader(file)]


def write(out: Path, dataset: str, chosen: list[dict[str, str]]) -> None:
    """Copy images and masks of the `chosen` rows and write the manifest last."""
    for row in chosen:
        for column in ("path", "mask_path"):
            if row.get(column):
                kept = Path(column.replace("path", "images").replace("mask_images", "masks")) / row["source_set"]
                target = out / kept / Path(row[column]).name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(Path(row["folder"]) / row[column], target)
                row[column] = target.relative_to(out).as_posix()
    (out / "dataset.toml").write_text(dataset)
    with (out / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", restval="")
        writer.writeheader()
        writer.writerows(chosen)
    print(f"{out}: {len(chosen)} images")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
