import numpy as np
import pytest
import torch

from counterscan.data.batches import open_images
from counterscan.data.manifest import scan_folder
from counterscan.metrics.discrimination import auc
from counterscan.sanity.checks import FAILS, PASSES, UNCLEAR
from counterscan.sanity.shortcuts import (
    ask,
    border_check,
    evidence_check,
    frame,
    mean_image,
    parts_of,
    probe,
    probe_check,
    true_labels,
)


@pytest.fixture
def images(manifests):
    return {place: open_images(manifest, (1, 40, 40)) for place, manifest in manifests.items()}


def silent(_count):
    pass


def test_the_frame_is_the_outer_tenth_in_two_and_three_dimensions():
    plane, volume = frame((40, 20)), frame((20, 20, 10))
    assert plane.shape == (1, 40, 20)
    assert int((~plane).sum()) == 32 * 16
    assert int((~volume).sum()) == 16 * 16 * 8
    assert plane[0, 3].all()
    assert not plane[0, 4, 2:18].any()


def test_border_and_centre_together_are_the_image():
    images, mean = torch.rand(2, 1, 40, 40), torch.full((1, 40, 40), 5.0)
    parts = parts_of(images, mean)
    assert torch.allclose(parts["border"] + parts["centre"] - 5, parts["whole"], atol=1e-5)
    assert (parts["border"][:, :, 4:36, 4:36] == 5).all()


def test_the_mean_image_is_the_mean(images):
    everything = images["centre"].batch(range(60))
    assert torch.allclose(mean_image(images["centre"]), everything.mean(0), atol=1e-5)


def test_labels_say_which_images_miss_the_target(images, target):
    labels = true_labels(images["centre"], target, ("mark",))
    assert labels.tolist() == [1.0, 0.0] * 30
    assert np.isnan(true_labels(images["centre"], target, ("another",))).all()


@pytest.mark.parametrize(("place", "verdict"), [("centre", PASSES), ("corner", FAILS)])
def test_a_classifier_that_goes_by_a_corner_is_caught(place, verdict, images, classifiers, target):
    views = ask(classifiers[place], images[place], target, silent)
    assert views.auc("whole").value > 0.95
    assert border_check(views).verdict == verdict
    assert probe_check(images[place], views).verdict == verdict
    seen = {"centre": "centre", "corner": "border"}[place]
    assert views.auc(seen).value > 0.95


def test_without_labels_the_classifiers_own_answers_are_what_is_told_apart(manifests, classifiers, target):
    plain = open_images(scan_folder(manifests["corner"].root), (1, 40, 40))
    views = ask(classifiers["corner"], plain, target, silent)
    assert views.own
    assert border_check(views).verdict == FAILS
    assert "its own answers" in border_check(views).words
    assert probe_check(plain, views).verdict == UNCLEAR


def test_evidence_is_counted_in_the_frame_per_area():
    inside = torch.zeros(6, 1, 40, 40)
    inside[:, :, 10:20, 10:20] = 1
    outside = torch.zeros(6, 1, 40, 40)
    outside[:, :, :3] = 1
    assert evidence_check(inside, ()).verdict == PASSES
    assert evidence_check(outside, ()).verdict == FAILS
    assert evidence_check(torch.ones(6, 1, 40, 40), ()).value.value == pytest.approx(1, abs=1e-5)
    assert evidence_check(torch.zeros(6, 1, 40, 40), ()).verdict == UNCLEAR


def test_a_probe_never_sees_the_patient_that_it_scores():
    generator = np.random.default_rng(0)
    labels = np.repeat(generator.integers(0, 2, 40), 3).astype(float)
    features = np.repeat(generator.normal(size=(40, 30)), 3, axis=0)  # a patient's images are alike, and say nothing
    patients = [f"p{index // 3}" for index in range(120)]
    assert auc(labels, probe(features, labels, patients), draws=1).value < 0.7
    leaking = [f"i{index}" for index in range(120)]
    assert auc(labels, probe(features, labels, leaking), draws=1).value > 0.9
