"""MedMNIST: arrays become files in portions, and every label its name."""

import numpy as np
import pytest
from PIL import Image

from counterscan.data.layouts import medmnist
from counterscan.errors import ManifestError


@pytest.fixture
def npz(tree):
    """Writes an .npz with `n` images a part; answers its path."""

    def write(name, shape=(28, 28), labels=None, n=4, **more):
        tree.folder.mkdir(exist_ok=True)
        arrays = {}
        for part in ("train", "val", "test"):
            arrays[f"{part}_images"] = tree.random.integers(0, 255, (n, *shape)).astype(np.uint8)
            arrays[f"{part}_labels"] = np.arange(n).reshape(-1, 1) % 2 if labels is None else labels
        np.savez_compressed(tree.folder / name, **arrays | more)
        return tree.folder / name

    return write


def test_a_known_set_in_small_portions(npz, taken, monkeypatch, tmp_path):
    monkeypatch.setattr(medmnist, "PORTION", 3 * 28 * 28)
    path = npz("pneumoniamnist.npz")
    told, manifest, cases = taken("medmnist", path)
    assert (told.images, manifest.classes, manifest.licence) == (12, ("normal", "pneumonia"), "CC BY 4.0")
    assert not manifest.mirror
    for part, split in (("train", "train"), ("val", "validation"), ("test", "test")):
        written = [np.asarray(Image.open(tmp_path / f"out/images/{part}/{number:06d}.png")) for number in range(4)]
        np.testing.assert_array_equal(written, np.load(path)[f"{part}_images"])
        rows = [case for case in cases.values() if case.split == split]
        assert [case.labels["pneumonia"] for case in rows] == [0, 1, 0, 1]
    assert not (tmp_path / "out/data").exists()


def test_colour_of_another_size_and_findings_side_by_side(npz, taken):
    told, manifest, _ = taken("medmnist", npz("retinamnist_64.npz", (64, 64, 3)))
    assert (told.images, manifest.classes[0]) == (12, "no_dr")
    assert manifest.cases[0].read().pixels.shape == (1, 3, 64, 64)


def test_findings_have_columns(npz, taken):
    labels = np.eye(14, dtype=np.int64)[:4] + np.eye(14, dtype=np.int64)[4]
    _, manifest, _ = taken("medmnist", npz("chestmnist.npz", labels=labels))
    assert not manifest.exclusive
    assert manifest.classes[:3] == ("atelectasis", "cardiomegaly", "effusion")
    assert manifest.cases[1].labels["cardiomegaly"] == manifest.cases[1].labels["mass"] == 1
    assert manifest.cases[1].labels["effusion"] == 0


def test_volumes_have_pages(npz, taken):
    path = npz("nodulemnist3d.npz", (9, 28, 28), n=2)
    _, manifest, _ = taken("medmnist", path)
    np.testing.assert_array_equal(manifest.cases[1].read().pixels[:, 0], np.load(path)["train_images"][1])


def test_an_unknown_set_needs_its_classes(npz, taken):
    path = npz("ours.npz")
    with pytest.raises(ManifestError, match=r"none of MedMNIST's own sets; name its classes .* --classes a,b"):
        taken("medmnist", path)
    _, manifest, _ = taken("medmnist", path, classes=("healthy", "ill"))
    assert manifest.classes == ("healthy", "ill")
    assert manifest.licence == "see the data set's own terms"


def test_a_folder_with_one_archive_will_do_but_not_with_two(npz, taken, tree):
    npz("pneumoniamnist.npz")
    assert taken("medmnist")[0].images == 12
    npz("pneumoniamnist_64.npz")
    with pytest.raises(ManifestError, match=r"holds 2 \.npz files; name one of them"):
        taken("medmnist")


@pytest.mark.parametrize(
    ("arrays", "line"),
    [
        ({"train_labels": np.full((4, 1), 9)}, "an image has label 9, but there are 2 classes; give ours.npz all"),
        ({"train_labels": np.ones((4, 3), int)}, "an image has 3 labels, but there are 2 classes"),
        ({"train_labels": np.zeros((3, 1), int)}, "cannot be read as MedMNIST"),
        ({"train_labels": np.zeros((5, 1), int)}, "cannot be read as MedMNIST"),
        ({"train_images": np.zeros((4, 28, 28))}, "float64 .* not 8-bit images"),
        ({"train_labels": np.array([{}] * 4, object)}, "cannot be read as MedMNIST"),
    ],
)
def test_what_is_wrong_is_one_line(npz, taken, arrays, line):
    with pytest.raises(ManifestError, match=line):
        taken("medmnist", npz("ours.npz", **arrays), classes=("a", "b"))


def test_an_archive_that_ends_early_is_one_line(npz, taken):
    path = npz("pneumoniamnist.npz")
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ManifestError, match=r"cannot be read as MedMNIST .*; download it again"):
        taken("medmnist", path)
