"""MedMNIST v1 to v3 (Yang et al., Scientific Data 2023; Zenodo 10519652): small pictures of many kinds in one .npz.

`train_images`, `train_labels`, and the same for `val` and `test`; the images are unpacked into PNG files, volumes (the
3D sets) into TIFF files with a page a slice, a portion at a time. Names of classes are not in the file: those of
MedMNIST's own sets are known by the file's name, any other needs `classes`. Patients are not told.
"""

import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.lib import format as npy
from PIL import Image

from counterscan.data.dataset import DatasetFile
from counterscan.data.layouts.base import GRADES, LAYOUTS, OWN_TERMS, Layout, Row
from counterscan.data.layouts.nih_chestxray14 import FINDINGS
from counterscan.data.raster import write_picture
from counterscan.errors import ManifestError
from counterscan.progress import within

PORTION = 16 << 20  # bytes of pixels in memory at once
SPLITS = {"train": "train", "val": "validation", "test": "test"}
ORGANS = (
    *("bladder", "left_femur", "right_femur", "heart", "left_kidney", "right_kidney", "liver", "left_lung"),
    *("right_lung", "pancreas", "spleen"),
)
ORGANS_3D = (
    *("liver", "right_kidney", "left_kidney", "right_femur", "left_femur", "bladder", "heart", "right_lung"),
    *("left_lung", "spleen", "pancreas"),
)


@dataclass(frozen=True)
class Known:
    """What MedMNIST says of one of its sets."""

    modality: str
    classes: tuple[str, ...]
    mirror: bool = True
    licence: str = "CC BY 4.0"


CT = "abdominal CT"
SETS = {
    "pathmnist": Known(
        "histology",
        (
            *("adipose", "background", "debris", "lymphocytes", "mucus", "smooth_muscle", "normal_mucosa"),
            *("cancer_associated_stroma", "adenocarcinoma_epithelium"),
        ),
    ),
    "chestmnist": Known("chest X-ray", tuple(name.replace("_thickening", "") for name in FINDINGS), mirror=False),
    "dermamnist": Known(
        "dermatoscopy",
        (
            *("actinic_keratoses", "basal_cell_carcinoma", "benign_keratosis", "dermatofibroma", "melanoma"),
            *("melanocytic_nevi", "vascular_lesions"),
        ),
        licence="CC BY-NC 4.0",
    ),
    "octmnist": Known("retinal OCT", ("cnv", "dme", "drusen", "normal")),
    "pneumoniamnist": Known("chest X-ray", ("normal", "pneumonia"), mirror=False),
    "retinamnist": Known("fundus photograph", GRADES),
    "breastmnist": Known("breast ultrasound", ("malignant", "normal_or_benign")),
    "bloodmnist": Known(
        "blood smear",
        (
            *("basophil", "eosinophil", "erythroblast", "immature_granulocyte", "lymphocyte", "monocyte"),
            *("neutrophil", "platelet"),
        ),
    ),
    "tissuemnist": Known(
        "kidney cortex microscopy",
        (
            *("collecting_duct", "distal_convoluted_tubule", "glomerular_endothelial_cell"),
            *("interstitial_endothelial_cell", "leukocyte", "podocyte", "proximal_tubule", "thick_ascending_limb"),
        ),
    ),
    **{f"organ{plane}mnist": Known(CT, ORGANS, mirror=False) for plane in "acs"},
    "organmnist3d": Known(CT, ORGANS_3D, mirror=False),
    "nodulemnist3d": Known("chest CT", ("benign", "malignant")),
    "adrenalmnist3d": Known("shape from CT", ("normal", "hyperplasia")),
    "fracturemnist3d": Known("chest CT", ("buckle_fracture", "nondisplaced_fracture", "displaced_fracture")),
    "vesselmnist3d": Known("shape from MRA", ("vessel", "aneurysm")),
    "synapsemnist3d": Known("electron microscopy", ("inhibitory_synapse", "excitatory_synapse")),
}


