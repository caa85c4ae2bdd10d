"""TotalSegmentator's CT data set (Wasserthal et al., Radiology AI 2023; Zenodo 6802613): CT of all parts of the body.

Folder: `meta.csv` (semicolons) and `s0001/` with `ct.nii.gz` and `segmentations/`, a file a structure. The structures
are anatomy, not lesions, so their folder is a fact (`segmentations`) and no `mask_path`; the class is the `pathology`
that the second release added to `meta.csv`.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from counterscan.data.dataset import DatasetFile
from counterscan.data.layouts.base import LAYOUTS, UNLABELLED, Layout, Row, listed, sex, word

SPLITS = {"train": "train", "val": "validation", "test": "test"}
FACTS = ("age", "institute", "study_type", "pathology_location")


@LAYOUTS.register("totalsegmentator")
class TotalSegmentator(Layout):
    """One class a scan, where the release tells it; `unclear` is unknown."""

    title = "TotalSegmentator"
    needs = ("meta.csv", "s*/ct.nii.gz")

    def about(self) -> DatasetFile:
        return DatasetFile(modality="CT", window=(-160, 240, "HU"), mirror=False, licence="CC BY 4.0")

    def rows(self) -> Iterator[Row]:
        there = {path.parent.name: path for path in sorted(self.folder.glob("s*/ct.nii.gz"))}
        for entry in listed(self.folder / "meta.csv", "image_id"):
            name, pathology = entry["image_id"], word(entry.get("pathology", ""))
            path = there.pop(name, self.folder / name / "ct.nii.gz")
            yield _row(path) | {
                "label": "" if pathology == "unclear" else pathology,
                "split": SPLITS.get(entry.get("split", ""), ""),
                "sex": sex(entry.get("gender", "")),
                **{fact: entry.get(fact, "") for fact in FACTS},
            }
        yield from (_row(path) | {"split": UNLABELLED} for path in there.values())


def _row(path: Path) -> Row:
    structures = path.parent / "segmentations"
    return {
        "path": path,
        "patient_id": path.parent.name,
        "segmentations": structures if os.path.isdir(structures) else None,
    }
