"""What a case leaves behind: results in the format of its scan, and nothing of who the patient is."""

import csv
import gzip
import json
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from nibabel.nifti1 import Nifti1Extension
from PIL import Image, PngImagePlugin
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from torch.nn.functional import avg_pool2d

from counterscan.core import Card, Explanation, Target
from counterscan.data.manifest import find_cases
from counterscan.engine import Job, run
from counterscan.explainers.inpainting import Inpainting
from counterscan.metrics.masks import MaskRule

SECRETS = ("Zwetschgenkern", "MRN-471199", "18640812", "Klosterspital", "ACC-993311", "Quittenbaum")
pytestmark = pytest.mark.filterwarnings("ignore")  # pydicom's, of texts longer than their tags allow
STUDY, SERIES, FRAME = (generate_uid() for _ in range(3))


class Brightest:
    """Answers whether any large part is brighter than the middle of the window."""

    card = Card(name="bright", shape=(1, 32, 32), classes=("bright",))
    differentiable = True

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return avg_pool2d(images, 9, 1).flatten(1).max(1, keepdim=True).values * 20


class Dimmer:
    """Edits what is bright into something dark."""

    card = Card(name="dimmer", kind="editor", shape=(1, 32, 32), classes=("bright",))

    def __call__(self, images: torch.Tensor, target: Target) -> torch.Tensor:
        return torch.where(images > -0.2, images - 1.2, images).clamp(-1, 1)


def pixels(seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).integers(10, 60, (40, 36)).astype(np.uint8)
    values[10:30, 10:30] = 230
    return values