@LAYOUTS.register("medmnist")
class MedMNIST(Layout):
    """One class a picture, or a column a finding where labels have several columns (ChestMNIST)."""

    title = "MedMNIST"
    needs = ("*.npz",)
    names_classes: ClassVar[bool] = True

    def about(self) -> DatasetFile:
        set_ = SETS.get(self._set, Known("", (), licence=OWN_TERMS))
        return DatasetFile(
            classes=self.classes or set_.classes, modality=set_.modality, mirror=set_.mirror, licence=set_.licence
        )

    def rows(self) -> Iterator[Row]:
        names = self.about().classes
        if not names:
            known = f"{self._archive.name} is none of MedMNIST's own sets"
            raise ManifestError(f"{known}; name its classes in the order of their numbers: --classes a,b")
        try:
            with zipfile.ZipFile(self._archive) as archive:
                for part, split in SPLITS.items():
                    yield from ({**row, "split": split} for row in self._part(archive, part, names))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
            told = " ".join(str(error).split())[:200] or type(error).__name__
            raise ManifestError(f"{self._archive} cannot be read as MedMNIST ({told}); download it again") from error

    def _part(self, archive: zipfile.ZipFile, part: str, names: tuple[str, ...]) -> Iterator[Row]:
        labels = np.concatenate([*_portions(archive, f"{part}_labels")])
        images = (image for portion in _portions(archive, f"{part}_images") for image in portion)
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):  # ValueError where one ends early
            path = self._write(image, self.out / "images" / part / f"{number:06d}")
            yield {"path": path, **_labels(label, names, self._archive)}
            within(number + 1, len(labels), f"{part} images")

    @cached_property
    def _archive(self) -> Path:
        if self.folder.is_file():
            return self.folder
        found = sorted(self.folder.glob("*.npz"))
        if len(found) != 1:
            raise ManifestError(f"{self.folder} holds {len(found)} .npz files; name one of them")
        return found[0]

    @property
    def _set(self) -> str:
        """`pneumoniamnist`, of `pneumoniamnist_224.npz` too."""
        return re.sub(r"_\d+$", "", self._archive.stem.lower())

    @staticmethod
    def _write(image: np.ndarray, path: Path) -> Path:
        """One picture `(h, w)` or `(h, w, 3)` as PNG, one volume `(slices, h, w)` as TIFF, unless it is there."""
        volume = image.ndim == 3 and image.shape[2] != 3
        path = path.with_suffix(".tiff" if volume else ".png")
        if path.is_file():
            return path
        if not volume:
            return write_picture(image, path)
        pages = [Image.fromarray(page) for page in image[1:]]
        return write_picture(image[0], path, "tiff", save_all=True, append_images=pages)


def _labels(label: np.ndarray, names: tuple[str, ...], archive: Path) -> Row:
    """The class of a number, or of several 0s and 1s the columns."""
    values = np.atleast_1d(label)
    cure = f"give {archive.name} all of its classes, in the order of their numbers: --classes a,b"
    if len(values) > 1 and len(values) != len(names):
        raise ManifestError(f"an image has {len(values)} labels, but there are {len(names)} classes; {cure}")
    if len(values) > 1:
        return {name: int(value) for name, value in zip(names, values, strict=True)}
    if not 0 <= values[0] < len(names):
        raise ManifestError(f"an image has label {values[0]}, but there are {len(names)} classes; {cure}")
    return {"label": names[int(values[0])]}


def _portions(archive: zipfile.ZipFile, name: str) -> Iterator[np.ndarray]:
    """The array `name` of whole numbers, some rows at a time; ValueError for anything else, EOFError where it ends."""
    with archive.open(f"{name}.npy") as file:
        shape, dtype = _head(file)
        if not shape or dtype.kind not in "iu" or len(shape) > 4 or (name.endswith("images") and dtype != np.uint8):
            raise ValueError(f"{name} holds {dtype} {shape}, not 8-bit images or whole numbers")
        size = int(np.prod(shape[1:])) * dtype.itemsize
        for start in range(0, shape[0], step := max(1, PORTION // max(size, 1))):
            count = min(step, shape[0] - start)
            content = file.read(count * size)
            if len(content) < count * size:
                raise EOFError(f"{name} ends early")
            yield np.frombuffer(content, dtype).reshape(count, *shape[1:])


def _head(file: Any) -> tuple[tuple[int, ...], np.dtype]:
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if fortran and len(shape) > 1:
        raise ValueError("its rows are not one after the other")
    return shape, dtype
