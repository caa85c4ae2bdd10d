import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from counterscan.data.derived import derived, set_pixels
from counterscan.data.scans import read_scan

SIGNED = np.random.default_rng(0).integers(-1024, 1500, (7, 9)).astype(np.int16)


def test_a_result_is_a_derived_synthetic_copy_in_the_same_place(dicom, tmp_path, place):
    path = dicom(SIGNED, BurnedInAnnotation="NO", SmallestImagePixelValue=5, **place)
    scan = read_scan(path)
    before, after = pydicom.dcmread(path), pydicom.dcmread(scan.write(scan.pixels - 3, tmp_path / "out"))
    assert list(after.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
    assert "ynthetic counterfactual by counterscan" in after.DerivationDescription
    assert after.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID != before.SOPInstanceUID
    assert after.SeriesInstanceUID != before.SeriesInstanceUID
    assert after.SourceImageSequence[0].ReferencedSOPInstanceUID == before.SOPInstanceUID
    assert "SmallestImagePixelValue" not in after
    assert after.SyntheticData == "YES"
    assert after.ContributingEquipmentSequence[0].ManufacturerModelName == "counterscan"
    for keyword in (*place, "SOPClassUID", "StudyInstanceUID", "BurnedInAnnotation", "PhotometricInterpretation"):
        assert after[keyword].value == before[keyword].value


def test_the_same_result_has_the_same_uid_and_another_one_another(dicom, tmp_path):
    scan = read_scan(dicom(SIGNED))
    one, same, other = (
        pydicom.dcmread(scan.write(scan.pixels + shift, tmp_path / f"{number}.dcm"))
        for number, shift in enumerate((1, 1, 2))
    )
    assert one.SOPInstanceUID == same.SOPInstanceUID != other.SOPInstanceUID
    assert one.SeriesInstanceUID == other.SeriesInstanceUID


def test_a_source_without_uids_gets_a_whole_result(dicom, tmp_path, place):
    path = dicom(SIGNED, **place)
    dataset = pydicom.dcmread(path)
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "ImageType"):
        setattr(dataset, keyword, "")
    dataset.save_as(path)
    scan = read_scan(path)
    after = pydicom.dcmread(scan.write(scan.pixels, tmp_path / "out.dcm"))
    assert after.SOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
    assert after.StudyInstanceUID
    assert scan.write_mask(scan.pixels[:, 0] > 0, tmp_path / "mask.dcm").is_file()


def test_an_enhanced_copy_says_it_of_its_frames_too(dicom):
    dataset = pydicom.dcmread(dicom(SIGNED))
    kind, group = Dataset(), Dataset()
    kind.FrameType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    group.CTImageFrameTypeSequence = [kind]
    dataset.SharedFunctionalGroupsSequence = [group]
    dataset.ContentQualification, dataset.ImageType = "PRODUCT", kind.FrameType
    copy = derived(dataset, SIGNED, "counterfactual")
    frames = copy.SharedFunctionalGroupsSequence[0].CTImageFrameTypeSequence[0]
    assert list(frames.FrameType) == list(copy.ImageType) == ["DERIVED", "PRIMARY", "VOLUME", "NONE"]
    assert copy.ContentQualification == "RESEARCH"
    assert list(dataset.ImageType) == ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], "the source is left as it is"


def test_frames_are_stored_one_after_the_other(dicom):
    dataset = pydicom.dcmread(dicom(SIGNED))
    set_pixels(dataset, np.stack([SIGNED, -SIGNED])[:, None])
    assert np.array_equal(np.frombuffer(dataset.PixelData, "<i2").reshape(2, *SIGNED.shape), [SIGNED, -SIGNED])
