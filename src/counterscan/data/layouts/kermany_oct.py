"""Kermany's retinal OCT (Kermany et al., Cell 2018; Mendeley rscbjbr9sj): B-scans of four classes.

Folder: `train/`, `test/` and in one release `val/`, each with `CNV/`, `DME/`, `DRUSEN/` and `NORMAL/`, whose files are
called CLASS-PATIENT-NUMBER.jpeg. Some patients of the test part are in the training part too: their training images get
no split, so that the test part stays the published one.
"""

from collections.abc import Iterator

from counterscan.data.dataset import DatasetFile
from counterscan.data.layouts.base import LAYOUTS, Layout, Row, pictures, word

CLASSES = ("NORMAL", "CNV", "DRUSEN", "DME")
SPLITS = {"train": "train", "val": "validation", "test": "test"}


@LAYOUTS.register("kermany-oct")
class KermanyOCT(Layout):
    """The folder is the class, the patient stands in the file's name."""

    title = "Kermany's OCT"
    needs = tuple(f"train/{name}/*.jpeg" for name in CLASSES)

    def about(self) -> DatasetFile:
        return DatasetFile(classes=tuple(map(word, CLASSES)), modality="retinal OCT", licence="CC BY 4.0")

    def rows(self) -> Iterator[Row]:
        for folder, split in SPLITS.items():
            for name in CLASSES:
                for stem, path in pictures(self.folder / folder / name, "*.jpeg").items():
                    patient = stem.partition("-")[2].partition("-")[0]
                    yield {"path": path, "label": word(name), "split": split, "patient_id": patient}
