"""Volumes through a job: slices are read once and in order, results lie in the source's geometry, faults are listed."""

import csv
import dataclasses
import json
import re

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from torch.nn.functional import avg_pool2d

from counterscan.core import Card, Explanation, Target
from counterscan.data.manifest import find_cases
from counterscan.data.opening import open_scan
from counterscan.engine import Job, run
from counterscan.explainers.inpainting import Inpainting
from counterscan.metrics.lesions import VolumeRule
from counterscan.metrics.masks import MaskRule, mask_of
from counterscan.volumes.stream import grid_of, notes

SIDE, SHAPE = 32, (1, 32, 32)
AFFINE = np.diag([-0.8, -0.8, 2.0, 1.0])


class Brightest:
    """Answers whether any large part is brighter than the middle of the window."""

    card = Card(name="bright", shape=SHAPE, classes=("bright",), modality="abdominal CT")
    differentiable = False

    def __call__(self, images):
        return avg_pool2d(images, 5, 1).flatten(1).max(1, keepdim=True).values * 20


class Dimmer:
    """Edits what is bright into something dark."""

    card = Card(name="dimmer", kind="editor", shape=SHAPE, classes=("bright",))

    def __call__(self, images, target):
        return torch.where(images > -0.2, images - 1.2, images).clamp(-1, 1)


def job(source, out, **changes):
    ready = Job(
        manifest=find_cases(source),
        classifier=Brightest(),
        explainer=Inpainting(Dimmer()),
        target=Target(((0, 0.0),)),
        out=out,
        batch=4,
        rule=MaskRule(0.25),
        masks_only=True,
    )
    return dataclasses.replace(ready, **changes)


def values():
    pixels = np.random.default_rng(0).integers(10, 60, (40, 40, 15)).astype(np.int16)
    pixels[8:20, 10:22, 5:11] = 240
    pixels[30:36, 30:36, 2] = 240  # in one thin slice
    return pixels


