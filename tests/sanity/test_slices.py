"""Volumes are examined by the slice that the classifier finds furthest from the target, and that is said."""

import csv
import json
from dataclasses import replace

import nibabel
import numpy as np
import pytest

from counterscan.data.manifest import read_manifest
from counterscan.explainers.attribution.gradient import Gradient
from counterscan.sanity.examination import examine
from counterscan.sanity.slices import images_of, told_of


@pytest.fixture
def volumes(manifests, tmp_path):
    """The images of the toy set as volumes: between slices without the mark, as the second, third or fourth."""
    root, flat = tmp_path / "volumes", manifests["centre"]
    root.mkdir()
    plain = flat.cases[1].read().pixels[0, 0]
    rows = []
    for number, case in enumerate(flat.cases[:24]):
        slices = np.stack([plain] * 5)
        slices[1 + number % 3] = case.read().pixels[0, 0]
        affine = np.diag([-1.0, -1.0, 3.0, 1.0])  # columns to the left, rows to the back: as a picture is shown
        nibabel.save(nibabel.Nifti1Image(slices.transpose(2, 1, 0), affine), root / f"{number:02}.nii.gz")
        rows.append([f"{number:02}.nii.gz", case.labels["mark"], f"p{number}"])
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "mark", "patient_id"], *rows])
    (root / "dataset.toml").write_text('window = [0, 255, ""]\n')
    return read_manifest(root)


def test_the_furthest_slice_stands_for_a_volume(volumes, manifests, classifiers, target):
    images, shown = images_of(volumes, classifiers["centre"], target, None, lambda _: None)
    flat = manifests["centre"]
    for number in range(0, 24, 2):
        assert shown[volumes.cases[number].name] == (2 + number % 3, 5)
        expected = flat.cases[number].read().images((1, 40, 40))
        assert np.allclose(images.batch(number), expected, atol=0.01)
    assert len(images) == 24
    assert set(images.labels[:, 0].tolist()) == {0, 1}


def test_flat_images_are_taken_as_they_are(manifests, classifiers, target):
    images, shown = images_of(manifests["centre"], classifiers["centre"], target, None, lambda _: None)
    assert shown == {}
    assert images.file.exists(), "they are decoded once, and kept"
    assert told_of(shown, ("a",)) == ""


def test_an_examination_of_volumes_says_which_slices(volumes, job):
    ready = replace(job(Gradient()), manifest=volumes)
    found = examine(ready, n=4)
    told = json.loads((ready.out / "sanity.json").read_text())
    assert told["explained"] == 4
    assert told["slices"]["00"] == [2, 5]
    assert len(told["slices"]) == 24
    line = str(found).splitlines()[0]
    assert line.startswith("Of 24 volumes the slice furthest from the target was taken. Those explained: 00 2 of 5, ")
    assert line in (ready.out / "index.html").read_text()
