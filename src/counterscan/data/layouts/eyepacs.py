"""EyePACS, the Kaggle competition Diabetic Retinopathy Detection (2015): fundus photographs in five grades.

Folder: `trainLabels.csv` (image, level) with `train/10_left.jpeg`; `test/` where it was downloaded, whose grades are in
`retinopathy_solution.csv`, published after the competition. Both eyes of a patient stay together.
"""

from collections.abc import Iterator
from pathlib import Path

from counterscan.data.dataset import DatasetFile
from counterscan.data.layouts.base import (
    GRADES,
    LAYOUTS,
    OWN_TERMS,
    UNLABELLED,
    Layout,
    Row,
    grade_of,
    listed,
    pictures,
)

TABLES = {"train": "trainLabels.csv", "test": "retinopathy_solution.csv"}


@LAYOUTS.register("eyepacs")
class EyePACS(Layout):
    """One of five grades an eye; the patient is the number before `_left` and `_right`."""

    title = "EyePACS (Kaggle Diabetic Retinopathy Detection)"
    needs = ("trainLabels.csv", "train/*.jpeg|train/*.jpg|train/*.png")

    def about(self) -> DatasetFile:
        return DatasetFile(classes=GRADES, modality="fundus photograph", licence=OWN_TERMS)

    def rows(self) -> Iterator[Row]:
        for split, name in TABLES.items():
            there, table = pictures(self.folder, f"{split}/*.*"), self.folder / name
            for entry in listed(table, "image", "level") if table.is_file() else ():
                path = there.pop(entry["image"], self.folder / split / f"{entry['image']}.jpeg")
                yield _row(path) | {"label": grade_of(entry["level"], table), "split": split}
            yield from (_row(path) | {"split": UNLABELLED} for path in there.values())


def _row(path: Path) -> Row:
    patient, _, eye = path.stem.partition("_")
    return {"path": path, "patient_id": patient, "eye": eye}
