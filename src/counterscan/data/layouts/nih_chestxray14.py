"""NIH ChestX-ray14: 112,120 frontal chest X-rays, 14 findings mined from reports, boxes for some (CVPR 2017).

Folder: `Data_Entry_2017.csv` (or `..._v2020.csv`), `images_001/images/` to `images_012/images/` (or one `images/`), and
where they were downloaded `train_val_list.txt`, `test_list.txt` and `BBox_List_2017.csv`. Boxes are in pixels of the
1024 x 1024 originals and are brought to the size of the picture that is there.
"""

import os
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from PIL import Image

from counterscan.data.dataset import DatasetFile
from counterscan.data.layouts.base import LAYOUTS, UNLABELLED, Layout, Row, listed, one_hot, pictures, sex, word
from counterscan.data.scans import one_line
from counterscan.errors import ManifestError

FINDINGS = (
    *("atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia", "pneumothorax"),
    *("consolidation", "edema", "emphysema", "fibrosis", "pleural_thickening", "hernia"),
)
OTHER_NAMES = {"infiltrate": "infiltration"}  # what the list of boxes says
SIDE = 1024
BOX = ("Bbox [x", "y", "w", "h]")  # its header has one name for four columns, with commas in it


@LAYOUTS.register("nih-chestxray14")
class NIHChestXray14(Layout):
    """The 14 findings as columns; `No Finding` is a 0 in all of them."""

    title = "NIH ChestX-ray14"
    needs = ("Data_Entry_2017*.csv", "images/*.png|images_*/images/*.png|images_*/*.png")

    def about(self) -> DatasetFile:
        return DatasetFile(
            classes=FINDINGS,
            modality="chest X-ray",
            mirror=False,
            licence="no restrictions; name the NIH Clinical Center, link to its download site, cite Wang et al. 2017",
        )

    def rows(self) -> Iterator[Row]:
        there = pictures(self.folder, "images/*.png", "images_*/images/*.png", "images_*/*.png")
        table = max(self.folder.glob("Data_Entry_2017*.csv"))
        for entry in listed(table, "Image Index", "Finding Labels"):
            name = Path(entry["Image Index"]).stem
            found = [word(one) for one in entry["Finding Labels"].split("|")]
            yield self._row(name, there.pop(name, self.folder / "images" / f"{name}.png")) | {
                **one_hot(FINDINGS, found),
                "split": self._splits.get(name, ""),
                "age": _years(entry.get("Patient Age", "")),
                "sex": sex(entry.get("Patient Gender") or entry.get("Patient Sex") or ""),
                "view": entry.get("View Position", ""),
            }
        yield from (self._row(name, path) | {"split": UNLABELLED} for name, path in there.items())

    def _row(self, name: str, path: Path) -> Row:
        """The patient's number comes before the number of the image: `00000013_005.png`."""
        return {"path": path, "patient_id": name.partition("_")[0], "box": self._boxes(name, path)}

    @cached_property
    def _splits(self) -> dict[str, str]:
        lists = {"train": self.folder / "train_val_list.txt", "test": self.folder / "test_list.txt"}
        there = {split: path.read_bytes().decode("utf-8", "replace") for split, path in lists.items() if path.is_file()}
        return {Path(name).stem: split for split, text in there.items() for name in text.split()}

    @cached_property
    def _listed_boxes(self) -> dict[str, list[tuple[str, list[float]]]]:
        table = self.folder / "BBox_List_2017.csv"
        found: dict[str, list[tuple[str, list[float]]]] = {}
        for entry in listed(table, "Image Index", "Finding Label", *BOX) if table.is_file() else ():
            name = word(entry["Finding Label"])
            box = OTHER_NAMES.get(name, name), [_number(table, entry[side]) for side in BOX]
            found.setdefault(Path(entry["Image Index"]).stem, []).append(box)
        return found

    def _boxes(self, name: str, path: Path) -> str:
        boxes = self._listed_boxes.get(name, [])
        if not boxes or not os.path.isfile(path):
            return ""
        with one_line(path, "png"), Image.open(path) as picture:
            scale = picture.width / SIDE
        return ";".join(f"{finding}:" + ",".join(f"{side * scale:.1f}" for side in box) for finding, box in boxes)


def _years(age: str) -> str:
    """Whole years: `58`, and in the first release `058Y`, `011M` or `003D`."""
    number = re.fullmatch(r"([0-9]{1,3})([YMD]?)", age)
    if number is None:
        return ""
    return "0" if number[2] in ("M", "D") else str(int(number[1]))


def _number(table: Path, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ManifestError(f"{table} has a box with {text[:80]!r}; copy it again from where it came") from None
