import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from counterscan.data import batches
from counterscan.data.batches import load_batch, open_images, read_mask
from counterscan.data.manifest import read_manifest, scan_folder
from counterscan.data.window import Window
from counterscan.errors import ManifestError, ScanError

N = 7


@pytest.fixture
def manifest(tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "CHUNK", 3)
    rows = ["path,nodule,effusion,patient_id,mask_path,twin_path"]
    for number in range(N):
        Image.fromarray(np.full((20, 24), number * 30, np.uint8)).save(tmp_path / f"{number}.png")
        mask = np.zeros((20, 24), np.uint8)
        mask[:10] = 255
        Image.fromarray(mask).save(tmp_path / f"m{number}.png")
        Image.fromarray(np.full((20, 24), number * 10, np.uint8)).save(tmp_path / f"t{number}.png")
        paths = f"m{number}.png,t{number}.png" if number else ","
        rows.append(f"{number}.png,{int(number > 2)},{'' if number == 1 else 0},p{number},{paths}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    return read_manifest(tmp_path)


def expected(number, step=30):
    return number * step / 127.5 - 1


def test_a_batch_has_the_shape_and_range_that_was_asked_for(manifest):
    batch = load_batch(manifest.cases, (3, 8, 8))
    assert batch.shape == (N, 3, 8, 8)
    assert torch.allclose(batch[:, 0, 4, 4], torch.tensor([expected(number) for number in range(N)]), atol=1e-6)


def test_the_store_holds_images_labels_patients_masks_and_twins(manifest, tmp_path):
    images = open_images(manifest, (1, 10, 12), cache=tmp_path / "cache")
    assert len(images) == N
    assert images.images.dtype == torch.float16
    assert torch.allclose(images.batch([2, 5])[:, 0, 0, 0], torch.tensor([expected(2), expected(5)]), atol=1e-3)
    assert images.batch(3).shape == (1, 1, 10, 12)
    assert images.labels[:, 0].tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert torch.isnan(images.labels[1, 1])
    assert images.patients[3] == "p3"
    masks = images.masks([0, 4])
    assert masks.dtype == torch.bool
    assert masks.shape == (2, 1, 10, 12)
    assert not masks[0].any()
    assert masks[1, 0, :5].all()
    assert not masks[1, 0, 5:].any()
    assert abs(images.twin(4)[0, 0, 0, 0] - expected(4, 10)) < 1e-5
    with pytest.raises(ManifestError, match="no twin"):
        images.twin(0)


def test_a_killed_build_goes_on_where_it_was(manifest, tmp_path, monkeypatch):
    real, calls = batches.load_image, []

    def dies(case, *rest):
        calls.append(case.name)
        if case.name == "4":
            raise KeyboardInterrupt
        return real(case, *rest)

    monkeypatch.setattr(batches, "load_image", dies)
    with pytest.raises(KeyboardInterrupt):
        open_images(manifest, (1, 8, 8), cache=tmp_path / "cache")
    calls.clear()
    monkeypatch.setattr(batches, "load_image", lambda case, *rest: (calls.append(case.name), real(case, *rest))[1])
    told = []
    images = open_images(manifest, (1, 8, 8), cache=tmp_path / "cache", progress=told.append)
    assert sorted(calls) == ["3", "4", "5", "6"]
    assert told == [6, 7]
    assert torch.allclose(images.batch(range(N)), load_batch(manifest.cases, (1, 8, 8)), atol=1e-3)
    calls.clear()
    open_images(manifest, (1, 8, 8), cache=tmp_path / "cache")
    assert calls == []


def test_other_images_shapes_and_windows_have_other_stores(manifest, tmp_path):
    cache = tmp_path / "cache"
    files = {
        open_images(manifest, shape, window, cache).file
        for shape, window in [((1, 8, 8), None), ((1, 9, 8), None), ((1, 8, 8), Window(0, 1))]
    }
    Image.fromarray(np.zeros((21, 24), np.uint8)).save(manifest.cases[0].path)
    files.add(open_images(manifest, (1, 8, 8), cache=cache).file)
    assert len(files) == 4


def test_nobody_writes_through_the_store(manifest, tmp_path):
    images = open_images(manifest, (1, 8, 8), cache=tmp_path / "cache")
    images.images[0] = 9
    assert open_images(manifest, (1, 8, 8), cache=tmp_path / "cache").batch(0).max() <= 1


SMAPS = Path("/proc/self/smaps")


@pytest.mark.skipif(not SMAPS.exists(), reason="only Linux says what is resident of a mapped file")
def test_what_was_read_does_not_stay_in_memory(manifest, tmp_path):
    images = open_images(manifest, (1, 256, 256), cache=tmp_path / "cache")
    assert resident(images.file) == 0
    images.images.float()
    assert resident(images.file) >= len(images) * 128  # KiB
    images.batch(range(len(images)))
    assert resident(images.file) == 0


def resident(file: Path) -> int:
    """KiB of a mapped file that count as this process's memory."""
    _, *mappings = SMAPS.read_text().split(f"{file}\n")
    return sum(int(re.search(r"Rss:\s+(\d+)", lines)[1]) for lines in mappings)


def test_the_cache_folder_can_be_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv("COUNTERSCAN_CACHE", str(tmp_path / "mine"))
    assert batches.default_cache() == tmp_path / "mine"


def test_a_diseased_image_without_a_mask_is_no_truth(manifest, tmp_path):
    cases = tuple(case for case in manifest.cases if case.name == "3")
    bare = type(manifest)(manifest.root, manifest.classes, tuple(type(c)(c.path, c.name, c.labels) for c in cases))
    with pytest.raises(ManifestError, match="no mask"):
        open_images(bare, (1, 8, 8), cache=tmp_path / "cache").masks(0)


def test_volumes_are_not_taken_for_images(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 3), np.float32), np.eye(4)), tmp_path / "v.nii")
    with pytest.raises(ScanError, match="volume of 3 slices"):
        load_batch(scan_folder(tmp_path).cases, (1, 4, 4))


def test_an_unreadable_image_is_named(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no")
    with pytest.raises(ScanError, match=r"broken\.png"):
        open_images(scan_folder(tmp_path), (1, 4, 4), cache=tmp_path / "cache")


def test_masks_of_jpeg_files_ignore_their_noise(tmp_path):
    mask = np.zeros((32, 32), np.uint8)
    mask[10:20, 10:20] = 255
    Image.fromarray(mask).save(tmp_path / "m.jpg", quality=50)
    assert np.array_equal(read_mask(tmp_path / "m.jpg")[0], mask > 0)
