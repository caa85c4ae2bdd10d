"""Bring the real images in $COUNTERSCAN_REAL_DATA into manifests for bench/comparison.py.

    python bench/real_sets.py OUT

writes OUT/cxr (NIH and Kermany, pneumonia or not), OUT/cxr_masks (opacities with masks, for measuring only) and OUT/ct
(sarcoma or not, Hounsfield units). Images are copied, never changed; patients and folds are their sources'.
"""

import csv
import os
import shutil
import sys
from pathlib import Path

COLUMNS = ("path", "label", "patient_id", "fold", "mask_path", "source_set", "matched")
CT = """modality = "CT of the limbs"
window = [-160.0, 240.0, "HU"]
slope = 1.0
intercept = -1024.0
licence = "CC BY 3.0"
"""
CXR = 'modality = "chest X-ray"\n'


def main(out: Path) -> None:
    """Write the three manifests below `out`."""
    if not (source := os.environ.get("COUNTERSCAN_REAL_DATA")):
        raise SystemExit("COUNTERSCAN_REAL_DATA names no folder; set it to where the real images lie")
    real = Path(source)
    write(out / "cxr", CXR, [row for name in ("cxr_nih", "cxr_kermany") for row in rows(real / name)])
    masked = [{**row, "label": "pneumonia"} for row in rows(real / "cxr_lesion_masks")]
    write(out / "cxr_masks", CXR + 'classes = ["normal", "pneumonia"]\n', masked)
    write(out / "ct", CT, rows(real / "ct_sarcoma"))


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