@pytest.fixture
def nifti(tmp_path):
    nibabel.save(nibabel.Nifti1Image(values(), AFFINE), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


@pytest.fixture
def series(tmp_path):
    folder = tmp_path / "ct"
    folder.mkdir()
    for number, plane in enumerate(values().T):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
        meta.MediaStorageSOPInstanceUID = f"1.2.3.{number + 1}"
        image = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
        image.SOPClassUID, image.SOPInstanceUID, image.Modality = CTImageStorage, f"1.2.3.{number + 1}", "CT"
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = "1.2", "1.2.3", "1.2.4"
        image.PatientName = image.PatientID = image.PatientBirthDate = image.PatientSex = image.StudyDate = ""
        image.StudyTime = image.AccessionNumber = image.StudyID = image.ReferringPhysicianName = ""
        image.ImagePositionPatient, image.ImageOrientationPatient = [0, 0, 2 * number], [1, 0, 0, 0, 1, 0]
        image.PixelSpacing, image.SliceThickness, image.InstanceNumber = [0.8, 0.8], 2, number + 1
        image.WindowCenter, image.WindowWidth, image.SeriesNumber = 127, 256, 1
        image.Rows, image.Columns, image.SamplesPerPixel, image.PhotometricInterpretation = 40, 40, 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
        image.PixelData = np.ascontiguousarray(plane).tobytes()
        pydicom.dcmwrite(folder / f"{number:02}.dcm", image, enforce_file_format=True)
    return folder


def lesions(out):
    return list(csv.DictReader((out / "lesions.csv").open()))


def test_a_nifti_volume_gets_a_mask_a_lesion_and_a_page(nifti, tmp_path):
    out = tmp_path / "out"
    outcome = run(job(nifti, out))
    assert (outcome.rows[0]["slices"], outcome.rows[0]["lesions"]) == (15, 1)
    mask = nibabel.load(out / "masks" / "scan.nii.gz")
    assert np.allclose(mask.affine, AFFINE)
    inside = mask.get_fdata() > 0
    assert inside[10:18, 12:20, 6:10].all()
    assert not inside[28:].any(), "what stands in one thin slice is dropped"
    (lesion,) = lesions(out)
    assert float(lesion["ml_low"]) <= float(lesion["ml"]) <= float(lesion["ml_high"])
    assert float(lesion["ml"]) == pytest.approx(12 * 12 * 6 * 0.8 * 0.8 * 2 / 1000, rel=0.25)
    where = [float(lesion[f"{axis}_mm"]) for axis in "xyz"]
    assert where == pytest.approx([-13.5 * 0.8, -15.5 * 0.8, 15], abs=1)
    assert lesion["coordinates"] == "RAS+ millimetres"
    page = (out / "volumes" / "scan.html").read_text()
    assert page.count('"image": "data:image/jpeg') == 15
    assert not re.search(r"(src|href)=.?http|url\(http|<link", page)
    assert [path.name for path in (out / "volumes").iterdir() if path.name.endswith("part")] == []


def test_a_series_gets_a_segmentation_that_refers_to_it(series, tmp_path):
    highdicom = pytest.importorskip("highdicom")
    run(job(series, tmp_path / "out"))
    seg = highdicom.seg.segread(tmp_path / "out" / "masks" / "ct.dcm")
    sources = [head.SOPInstanceUID for head in open_scan(series).source.datasets()]
    frames = seg.get_pixels_by_source_instance(sources, segment_numbers=[1])[..., 0] > 0
    assert np.flatnonzero(frames.any((1, 2))).tolist() == list(range(5, 11))
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3"
    (lesion,) = lesions(tmp_path / "out")
    assert lesion["coordinates"] == "LPS+ millimetres"
    assert [float(lesion[f"{axis}_mm"]) for axis in "xyz"] == pytest.approx([13.5 * 0.8, 15.5 * 0.8, 15], abs=1)


def test_slices_are_read_once_and_in_order(series, tmp_path, monkeypatch):
    from counterscan.data import dicom_series

    looked, real = [], dicom_series._physical
    monkeypatch.setattr(dicom_series, "_physical", lambda path: looked.append(path.stem) or real(path))
    run(job(series, tmp_path / "out", window=None))
    assert looked == [f"{number:02}" for number in range(15)]


def test_explain_writes_the_same_mask_and_metrics_see_it(nifti, tmp_path):
    run(job(nifti, tmp_path / "masks"))
    run(job(nifti, tmp_path / "all", masks_only=False))
    case = tmp_path / "all" / "cases" / "scan"
    assert {"volume.html", "lesions.json", "mask.nii.gz", "counterfactual.nii.gz"} <= {p.name for p in case.iterdir()}
    first, second = (nibabel.load(p).get_fdata() for p in (tmp_path / "masks/masks/scan.nii.gz", case / "mask.nii.gz"))
    assert np.array_equal(first, second)
    assert np.array_equal(mask_of(Explanation.load(case)).flatten(1).any(1).numpy(), first.any((0, 1)))
    assert lesions(tmp_path / "masks") == lesions(tmp_path / "all")


def test_explain_looks_at_the_tensors_of_one_slice_at_a_time(nifti, series, tmp_path, monkeypatch):
    from counterscan.volumes import content

    looked, real = [], content.some_slices
    monkeypatch.setattr(content, "some_slices", lambda *a: looked.append(len(range(15)[a[2]])) or real(*a))
    for path in (nifti, series):
        run(job(path, tmp_path / f"of-{path.name}", masks_only=False, judge=Brightest()))
    assert len(looked) >= 60, "change and map of every slice of both"
    assert set(looked) == {1}
    meta = Explanation.load(tmp_path / "of-ct" / "cases" / "ct").meta
    assert (len(meta["judge_before"]), len(meta["judge_after"]), len(meta["after_scan"])) == (15, 15, 15)


def test_a_lesion_and_its_case_have_the_confidence_of_the_rule_for_volumes(nifti, tmp_path):
    images = MaskRule(0.25, confidence_intercept=2.0, confidence_slope=1.5)
    rule = dataclasses.replace(images, volume_intercept=-1.0, volume_slope=1.5)
    run(job(nifti, tmp_path / "masks", rule=rule))
    run(job(nifti, tmp_path / "all", rule=rule, masks_only=False))
    run(job(nifti, tmp_path / "unknown", rule=images))
    for out in (tmp_path / "masks", tmp_path / "all"):
        (lesion,) = lesions(out)
        told = float(VolumeRule(rule).confidence(float(lesion["peak"])))
        assert float(lesion["confidence"]) == pytest.approx(told, abs=2e-3)
        assert next(csv.DictReader((out / "cases.csv").open()))["confidence"] == lesion["confidence"]
    assert f"<td>{lesion['confidence']}</td>" in (tmp_path / "masks" / "volumes" / "scan.html").read_text()
    (lesion,) = lesions(tmp_path / "unknown")
    assert lesion["confidence"] == ""
    assert "confidence" not in (tmp_path / "unknown" / "volumes" / "scan.html").read_text()


def test_a_job_that_goes_on_keeps_its_volumes(nifti, tmp_path, monkeypatch):
    first = run(job(nifti, tmp_path / "out"))
    monkeypatch.setattr(Dimmer, "__call__", lambda *_: pytest.fail("it was explained already"))
    assert run(job(nifti, tmp_path / "out")).rows == first.rows
    assert len(lesions(tmp_path / "out")) == 1


def test_a_volume_with_a_damaged_slice_is_listed_and_the_others_are_done(nifti, series, tmp_path):
    damaged = series / "07.dcm"
    damaged.write_bytes(damaged.read_bytes()[:-500])
    both = [series, nifti]
    cases = tuple(case for path in both for case in find_cases(path).cases)
    manifest = dataclasses.replace(find_cases(nifti), root=tmp_path, cases=cases)
    outcome = run(job(nifti, tmp_path / "out", manifest=manifest))
    assert [row["name"] for row in outcome.rows] == ["scan"]
    ((_, name, line),) = outcome.failed
    assert name == "ct"
    assert "07.dcm" in line
    assert "\n" not in line


@pytest.mark.filterwarnings("ignore:.*written as a picture")
def test_a_head_that_no_report_can_be_made_of_is_a_line_in_failed_csv(nifti, series, tmp_path):
    pytest.importorskip("highdicom")
    odd = "1.2.826.0.1.3680043.8.498.99"  # a class of nobody's
    for path in series.iterdir():
        head = pydicom.dcmread(path)
        head.SOPClassUID = head.file_meta.MediaStorageSOPClassUID = odd
        head.save_as(path)
    cases = tuple(case for path in (series, nifti) for case in find_cases(path).cases)
    manifest = dataclasses.replace(find_cases(nifti), root=tmp_path, cases=cases)
    outcome = run(job(nifti, tmp_path / "out", manifest=manifest, masks_only=False))
    assert [row["name"] for row in outcome.rows] == ["scan"]
    (row,) = csv.DictReader((tmp_path / "out" / "failed.csv").open())
    assert row["name"] == "ct"
    assert "no report can be made of its head" in row["error"]
    assert [path.name for path in (tmp_path / "out" / "cases").iterdir()] == ["scan"], "nothing half-written stays"


def test_a_tilted_gantry_is_measured_along_the_normal():
    class Sheared:
        affine = np.array([[1.0, 0, 0, 0], [0, 1, 1.0, 0], [0, 0, 3, 0], [0, 0, 0, 1]])
        spacing, pixels, source = (1.0, 1.0, float(np.sqrt(10))), np.empty((4, 1, 8, 8)), object()

        def __len__(self):
            return 4

    assert np.allclose(grid_of(Sheared(), (1, 8, 8)).steps, 3)
    (line,) = notes(Sheared())
    assert "18 degrees (gantry tilt)" in line


def test_what_is_no_stack_has_no_grid(nifti, tmp_path):
    scan = open_scan(nifti)
    assert grid_of(scan, SHAPE).pixel == pytest.approx((1.0, 1.0))
    assert grid_of(dataclasses.replace(scan, affine=None, spacing=None), SHAPE) is None
    assert grid_of(dataclasses.replace(scan, spacing=(0.0, 1.0, 2.0)), SHAPE) is None
    assert grid_of(scan, (1, 8, 8, 8)) is None, "what looks at whole volumes needs no joining"


SPOILS = {
    "no pixdim and no affine": {"pixdim": [1, 0, 0, 0, 0, 0, 0, 0], "qform_code": 0, "sform_code": 0},
    "slices in one place": {"srow_z": [0, 0, 0, 0]},
}


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
@pytest.mark.parametrize("masks_only", [True, False])
def test_a_volume_without_spacing_is_told_and_masked_slice_by_slice(tmp_path, capsys, spoil, masks_only):
    nibabel.save(nibabel.Nifti1Image(values(), AFFINE), tmp_path / "good.nii")
    content = bytearray((tmp_path / "good.nii").read_bytes())
    header = nibabel.Nifti1Header(bytes(content[:348]), check=False)
    for name, value in spoil.items():
        header[name] = value
    (tmp_path / "scan.nii").write_bytes(header.binaryblock + content[348:])
    with pytest.warns(UserWarning, match=r"scan.nii: a spacing of zero or none .*ml; set pixdim") as told:
        outcome = run(job(tmp_path / "scan.nii", tmp_path / "out", masks_only=masks_only))
    assert len([one for one in told if "a spacing of zero" in str(one.message)]) == 1
    assert "pixdim" not in capsys.readouterr().err, "nibabel's own log is not for users"
    (row,) = outcome.rows
    assert row["slices"] == 15
    assert "lesions" not in row
    (path,) = tmp_path.glob("out/masks/*.nii" if masks_only else "out/cases/scan/mask.nii")
    inside = np.asarray(nibabel.load(path).dataobj) > 0
    assert inside.shape == values().shape
    assert inside.any((0, 1)).tolist() == [index == 2 or 5 <= index < 11 for index in range(15)]
    assert not (tmp_path / "out" / "lesions.csv").exists()


def test_an_attribution_has_a_page_of_its_evidence(nifti, tmp_path):
    from counterscan.explainers.attribution.occlusion import Occlusion

    run(job(nifti, tmp_path / "out", explainer=Occlusion()))
    page = (tmp_path / "out" / "volumes" / "scan.html").read_text()
    assert page.count('"evidence": "data:image/jpeg') == 15
    assert 'id="counterfactual"' not in page
    assert json.loads((tmp_path / "out" / "volumes" / "scan.lesions.json").read_text())["slices"] == 15
