"""My CSV of DICOMs: explain the slices that a table lists, and get DICOM back that any viewer opens.

Run: python examples/csv_of_dicoms.py [FOLDER]    (segmentations and maps need counterscan[dicom])
"""

import csv
import sys
import tempfile
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from counterscan import draw
from counterscan.cli import app


def write_slice(path: Path, number: int, hounsfield: np.ndarray) -> None:
    """In place of your scanner: one CT slice of one patient."""
    ct = Dataset()
    ct.file_meta = FileMetaDataset()
    ct.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ct.SOPClassUID, ct.SOPInstanceUID, ct.Modality = CTImageStorage, generate_uid(), "CT"
    ct.StudyInstanceUID, ct.SeriesInstanceUID, ct.FrameOfReferenceUID = (generate_uid() for _ in range(3))
    ct.PatientName, ct.PatientID, ct.ImageType = f"Doe^Jane^{number}", f"MRN{number}", ["ORIGINAL", "PRIMARY", "AXIAL"]
    ct.ImagePositionPatient, ct.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    ct.PixelSpacing, ct.SliceThickness = [2.5, 2.5], 5
    ct.Rows, ct.Columns, ct.SamplesPerPixel, ct.PhotometricInterpretation = *hounsfield.shape, 1, "MONOCHROME2"
    ct.BitsAllocated, ct.BitsStored, ct.HighBit, ct.PixelRepresentation = 16, 12, 11, 0
    ct.RescaleSlope, ct.RescaleIntercept, ct.RescaleType = 1, -1024, "HU"
    ct.PixelData = (hounsfield + 1024).round().clip(0, 4095).astype(np.uint16).tobytes()
    ct.save_as(path, enforce_file_format=True)


def main(folder: Path) -> None:
    """Write the slices and the table, explain them, and look at what came out."""
    (folder / "ct").mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "patient_id", "tumour"])
        for number in range(4):
            phantom = draw("abdomen", number, seed=11, size=128)
            write_slice(folder / f"ct/{number}.dcm", number, phantom.image)
            table.writerow([f"ct/{number}.dcm", f"p{number}", int(phantom.labels["tumour"])])

    words = ["explain", folder / "labels.csv", "--classifier", "abdomen/classifier", "--with", "inpainting"]
    app([*map(str, words), "--target", "tumour=0", "--out", str(folder / "answers")], standalone_mode=False)
    for path in sorted((folder / "answers").glob("cases/*/*.dcm")):
        kind, named = pydicom.dcmread(path).SOPClassUID.name, b"Doe" in path.read_bytes()
        print(f"{path.parent.name}/{path.name}: {kind}, patient's name in it: {named}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else temporary))
