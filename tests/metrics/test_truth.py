import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from counterscan.core import Explanation, Target
from counterscan.data.manifest import read_manifest
from counterscan.errors import ManifestError
from counterscan.metrics.truth import read_truth


def explanation(n=1, side=16, meta=None):
    images = torch.zeros(n, 1, side, side)
    return Explanation(
        images, Target(((0, 0.0),)), images.abs(), torch.zeros(n, 1), torch.zeros(n, dtype=torch.bool), meta=meta or {}
    )


@pytest.fixture
def manifest(tmp_path):
    mask = np.zeros((32, 32), np.uint8)
    mask[8:16, 8:16] = 255
    for name, pixels in (
        ("a", mask),
        ("b", mask),
        ("c", mask),
        ("mask", mask),
        ("twin", np.full((32, 32), 51, np.uint8)),
    ):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    rows = ["path,mask_path,twin_path,tumour", "a.png,mask.png,twin.png,1", "b.png,,,0", "c.png,,,1"]
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    return read_manifest(tmp_path)


def test_mask_and_twin_come_at_the_size_that_was_worked_on(manifest):
    truth = read_truth(manifest, manifest.cases[0], explanation())
    assert truth.mask.shape == (1, 1, 16, 16)
    assert truth.mask[0, 0, 4:8, 4:8].all()
    assert int(truth.mask.sum()) == 16
    assert truth.twin == pytest.approx(torch.full((1, 1, 16, 16), 51 / 127.5 - 1), abs=1e-5)


def test_the_twin_is_seen_through_the_window_of_its_image(manifest):
    truth = read_truth(manifest, manifest.cases[0], explanation(meta={"window": [0.0, 102.0, ""]}))
    assert truth.twin == pytest.approx(torch.zeros(1, 1, 16, 16), abs=1e-5)


def test_no_mask_means_empty_for_a_healthy_image_and_unknown_for_a_diseased_one(manifest):
    healthy, diseased = (read_truth(manifest, case, explanation()) for case in manifest.cases[1:])
    assert healthy.diseased.tolist() == [False]
    assert diseased.mask is None
    assert healthy.twin is None


def test_a_mask_of_another_number_of_slices_is_refused(manifest):
    with pytest.raises(ManifestError, match="1 slices, its image 3"):
        read_truth(manifest, manifest.cases[0], explanation(3))


@pytest.fixture
def volumes(tmp_path):
    """A manifest of one NIfTI volume, and a function that writes its mask with another affine or size."""
    affine = np.diag([-0.8, -0.8, 3.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(np.ones((16, 16, 3), np.int16), affine), tmp_path / "v.nii.gz")
    (tmp_path / "labels.csv").write_text("path,mask_path,tumour\nv.nii.gz,mask.nii.gz,1\n")

    def truth(change, size=16):
        mask = nibabel.Nifti1Image(np.ones((size, 16, 3), np.uint8), affine @ change)
        nibabel.save(mask, tmp_path / "mask.nii.gz")
        manifest = read_manifest(tmp_path)
        return read_truth(manifest, manifest.cases[0], explanation(3))

    return truth


def test_a_mask_in_the_scans_place_is_taken(volumes):
    assert volumes(np.eye(4)).mask.all()


@pytest.mark.parametrize(
    ("change", "size", "words"),
    [
        (np.array([[1, 0, 0, 4], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), 16, "4 voxels off"),
        (np.diag([1.0, 1.0, -1.0, 1.0]), 16, "flipped along the slice axis"),
        (np.diag([-1.0, 1.0, 1.0, 1.0]), 16, "voxels off"),
        (np.eye(4), 15, "mask 15 x 16 x 3 does not fit image 16 x 16 x 3"),
    ],
    ids=["shifted", "flipped slices", "flipped columns", "other size"],
)
def test_a_mask_on_another_grid_is_refused_in_one_line(volumes, change, size, words):
    with pytest.raises(ManifestError, match=words) as told:
        volumes(change, size)
    assert "mask.nii.gz" in str(told.value)
    assert "\n" not in str(told.value)


def test_the_grid_that_was_noted_is_the_one_compared(manifest):
    noted = {"grid": {"size": [1, 32, 31], "spacing": None, "affine": None}}
    with pytest.raises(ManifestError, match="mask 32 x 32 does not fit image 31 x 32"):
        read_truth(manifest, manifest.cases[0], explanation(meta=noted))
