"""APTOS 2019 Blindness Detection (Aravind Eye Hospital, Kaggle): fundus photographs in five grades.

Folder: `train.csv` (id_code, diagnosis) with `train_images/`; `test_images/` where it was downloaded, whose grades were
never published. Patients are not told.
"""

from collections.abc import Iterator

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


@LAYOUTS.register("aptos2019")
class APTOS2019(Layout):
    """One of five grades an eye."""

    title = "APTOS 2019"
    needs = ("train.csv", "train_images/*.png")

    def about(self) -> DatasetFile:
        return DatasetFile(classes=GRADES, modality="fundus photograph", licence=OWN_TERMS)

    def rows(self) -> Iterator[Row]:
        there, table = pictures(self.folder, "train_images/*.png"), self.folder / "train.csv"
        for entry in listed(table, "id_code", "diagnosis"):
            name = entry["id_code"]
            path = there.pop(name, self.folder / "train_images" / f"{name}.png")
            yield {"path": path, "label": grade_of(entry["diagnosis"], table)}
        there |= pictures(self.folder, "test_images/*.png")
        yield from ({"path": path, "split": UNLABELLED} for path in there.values())
