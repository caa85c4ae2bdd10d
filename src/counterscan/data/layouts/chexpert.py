"""CheXpert: 224,316 chest X-rays of 65,240 patients, 13 findings mined from reports (Irvin et al., AAAI 2019).

Folder: `train.csv`, `valid.csv` (and `test_labels.csv` or `test.csv`), whose `Path` begins with a folder that has
another name in each release; so images are found by `patientNNNNN/studyN/viewN_frontal.jpg`, which is one image
everywhere.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from counterscan.data.dataset import DatasetFile
from counterscan.data.layouts.base import LAYOUTS, UNLABELLED, Layout, Row, listed, sex, word

TABLES = {"train.csv": "train", "valid.csv": "validation", "test_labels.csv": "test", "test.csv": "test"}
FINDINGS = (
    *("Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation"),
    *("Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices"),
)
VALUES = {"1": 1, "0": 0}  # -1 is uncertain, blank is not mentioned: both unknown


@LAYOUTS.register("chexpert")
class CheXpert(Layout):
    """The findings as columns; where the report has no finding, those it does not mention are absent."""

    title = "CheXpert"
    needs = ("train.csv|valid.csv", "*/patient*/study*/*.jpg")

    def about(self) -> DatasetFile:
        return DatasetFile(
            classes=tuple(map(word, FINDINGS)),
            confounders=(word("Support Devices"),),
            modality="chest X-ray",
            mirror=False,
            licence="Stanford University Dataset Research Use Agreement: research only, no redistribution",
        )

    def rows(self) -> Iterator[Row]:
        there = {path.parts[-3:]: path for path in sorted(self.folder.glob("*/patient*/study*/*.jpg"))}
        for name, split in TABLES.items():
            table = self.folder / name
            for entry in listed(table, "Path", *FINDINGS) if table.is_file() else ():
                parts = PurePosixPath(entry["Path"]).parts[-3:]
                path = there.pop(parts, self.folder.joinpath(split, *parts))
                yield _row(path) | _findings(entry) | {"split": split} | _facts(entry)
        yield from (_row(path) | {"split": UNLABELLED} for path in there.values())


def _row(path: Path) -> Row:
    patient, study, view = path.parts[-3:]
    side = "lateral" if "lateral" in view else "frontal" if "frontal" in view else ""
    return {"path": path, "patient_id": patient, "study": study, "view": side}


def _findings(entry: dict[str, str]) -> Row:
    """Present, absent or unknown; `No Finding` says that a report has none, with or without devices."""
    known = {name: VALUES.get(entry[name].removesuffix(".0")) for name in FINDINGS}
    if entry.get("No Finding", "").removesuffix(".0") == "1":
        known |= {name: 0 for name in FINDINGS[:-1] if not entry[name]}
    return {word(name): value for name, value in known.items()}


def _facts(entry: dict[str, str]) -> Row:
    return {"sex": sex(entry.get("Sex", "")), "age": entry.get("Age", ""), "projection": entry.get("AP/PA", "")}
