"""KiTS, the Kidney Tumor Segmentation Challenges of 2019, 2021 and 2023 (Heller et al.): contrast-enhanced CT.

Folder (`data/` or `dataset/` of the challenge's repository): `case_00000/` with `imaging.nii.gz` and
`segmentation.nii.gz`, and `kits.json`. A segmentation is 1 in the kidney, 2 in a tumour and, since 2021, 3 in a cyst;
the manifest's masks are of the tumour alone, and are written.
"""

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from counterscan.data.dataset import DatasetFile
from counterscan.data.layouts.base import LAYOUTS, UNLABELLED, Layout, Row, sex
from counterscan.data.opening import open_scan
from counterscan.data.scans import one_line
from counterscan.errors import ManifestError
from counterscan.progress import within

TUMOUR, CYST = 2, 3


@LAYOUTS.register("kits")
class KiTS(Layout):
    """Tumour and cyst as columns; cysts are unknown where no segmentation of the folder has one, as in 2019."""

    title = "KiTS"
    needs = ("case_*/imaging.nii.gz", "case_*/segmentation.nii.gz")

    def about(self) -> DatasetFile:
        return DatasetFile(
            classes=("tumour", "cyst"),
            confounders=("cyst",),
            modality="abdominal CT",
            window=(-160, 240, "HU"),
            mirror=False,
            licence="CC BY-NC-SA 4.0",
        )

    def rows(self) -> Iterator[Row]:
        cases = sorted(self.folder.glob("case_*"))
        rows = []
        for number, case in enumerate(cases, 1):
            rows.append(self._row(case) | self._facts.get(case.name, {}))
            within(number, len(cases), "cases")
        cysts = any(row.get("cyst") for row in rows)
        yield from (row if cysts else row | {"cyst": None} for row in rows)

    def _row(self, case: Path) -> Row:
        row = {"path": case / "imaging.nii.gz", "patient_id": case.name}
        segmentation = case / "segmentation.nii.gz"
        return row | (self._drawn(segmentation) if segmentation.is_file() else {"split": UNLABELLED})

    def _drawn(self, segmentation: Path) -> Row:
        """What is drawn in a segmentation; the tumour goes into a mask of its own, slice by slice."""
        from counterscan.data.nifti_slices import write_masks

        mask, drawn = self.out / "masks" / f"{segmentation.parent.name}.nii.gz", {TUMOUR: False, CYST: False}

        def tumours() -> Iterator[np.ndarray]:
            for plane in open_scan(segmentation).pixels:
                drawn.update({value: seen or bool((plane == value).any()) for value, seen in drawn.items()})
                yield plane[0] == TUMOUR

        with one_line(segmentation, "nifti"):
            write_masks(segmentation, tumours(), mask)
        return {"mask_path": mask, "tumour": int(drawn[TUMOUR]), "cyst": int(drawn[CYST])}

    @cached_property
    def _facts(self) -> dict[str, Row]:
        path = self.folder / "kits.json"
        if not path.is_file():
            return {}
        try:
            return {str(entry["case_id"]): _known(entry) for entry in json.loads(path.read_text(encoding="utf-8"))}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ManifestError(f"{path} cannot be read ({type(error).__name__}); copy it again") from error


def _known(entry: dict[str, Any]) -> Row:
    age, histology = entry.get("age_at_nephrectomy"), entry.get("tumor_histology")
    return {"age": age, "sex": sex(str(entry.get("gender") or "")), "histology": histology}
