"""How a made scan is kept: a PNG, or a DICOM secondary capture that nobody can take for a recording of a patient."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydicom import Dataset
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid
from torch import Tensor

from counterscan.core import Card
from counterscan.data.dataset import DatasetFile
from counterscan.data.derived import equipment, save, set_pixels
from counterscan.data.raster import encode, write_picture
from counterscan.data.window import Window
from counterscan.errors import check_one_of

KINDS = ("png", "dicom")
SUFFIX = {"png": ".png", "dicom": ".dcm"}
EMPTY = (  # asked for by the standard, and true of no scan that was never taken
    "PatientBirthDate",
    "PatientSex",
    "ReferringPhysicianName",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "Laterality",
    "PatientOrientation",
)
WARNING = "SYNTHETIC: made by a neural network, not a recording of a patient, not for diagnosis"


@dataclass(frozen=True)
class Storage:
    """Writes images of a generator with `card` as `kind` (png or dicom): 16 bits a pixel in grey, 8 in colour."""

    card: Card
    kind: str = "png"

    def __post_init__(self) -> None:
        check_one_of("format", self.kind, KINDS)

    @property
    def levels(self) -> int:
        """The highest stored value."""
        return 255 if self.card.shape[0] == 3 else 65535

    @property
    def window(self) -> Window:
        """What black and white are, in physical units."""
        return Window(*self.card.window) if self.card.window else Window(0.0, 1.0, "intensity")

    def stored(self, images: Tensor) -> Tensor:
        """Images `(n, c, h, w)` in [-1, 1] as they are once written and read again."""
        return torch.round((images.clamp(-1, 1) + 1) / 2 * self.levels) / self.levels * 2 - 1

    def write(self, image: Tensor, path: Path, patient: str, words: str) -> Path:
        """Write `image` `(c, h, w)` to `path`, without its ending; a DICOM file names the `patient` and the `words`."""
        dtype = np.dtype(np.uint8 if self.levels == 255 else np.uint16)
        pixels = encode((image.double().numpy() + 1) / 2 * self.levels, dtype)
        if self.kind == "dicom":
            return save(self._capture(pixels, patient, words), path.with_suffix(".dcm"))
        shown = np.moveaxis(pixels, 0, -1) if len(pixels) == 3 else pixels[0]
        return write_picture(shown, path.with_suffix(".png"))

    def dataset_file(self, classes: tuple[str, ...], source: str) -> DatasetFile:
        """What `dataset.toml` says of the archive."""
        low, high = self.window.low, self.window.high
        told = DatasetFile(
            classes=classes,
            modality=f"{self.card.modality or 'image'}, synthetic",
            window=self.window.as_tuple(),
            source=source,
        )
        if self.kind == "png":
            return told.model_copy(update={"slope": (high - low) / self.levels, "intercept": low})
        # a DICOM file holds its own rescale, and of colour there is none
        return told.model_copy(update={"window": (0.0, 255.0)}) if self.levels == 255 else told

    def _capture(self, pixels: np.ndarray, patient: str, words: str) -> Dataset:
        """The secondary capture of stored values `(c, h, w)`; the same pixels get the same UIDs."""
        digest = hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()
        result = _head(patient, digest)
        result.DerivationDescription = f"{WARNING}. {words}"[:1024]
        result.Rows, result.Columns = pixels.shape[1:]
        result.BitsAllocated = result.BitsStored = pixels.dtype.itemsize * 8
        result.HighBit, result.PixelRepresentation = result.BitsStored - 1, 0
        result.PhotometricInterpretation = "MONOCHROME2"
        if self.levels != 255:
            self._scale(result)
        set_pixels(result, pixels)
        return result

    def _scale(self, result: Dataset) -> None:
        low, high = self.window.low, self.window.high
        result.RescaleSlope, result.RescaleIntercept = f"{(high - low) / self.levels:.10g}", f"{low:.10g}"
        result.RescaleType = self.window.unit if self.window.physical else "US"
        result.WindowCenter, result.WindowWidth = f"{(low + high) / 2:.10g}", f"{high - low:.10g}"
        result.VOILUTFunction = "LINEAR_EXACT"
        result.PresentationLUTShape = "IDENTITY"


def _head(patient: str, digest: str) -> Dataset:
    """What says in as many places as DICOM has that there is no patient: name, type, conversion, flag and words."""
    head = Dataset()
    head.SOPClassUID = SecondaryCaptureImageStorage
    head.SOPInstanceUID, head.SeriesInstanceUID, head.StudyInstanceUID = (
        generate_uid(entropy_srcs=[what, patient, digest]) for what in ("instance", "series", "study")
    )
    head.PatientName, head.PatientID = "SYNTHETIC^NOT A PATIENT", patient[:64]
    for keyword in EMPTY:
        setattr(head, keyword, "")
    head.Modality, head.ConversionType, head.Manufacturer = "OT", "SYN", "counterscan"
    head.ImageType = ["DERIVED", "SECONDARY"]
    head.SyntheticData, head.BurnedInAnnotation = "YES", "NO"
    head.StudyDescription = head.SeriesDescription = "SYNTHETIC, not a patient (counterscan)"
    head.ImageComments, head.PatientComments = WARNING, WARNING
    head.SeriesNumber, head.InstanceNumber = 1, 1
    head.ContributingEquipmentSequence = [equipment()]
    return head
