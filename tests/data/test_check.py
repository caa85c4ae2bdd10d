import json

import nibabel
import numpy as np
import pytest
from PIL import Image

from counterscan.data.check import check_manifest
from counterscan.data.manifest import read_manifest, scan_folder

RNG = np.random.default_rng(5)
ROWS = """path,label,split,fold,patient_id,mask_path
a.png,tumour,train,1,p1,masks/a.png
b.png,normal,train,2,p1,masks/b.png
c.png,tumour,test,2,p2,masks/c.png
d.png,tumour,test,2,p3,masks/d.png
e.png,normal,train,1,p4,
f.png,normal,train,1,p5,masks/missing.png
"""


@pytest.fixture
def faulty(tmp_path):
    """A manifest with one fault of each kind."""
    rng = np.random.default_rng(0)
    pictures = {name: rng.integers(0, 256, (8, 10)).astype(np.uint8) for name in "abcdef"}
    pictures["d"] = pictures["a"]
    (tmp_path / "masks").mkdir()
    for name, picture in pictures.items():
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    full = np.full((8, 10), 255, np.uint8)
    for name, mask in {"a": full, "b": full, "c": full * 0, "d": full[:4]}.items():
        Image.fromarray(mask).save(tmp_path / "masks" / f"{name}.png")
    (tmp_path / "e.png").write_bytes(b"nothing")
    (tmp_path / "labels.csv").write_text(ROWS)
    return read_manifest(tmp_path)


@pytest.mark.parametrize("workers", [1, 2])
def test_every_fault_is_found_and_nothing_else(faulty, workers):
    seen = []
    summary = check_manifest(faulty, workers=workers, progress=seen.append)
    assert not summary.ok
    assert summary.leaks == ("patient p1 is in folds 1 and 2",)
    assert len(summary.duplicates) == 1
    assert summary.duplicates[0].startswith("a, d are the same picture in different splits")
    assert len(summary.unreadable) == 1
    assert "e.png" in summary.unreadable[0]
    assert [fault.split(":")[0] for fault in summary.masks] == ["b", "c", "d", "f"]
    expected = ("shows no disease", "is empty", "does not fit", "does not exist")
    for words, fault in zip(expected, summary.masks, strict=True):
        assert words in fault
    assert seen == [1, 2, 3, 4, 5, 6]


def test_counts_are_by_class_split_and_fold(faulty):
    summary = check_manifest(faulty)
    assert (summary.images, summary.patients) == (6, 5)
    assert summary.counts["tumour"] == {"test": (2, 0, 0), "train": (1, 3, 0)}
    assert summary.folds["1"] == {"images": 3, "patients": 3, "normal": 2, "tumour": 1}
    assert summary.sizes == {"10 x 8": 5}
    assert summary.kinds == {"png uint8 grey": 5}


def test_the_text_is_for_people_and_the_dict_for_json(faulty):
    summary = check_manifest(faulty)
    text = str(summary)
    assert "6 images of 5 patients" in text
    assert "unreadable: 1" in text
    assert "mend what is listed" in text
    assert json.loads(json.dumps(summary.as_dict()))["ok"] is False


def test_a_benign_finding_needs_no_mask(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "m.png")
    (tmp_path / "dataset.toml").write_text("classes = ['tumour', 'cyst']\nconfounders = ['cyst']\n")
    (tmp_path / "labels.csv").write_text("path,tumour,cyst,mask_path,patient_id\na.png,0,1,m.png,p\n")
    summary = check_manifest(read_manifest(tmp_path))
    assert summary.ok
    assert "nothing to mend" in str(summary)


def test_plain_images_can_be_checked_too(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "a.png")
    summary = check_manifest(scan_folder(tmp_path))
    assert summary.ok
    assert len(summary.notes) == 3  # deep pixels without a window, no patients, no classes
    assert "no classes" in str(summary)


def test_images_without_a_split_are_called_so(tmp_path):
    for name in "ab":
        Image.fromarray(np.full((4, 4), ord(name), np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "labels.csv").write_text("path,tumour,split\na.png,1,train\nb.png,0,\n")
    summary = check_manifest(read_manifest(tmp_path))
    assert summary.counts["tumour"] == {"train": (1, 0, 0), "without a split": (0, 1, 0)}
    assert "without a split (present / absent / unknown)" in str(summary)


def test_long_lists_are_cut_in_the_text_only(tmp_path):
    for number in range(15):
        (tmp_path / f"{number:02d}.png").write_bytes(b"nothing")
    summary = check_manifest(scan_folder(tmp_path))
    assert len(summary.unreadable) == 15
    assert "and 5 more" in str(summary)


def test_a_mask_in_another_place_is_named(tmp_path):
    affine = np.diag([0.8, 0.8, 2.0, 1.0])
    shifted = affine.copy()
    shifted[0, 3] = 4.0
    for name, lies in {"a": affine, "b": affine, "m": affine, "shifted": shifted}.items():
        nibabel.save(
            nibabel.Nifti1Image(RNG.integers(1, 99, (6, 7, 4)).astype(np.uint8), lies), tmp_path / f"{name}.nii"
        )
    (tmp_path / "labels.csv").write_text("path,tumour,mask_path\na.nii,1,m.nii\nb.nii,1,shifted.nii\n")
    (fault,) = check_manifest(read_manifest(tmp_path)).masks
    assert fault.startswith("b: mask lies up to 5 voxels off its image")
