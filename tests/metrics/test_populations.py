"""Two folders, and a folder of explanations, beside real images of the class that was asked for."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from counterscan.classifiers.features import Extractor
from counterscan.classifiers.function import FunctionClassifier
from counterscan.core import Card, Target
from counterscan.data.batches import load_batch
from counterscan.data.manifest import read_manifest
from counterscan.errors import CounterscanError
from counterscan.explainers.inpainting import Inpainting
from counterscan.metrics.populations import Explained, dealt, realism

SIDE = 16
CARD = Card(name="toy", shape=(1, SIDE, SIDE), classes=("bright",))


def moments(images):
    """Mean and spread of the four quarters."""
    quarters = images.unfold(2, 8, 8).unfold(3, 8, 8).flatten(4)
    return torch.cat([quarters.mean(-1).flatten(1), quarters.std(-1).flatten(1)], 1)


EXTRACTOR = Extractor("moments of quarters", moments)


class Dimmer:
    """An editor that takes a bright square away, and `leaves` some of it."""

    def __init__(self, leaves=0.0):
        self.leaves, self.card = leaves, CARD.model_copy(update={"kind": "editor", "name": f"dim {leaves}"})

    def __call__(self, images, target):
        return torch.where(images > 0.5, self.leaves * torch.ones(()), images)


def archive(root, n, seed, bright=0.5):
    """Noise, in half of the images with a bright square; two images a patient."""
    generator, rows = np.random.default_rng(seed), []
    (root / "images").mkdir(parents=True)
    for index in range(n):
        pixels, shows = generator.integers(110, 146, (SIDE, SIDE)).astype(np.uint8), index % 4 < 4 * bright
        if shows:
            pixels[2:7, 3:8] = 250
        Image.fromarray(pixels).save(root / "images" / f"{index}.png")
        rows.append([f"images/{index}.png", int(shows), f"{root.name}-{index // 2}"])
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "bright", "patient_id"], *rows])
    return read_manifest(root)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    return archive(tmp_path_factory.mktemp("real") / "real", 160, 0)


def explained(out, manifest, leaves):
    """What `explain` writes, as far as it is read here."""
    classifier = FunctionClassifier(lambda images: (images > 0.5).mean((1, 2, 3))[:, None] * 100 - 1, CARD)
    out.mkdir(exist_ok=True)
    (out / "run.json").write_text("{}")
    for case in manifest.cases:
        found = Inpainting(Dimmer(leaves))(classifier, load_batch([case], CARD.shape), Target(((0, 0.0),)))
        found.meta["case"] = {"name": case.name, "patient": case.patient}
        found.save(out / "cases" / case.name)
    return out


def test_explanations_are_compared_with_real_images_of_the_class_asked_for(real, tmp_path):
    asked = archive(tmp_path / "asked", 80, 1)
    found = realism(explained(tmp_path / "gone", asked, 0.0), real, EXTRACTOR)
    assert found.extractor == "moments of quarters"
    assert (found.n, found.n_real, found.n_floor) == (40, 40, 40), "those that had the square, and as many without one"
    assert found.figures.keys() == found.floor.keys()
    assert {"kernel_distance", "split_frechet_distance", "recall", "coverage"} < found.figures.keys()
    left = realism(explained(tmp_path / "left", asked, 0.4), real, EXTRACTOR)
    assert left.figures["kernel_distance"].low > found.figures["kernel_distance"].high
    assert left.figures["precision"].value < found.figures["precision"].value
    assert left.figures["split_frechet_distance"].value > 0


def test_a_patient_who_was_explained_is_not_among_the_real(real, tmp_path):
    found = realism(explained(tmp_path / "found", real, 0.0), real, EXTRACTOR)
    assert (found.n, found.n_floor, found.n_real) == (40, 40, 40), "80 had the square and 80 had not"
    with pytest.raises(CounterscanError, match="0 images"):
        realism(tmp_path / "found", real, EXTRACTOR, labels={"bright": 1})


def test_two_folders_of_one_kind_are_as_far_as_real_ones(real, tmp_path):
    made = archive(tmp_path / "made", 60, 3)
    found = realism(made.root / "images", real, EXTRACTOR, shape=CARD.shape)
    assert found.n == found.n_floor == 60
    assert found.figures["kernel_distance"].low <= 0 <= found.figures["kernel_distance"].high
    assert "split_frechet_distance" not in found.figures
    darker = archive(tmp_path / "darker", 60, 3, bright=0.0)
    assert realism(darker, real, EXTRACTOR, shape=CARD.shape).figures["kernel_distance"].low > 0
    with pytest.raises(CounterscanError, match="shape"):
        realism(made, real, EXTRACTOR)


def test_more_made_images_than_a_floor_are_cut_to_it(real, tmp_path):
    made = archive(tmp_path / "many", 120, 4)
    found = realism(made, real, EXTRACTOR, shape=CARD.shape)
    assert (found.n, found.n_floor, found.n_real) == (80, 80, 80)


def test_reference_and_floor_share_no_patient(real):
    reference, floor = dealt(real.cases, 30, seed=0)
    assert len(floor) == 30
    assert len(reference) == 130
    assert not {case.patient for case in reference} & {case.patient for case in floor}


def test_a_folder_without_counterfactuals_is_refused(tmp_path):
    with pytest.raises(CounterscanError, match="no counterfactuals"):
        Explained.of(tmp_path)
