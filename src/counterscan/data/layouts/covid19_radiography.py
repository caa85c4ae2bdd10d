"""COVID-19 Radiography Database (Qatar University and University of Dhaka, Kaggle): chest X-rays of four classes.

Folder: `COVID/`, `Normal/`, `Lung_Opacity/` and `Viral Pneumonia/`, each with `images/` and `masks/`. The masks are of
the lungs, not of any lesion, so they are a fact (`lung_mask`) and no `mask_path`. Patients are not told.
"""

from collections.abc import Iterator

from counterscan.data.dataset import DatasetFile
from counterscan.data.layouts.base import LAYOUTS, OWN_TERMS, Layout, Row, pictures, word

FOLDERS = ("Normal", "COVID", "Lung_Opacity", "Viral Pneumonia")


@LAYOUTS.register("covid19-radiography")
class COVID19Radiography(Layout):
    """The folder is the class."""

    title = "COVID-19 Radiography Database"
    needs = tuple(f"{name}/images/*.png" for name in FOLDERS)

    def about(self) -> DatasetFile:
        classes = tuple(map(word, FOLDERS))
        return DatasetFile(classes=classes, modality="chest X-ray", mirror=False, licence=OWN_TERMS)

    def rows(self) -> Iterator[Row]:
        for name in FOLDERS:
            masks = pictures(self.folder / name, "masks/*.png")
            for stem, path in pictures(self.folder / name, "images/*.png").items():
                yield {"path": path, "label": word(name), "lung_mask": masks.get(stem)}
