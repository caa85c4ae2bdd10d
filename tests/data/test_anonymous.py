import numpy as np
import pydicom
from pydicom import Dataset

from counterscan.data.anonymous import anonymous
from counterscan.data.scans import read_scan

SECRETS = (b"Mustermann", b"MRN-4711", b"19640812", b"Klinikum", b"Doktor", b"20240102")


def telling(dicom, **tags):
    """A file that says in many places who the patient is."""
    item = Dataset()
    item.RequestingPhysician, item.RequestedProcedureDescription = "Doktor^Hans", "Mustermann CT"
    nested = Dataset()
    nested.PersonName = "Mustermann^Erika"
    item.ReferencedPatientSequence = [nested]
    path = dicom(
        np.arange(64, dtype=np.int16).reshape(8, 8),
        RequestAttributesSequence=[item],
        ReferencedImageSequence=[item],
        ImageComments="Mustermann, Erika",
        OperatorsName="Doktor^Eva",
        StationName="Klinikum 3",
        ProtocolName="Mustermann thorax",
        AcquisitionDateTime="20240102101500",
        AcquisitionContextSequence=[item],
        **tags,
    )
    dataset = pydicom.dcmread(path)
    block = dataset.private_block(0x0009, "Mustermann Systems", create=True)
    block.add_new(1, "LO", "Mustermann^Erika")
    dataset.add_new(0x60003000, "OW", b"Mustermann")
    dataset.save_as(path)
    return path


def test_nothing_of_the_patient_reaches_a_result(dicom, tmp_path, place):
    path = telling(dicom, **place)
    assert all(secret in path.read_bytes() for secret in SECRETS)
    scan = read_scan(path)
    mask = scan.pixels[:, 0] > 20
    for written in (scan.write(scan.pixels, tmp_path / "a.dcm"), scan.write_mask(mask, tmp_path / "b.dcm")):
        content = written.read_bytes()
        assert not [secret for secret in SECRETS if secret in content]


def test_required_attributes_are_empty_rather_than_missing(dicom):
    bare = anonymous(pydicom.dcmread(telling(dicom)))
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "AccessionNumber"):
        assert keyword in bare
        assert not bare[keyword].value
    assert list(bare.AcquisitionContextSequence) == []
    assert bare.PatientIdentityRemoved == "YES"


def test_the_source_is_left_as_it_is(dicom):
    dataset = pydicom.dcmread(telling(dicom))
    anonymous(dataset)
    assert dataset.PatientName == "Mustermann^Erika"
    assert dataset.ReferencedImageSequence[0].RequestingPhysician == "Doktor^Hans"


def test_what_the_image_needs_stays(dicom, place):
    dataset = pydicom.dcmread(dicom(np.zeros((4, 4), np.int16), **place))
    bare = anonymous(dataset)
    for keyword in (*place, "StudyInstanceUID", "Modality", "Rows", "BitsStored", "RescaleIntercept"):
        assert bare[keyword].value == dataset[keyword].value
    assert "PixelData" not in bare