def png(path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Patient", " ".join(SECRETS))
    text.add_itxt("Comment", " ".join(SECRETS), zip=True)
    Image.fromarray(pixels()).save(path, pnginfo=text)


def jpeg(path: Path) -> None:
    exif = Image.Exif()
    exif[270] = exif[315] = " ".join(SECRETS)  # description, artist
    Image.fromarray(pixels()).save(path, exif=exif, comment=" ".join(SECRETS).encode())


def tiff(path: Path) -> None:
    Image.fromarray(pixels()).save(path, tiffinfo={270: " ".join(SECRETS), 315: SECRETS[0], 316: SECRETS[3]})


def nifti(path: Path) -> None:
    image = nibabel.Nifti1Image(np.stack([pixels(), pixels(1)], -1), np.diag([0.7, 0.7, 3, 1]))
    image.header["descrip"], image.header["db_name"] = " ".join(SECRETS)[:80].encode(), SECRETS[0].encode()
    image.header["aux_file"] = SECRETS[3].encode()
    image.header.extensions.append(Nifti1Extension("comment", " ".join(SECRETS).encode()))
    nibabel.save(image, path)


def dicom(path: Path, number: int = 0, **tags: object) -> None:
    """A CT slice that tells who the patient is in tags of its own, in sequences and in private ones."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=SECRETS[0].encode().ljust(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = STUDY, SERIES, FRAME
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = f"{SECRETS[0]}^Erika", SECRETS[1], SECRETS[2]
    dataset.InstitutionName, dataset.AccessionNumber, dataset.OperatorsName = SECRETS[3], SECRETS[4], SECRETS[5]
    dataset.StudyDescription = dataset.SeriesDescription = dataset.ImageComments = " ".join(SECRETS)
    dataset.StationName, dataset.DeviceSerialNumber, dataset.StudyID = SECRETS[3], SECRETS[4], SECRETS[4]
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = SECRETS[2]
    item = pydicom.Dataset()
    item.RequestedProcedureDescription, item.RequestingPhysician = " ".join(SECRETS), SECRETS[5]
    dataset.RequestAttributesSequence = dataset.ReferencedImageSequence = [item]
    dataset.private_block(0x0009, SECRETS[3], create=True).add_new(1, "LO", " ".join(SECRETS))
    dataset.Modality, dataset.Manufacturer, dataset.ImageType = "CT", "ACME", ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, number * 3.0], [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness, dataset.InstanceNumber = [0.7, 0.7], 3, number + 1
    dataset.SeriesNumber, dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 3, 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns, dataset.PixelRepresentation = 40, 36, 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelData = 7, pixels(number).tobytes()
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)


def series(path: Path) -> None:
    for number in range(3):
        dicom(path / f"{number}.dcm", number)


def nrrd(path: Path) -> None:
    """Written by hand, for the library would not write a comment or what the volume is called."""
    pytest.importorskip("SimpleITK")
    values = np.stack([pixels(), pixels(1)])
    told = " ".join(SECRETS)
    head = f"NRRD0005\n# {told}\ntype: uint8\ndimension: 3\nspace: left-posterior-superior\nsizes: 36 40 2\n"
    head += "space directions: (0.7,0,0) (0,0.7,0) (0,0,3)\nencoding: gzip\nspace origin: (0,0,0)\n"
    head += f"content: {told}\nPatientName:={SECRETS[0]}\n0010|0020:={SECRETS[1]}\nDICOM_0008_0080:={told}\n\n"
    path.write_bytes(head.encode() + gzip.compress(values.tobytes()))


def mha(path: Path) -> None:
    pytest.importorskip("SimpleITK")
    values, told = np.stack([pixels(), pixels(1)]), " ".join(SECRETS)
    head = f"ObjectType = Image\nNDims = 3\nComment = {told}\nBinaryData = True\nTransformMatrix = 1 0 0 0 1 0 0 0 1\n"
    head += "Offset = 0 0 0\nElementSpacing = 0.7 0.7 3\nDimSize = 36 40 2\nElementType = MET_UCHAR\n"
    head += f"PatientName = {SECRETS[0]}\nPatientID = {SECRETS[1]}\n0008|0080 = {told}\nElementDataFile = LOCAL\n"
    path.write_bytes(head.encode() + values.tobytes())


FORMATS = {
    "scan.png": png,
    "scan.jpg": jpeg,
    "scan.tif": tiff,
    "scan.nii": nifti,
    "scan.nii.gz": nifti,
    "scan.dcm": dicom,
    "series": series,
    "scan.nrrd": nrrd,
    "scan.mha": mha,
}


def explained(source: Path, out: Path, **changes: object) -> Path:
    """Explain a scan into `out`; the folder of its case."""
    facts = {"batch": 3, "rule": MaskRule(0.25), **changes}
    job = Job(find_cases(source), Brightest(), Inpainting(Dimmer()), Target(((0, 0.0),)), out, **facts)
    assert not run(job).failed
    return next((out / "cases").iterdir())


def opened(content: bytes) -> bytes:
    """A file's bytes, and behind them what they hold compressed: gzip, or the text chunks of a PNG."""
    if content[:2] == b"\x1f\x8b":
        return gzip.decompress(content)
    for start in range(len(content) - 1):
        if content[start] == 0x78 and content[start + 1] in (0x01, 0x5E, 0x9C, 0xDA):
            try:
                content += zlib.decompressobj().decompress(content[start:])
            except zlib.error:
                continue
    return content


def telling(path: Path) -> list[str]:
    content = opened(path.read_bytes()).lower()
    return [secret for secret in SECRETS if secret.lower().encode() in content or secret in path.name]


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_of_the_patient_is_in_any_file_or_line(name, tmp_path, capfd):
    source = tmp_path / "in" / name
    source.parent.mkdir()
    FORMATS[name](source)
    files = source.glob("*.dcm") if source.is_dir() else [source]
    assert all(set(telling(path)) >= set(SECRETS[:1]) for path in files), "the source must tell, or this proves nothing"
    explained(source, tmp_path / "out")
    explained(source, tmp_path / "masks", masks_only=True)
    written = [path for out in ("out", "masks") for path in (tmp_path / out).rglob("*") if path.is_file()]
    assert len(written) > 8
    assert {path.name: telling(path) for path in written if telling(path)} == {}
    said = capfd.readouterr()
    assert not [secret for secret in SECRETS if secret in said.out + said.err]


RESULTS = {
    "scan.png": {"figure": "figure.png", "mask": "mask.png", "counterfactual": "counterfactual.png"},
    "scan.dcm": {
        "figure": "figure.png",
        "mask": "mask.dcm",
        "counterfactual": "counterfactual.dcm",
        "heatmap": "heatmap.dcm",
        "report": "report.dcm",
    },
    "series": {
        "figure": "figure.png",
        "mask": "mask.dcm",
        "counterfactual": "counterfactual",
        "heatmap": "heatmap.dcm",
        "report": "report.dcm",
    },
    "scan.nii.gz": {
        "figure": "figure.png",
        "mask": "mask.nii.gz",
        "counterfactual": "counterfactual.nii.gz",
        "heatmap": "heatmap.nii.gz",
    },
    "scan.nrrd": {
        "figure": "figure.png",
        "mask": "mask.nrrd",
        "counterfactual": "counterfactual.nrrd",
        "heatmap": "heatmap.nrrd",
    },
    "scan.mha": {
        "figure": "figure.png",
        "mask": "mask.mha",
        "counterfactual": "counterfactual.mha",
        "heatmap": "heatmap.mha",
    },
}


@pytest.mark.parametrize("name", RESULTS)
def test_a_case_holds_what_its_format_can(name, tmp_path):
    pytest.importorskip("highdicom")
    FORMATS[name](tmp_path / name)
    case = explained(tmp_path / name, tmp_path / "out")
    files = Explanation.load(case).meta["files"]
    assert files == RESULTS[name]
    beside = {"explanation.json", "explanation.safetensors", "SHA256SUMS"}
    if name not in ("scan.png", "scan.dcm"):  # volumes
        beside |= {"lesions.json", "volume.html"}
    assert {path.name for path in case.iterdir()} == set(files.values()) | beside


def test_the_report_says_what_the_row_says(tmp_path):
    highdicom = pytest.importorskip("highdicom")
    series(tmp_path / "series")
    case = explained(tmp_path / "series", tmp_path / "out")
    row = json.loads((case / "explanation.json").read_text())["meta"]["row"]
    report = highdicom.sr.srread(case / "report.dcm").content
    (bright,) = report.get_image_measurement_groups()
    before, after = (one.value for one in bright.get_measurements())
    assert (round(before, 4), round(after, 4)) == (row["p_before_bright"], row["p_after_bright"])
    (roi,) = report.get_volumetric_roi_measurement_groups()
    (size,) = roi.get_measurements()
    mask = pydicom.dcmread(case / "mask.dcm").pixel_array
    assert size.value == pytest.approx(mask.sum() * 0.7 * 0.7 * 3 / 1000, abs=1e-3)
    assert size.unit.value == "ml"


def test_a_map_lies_on_what_changed(tmp_path):
    pytest.importorskip("highdicom")
    dicom(tmp_path / "scan.dcm")
    case = explained(tmp_path / "scan.dcm", tmp_path / "out")
    heat = pydicom.dcmread(case / "heatmap.dcm").pixel_array.reshape(40, 36)
    change = np.abs(pydicom.dcmread(case / "counterfactual.dcm").pixel_array.astype(float) - pixels())
    assert heat.dtype == np.float32
    assert heat[15:25, 15:25].min() > 0.4
    assert heat[:5].max() < 0.05
    assert np.corrcoef(heat.ravel(), change.ravel())[0, 1] > 0.95


def test_masks_alone_lie_under_the_names_of_their_scans(tmp_path):
    dicom(tmp_path / "in" / "a" / "scan.dcm")
    series(tmp_path / "series")
    explained(tmp_path / "in", tmp_path / "out", masks_only=True)
    assert (tmp_path / "out" / "masks" / "a" / "scan.dcm").is_file()
    explained(tmp_path / "series", tmp_path / "volume", masks_only=True)
    (mask,) = (tmp_path / "volume" / "masks").rglob("*.dcm")
    assert mask.is_file()


def test_a_case_has_the_confidence_of_its_largest_object_or_none(tmp_path):
    dicom(tmp_path / "scan.dcm")
    rule = MaskRule(0.25, confidence_intercept=-1.0, confidence_slope=2.0)
    for name, changes in {"all": {}, "masks": {"masks_only": True}, "unknown": {"rule": MaskRule(0.25)}}.items():
        explained(tmp_path / "scan.dcm", tmp_path / name, **{"rule": rule, **changes})
    told = {name: next(csv.DictReader((tmp_path / name / "cases.csv").open())) for name in ("all", "masks", "unknown")}
    (expected,) = rule.confidence(rule.objects(Explanation.load(tmp_path / "all/cases/scan").heatmap[0, 0].numpy())[2])
    assert float(told["all"]["confidence"]) == pytest.approx(expected, abs=1e-3)
    assert told["masks"]["confidence"] == told["all"]["confidence"]
    assert told["unknown"]["confidence"] == ""


def test_what_the_answer_is_at_scan_knows_the_units_that_the_manifest_gave(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    stored = ((pixels().astype(int) + 1000) * 16).astype(np.uint16)
    Image.fromarray(stored).save(folder / "scan.png")
    (folder / "labels.csv").write_text("path,bright\nscan.png,1\n")
    low, high = float(pixels().min()), float(pixels().max())
    (folder / "dataset.toml").write_text(f"slope = 0.0625\nintercept = -1000\nwindow = [{low}, {high}, 'HU']\n")
    case = explained(folder, tmp_path / "out")
    row = json.loads((case / "explanation.json").read_text())["meta"]["row"]
    assert row["p_scan_bright"] == pytest.approx(row["p_after_bright"], abs=0.05)
