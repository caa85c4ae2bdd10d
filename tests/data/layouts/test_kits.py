"""KiTS: tumours become masks of their own, cysts are known where somebody drew them."""

import json

import nibabel
import numpy as np
import pytest


def drawn(*values):
    """A segmentation with a block of each value."""
    labels = np.zeros((5, 8, 8), np.int16)
    for number, value in enumerate(values):
        labels[number, 2:5, 2:6] = value
    return labels


@pytest.fixture
def kits(tree):
    for number, values in enumerate([(1, 2), (1, 2, 3), (1,)]):
        tree.volume(f"case_{number:05d}/imaging.nii.gz")
        tree.volume(f"case_{number:05d}/segmentation.nii.gz", drawn(*values))
    entry = {"case_id": "case_00001", "age_at_nephrectomy": 49.0, "gender": "male", "tumor_histology": "clear_cell_rcc"}
    tree.text("kits.json", json.dumps([entry]))
    return tree


def test_labels_and_masks_of_the_tumour_alone(kits, taken, tmp_path):
    told, manifest, cases = taken("kits")
    assert (told.images, told.patients) == (3, 3)
    one, two, three = (next(case for case in cases.values() if case.patient == f"case_0000{n}") for n in range(3))
    assert [case.labels for case in (one, two, three)] == [
        {"tumour": 1, "cyst": 0},
        {"tumour": 1, "cyst": 1},
        {"tumour": 0, "cyst": 0},
    ]
    mask, source = nibabel.load(two.mask_path), nibabel.load(kits.folder / "case_00001/segmentation.nii.gz")
    np.testing.assert_array_equal(np.asarray(mask.dataobj), np.asarray(source.dataobj) == 2)
    np.testing.assert_allclose(mask.affine, source.affine)
    assert not np.asarray(nibabel.load(three.mask_path).dataobj).any()
    assert two.facts == {"age": "49.0", "sex": "M", "histology": "clear_cell_rcc"}
    assert manifest.window.as_tuple() == (-160, 240, "HU")


def test_cysts_are_unknown_where_nobody_drew_any(kits, taken):
    kits.volume("case_00001/segmentation.nii.gz", drawn(1, 2))
    _, manifest, _ = taken("kits")
    assert manifest.classes == ("tumour",)
    assert manifest.confounders == ("cyst",)


def test_a_case_without_segmentation_is_unlabelled_and_one_without_image_missing(kits, taken):
    (kits.folder / "case_00000/segmentation.nii.gz").unlink()
    (kits.folder / "case_00002/imaging.nii.gz").unlink()
    told, _, cases = taken("kits")
    assert told.missing == ("data/case_00002/imaging.nii.gz",)
    unlabelled = next(case for case in cases.values() if case.patient == "case_00000")
    assert (unlabelled.split, unlabelled.mask_path) == ("unlabelled", None)
    assert set(unlabelled.labels.values()) == {None}


def test_a_damaged_segmentation_is_one_line(kits, taken):
    path = kits.folder / "case_00001/segmentation.nii.gz"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(Exception, match=r"case_00001/segmentation.nii.gz is a damaged NIFTI file"):
        taken("kits")
