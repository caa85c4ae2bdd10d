"""DICOM files made here: what the tests need, and a patient whose name must not come out."""

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid


@pytest.fixture
def dicom(tmp_path):
    """Write `array` as a CT slice with the tags given; returns its path."""

    def write(array, name="a.dcm", **tags):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
        dataset = FileDataset(str(tmp_path / name), {}, file_meta=meta, preamble=bytes(128))
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
        dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "Mustermann^Erika", "MRN-4711", "19640812"
        dataset.InstitutionName, dataset.StudyDate, dataset.SeriesNumber = "Klinikum Musterstadt", "20240102", 3
        dataset.ReferringPhysicianName, dataset.StudyDescription = "Doktor^Hans", "Mustermann staging"
        dataset.Modality, dataset.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.Rows, dataset.Columns = array.shape[:2]
        dataset.SamplesPerPixel = 1 if array.ndim == 2 else 3
        dataset.PhotometricInterpretation = "MONOCHROME2" if array.ndim == 2 else "RGB"
        dataset.BitsAllocated = dataset.BitsStored = array.dtype.itemsize * 8
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelRepresentation = int(array.dtype.kind == "i")
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
        if array.ndim == 3:
            dataset.PlanarConfiguration = 0
        for keyword, value in tags.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)
        content = np.ascontiguousarray(array).tobytes()
        dataset.add_new(0x7FE00010, "OW" if array.dtype.itemsize > 1 else "OB", content + b"\0" * (len(content) % 2))
        pydicom.dcmwrite(tmp_path / name, dataset, enforce_file_format=True)
        return tmp_path / name

    return write


@pytest.fixture
def enhanced(dicom):
    """Write frames `(n, h, w)` as an enhanced multi-frame file: a z position, a slope and an intercept a frame."""

    def write(array, z, slopes=None, intercepts=None, **tags):
        def item(**values):
            inner = pydicom.Dataset()
            for keyword, value in values.items():
                setattr(inner, keyword, value)
            return inner

        shared = item(
            PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
            PixelMeasuresSequence=[item(PixelSpacing=[0.5, 0.6], SliceThickness=2)],
            FrameVOILUTSequence=[item(WindowCenter=50, WindowWidth=101)],
        )
        each = [
            item(
                PlanePositionSequence=[item(ImagePositionPatient=[-10, -20, at])],
                PixelValueTransformationSequence=[
                    item(
                        RescaleSlope=(slopes or [1] * len(z))[number],
                        RescaleIntercept=(intercepts or [0] * len(z))[number],
                        RescaleType="HU",
                    )
                ],
            )
            for number, at in enumerate(z)
        ]
        return dicom(
            array,
            NumberOfFrames=len(array),
            Rows=array.shape[1],
            Columns=array.shape[2],
            SamplesPerPixel=1,
            PhotometricInterpretation="MONOCHROME2",
            PlanarConfiguration=None,
            SharedFunctionalGroupsSequence=[shared],
            PerFrameFunctionalGroupsSequence=each,
            **{"RescaleSlope": None, "RescaleIntercept": None, "SOPClassUID": EnhancedCTImageStorage, **tags},
        )

    return write


PLACE = {
    "FrameOfReferenceUID": "1.2.826.0.1.3680043.8.498.1",
    "ImagePositionPatient": [-30, 12.5, 100],
    "ImageOrientationPatient": [1, 0, 0, 0, 0.8, -0.6],
    "PixelSpacing": [0.7, 0.9],
    "SliceThickness": 3,
}


@pytest.fixture
def place():
    """The tags of a tilted slice."""
    return dict(PLACE)
