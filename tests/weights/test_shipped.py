"""What is shipped loads, is small, says where it comes from, and does on fresh phantoms what it promises."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from counterscan.classifiers.load import load_classifier
from counterscan.core import Target
from counterscan.data.phantoms.base import module, normal_of, stream
from counterscan.data.window import Window
from counterscan.explainers.build import build_explainer
from counterscan.metrics.discrimination import auc
from counterscan.priors.denoiser import load_denoiser
from counterscan.priors.editor import load_editor
from counterscan.priors.sampling import Noise
from counterscan.registry import SHIPPED, shipped_weights
from counterscan.train.attack import PGD
from counterscan.weights.store import WEIGHTS, load_weights

N = 60
CLASSIFIERS = [name for name in shipped_weights() if name.endswith(("/classifier", "/judge"))]
ROBUST = [name for name in shipped_weights() if name.endswith("/robust")]
DENOISERS = [name for name in shipped_weights() if name.endswith("/denoiser")]
EDITORS = [name for name in shipped_weights() if name.endswith("/inpainting")]


def phantoms(kind, seed):
    """Images `(N, c, 128, 128)`, twins, and labels by name."""
    drawn = list(stream(kind, N, seed=seed))
    window = Window(*module(kind).WINDOW)
    images, twins = (
        torch.from_numpy(window.to_unit(np.stack(pixels))).float().reshape(N, -1, *drawn[0].mask.shape)
        for pixels in ([p.image for p in drawn], [p.twin for p in drawn])
    )
    return images, twins, {name: np.array([p.labels[name] for p in drawn]) for name in module(kind).CLASSES}


def test_weights_are_small():
    sizes = {name: (SHIPPED / name / WEIGHTS).stat().st_size for name in shipped_weights()}
    assert all(size <= 10_000_000 for size in sizes.values()), sizes
    assert sum(sizes.values()) <= 60_000_000


@pytest.mark.parametrize("name", shipped_weights())
def test_weights_say_where_they_come_from(name):
    _, card = load_weights(name)
    assert card.name == name
    assert card.command.startswith("bash bench/shipped.sh")
    assert card.licence
    assert card.metrics


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_tells_disease_from_health(name):
    kind = name.partition("/")[0]
    images, _, labels = phantoms(kind, seed=901)
    answers = load_classifier(name)(images).detach().numpy()
    areas = [auc(labels[c], answers[:, i], draws=1).value for i, c in enumerate(module(kind).CLASSES)]
    assert np.mean(areas) > 0.9


@pytest.mark.parametrize("name", EDITORS)
def test_an_editor_flips_the_classifier_and_comes_nearer_to_the_twin(name):
    kind = name.partition("/")[0]
    images, twins, labels = phantoms(kind, seed=902)
    classifier = load_classifier(f"{kind}/classifier")
    benign = (*module(kind).CONFOUNDERS, normal_of(module(kind)))
    disease = [c for c in module(kind).CLASSES if c not in benign]
    target = Target.parse(",".join(f"{c}=0" for c in disease), classifier.card)
    answer = build_explainer("inpainting", prior=name)(classifier, images, target)
    attempted = ~target.reached(answer.before)
    assert answer.found[attempted].float().mean() >= 0.9
    sick = torch.from_numpy(np.any([labels[c] for c in disease], axis=0))
    change = answer.heatmap.mean((1, 2, 3))
    assert change[~sick].mean() < 0.4 * change[sick].mean()
    before, after = ((x - twins).abs().mean((1, 2, 3))[sick] for x in (images, answer.counterfactual))
    assert (after < before).float().mean() > 0.5
    assert after.sum() < before.sum()


@pytest.mark.parametrize("name", [name for name in shipped_weights() if name.endswith("/progressive")])
def test_the_answer_follows_the_probability_asked_for(name):
    kind = name.partition("/")[0]
    images, classifier, editor = (
        phantoms(kind, seed=903)[0][:24],
        load_classifier(f"{kind}/classifier"),
        load_editor(name),
    )
    answers = [classifier(editor(images, Target(((0, p),))))[:, 0].sigmoid().mean() for p in (0.0, 0.5, 1.0)]
    assert answers[0] < 0.25 < answers[1] < 0.75 < answers[2]


@pytest.mark.parametrize("name", ROBUST)
def test_a_robust_classifier_withstands_what_the_plain_one_does_not(name):
    kind = name.partition("/")[0]
    images, _, _ = phantoms(kind, seed=904)
    moved = {}
    torch.manual_seed(0)  # where the attack starts
    for model in (name, f"{kind}/classifier"):
        classifier = load_classifier(model)
        sure = classifier(images[:16]).detach().sigmoid()
        attack = PGD("l2", radius=2.0, steps=5)
        nearby = attack(lambda points, c=classifier, s=sure: (c(points).sigmoid() - s).abs().sum(1), images[:16])
        moved[model] = float((classifier(nearby).detach().sigmoid() - sure).abs().mean())
    assert moved[name] < 0.5 * moved[f"{kind}/classifier"]


@pytest.mark.parametrize("name", DENOISERS)
def test_a_denoiser_is_as_good_on_fresh_phantoms_as_its_card_says(name):
    images, _, _ = phantoms(name.partition("/")[0], seed=905)
    denoiser = load_denoiser(name)
    for level in (0.2, 1.0):
        noisy = images[:16] + level * Noise(range(16))(images[:16])
        with torch.no_grad():
            error = (denoiser(noisy, torch.full((16,), level)) - images[:16]).square().mean().sqrt()
        assert error < 1.3 * denoiser.card.metrics[f"test_error_at_{level:g}"]


@pytest.mark.parametrize("name", DENOISERS)
def test_guidance_flips_the_classifier_and_comes_nearer_to_the_twin_in_the_lesion(name):
    kind = name.partition("/")[0]
    images, twins, _ = phantoms(kind, seed=906)
    classifier = load_classifier(f"{kind}/classifier")
    normal = normal_of(module(kind))
    target = Target.parse(normal or f"{classifier.card.classes[0]}=0", classifier.card)
    sick = ((images - twins).abs().amax((1, 2, 3)) > 0.2).nonzero()[:6, 0]
    explainer = build_explainer("diffusion-guidance", prior=name, robust=f"{kind}/robust")
    answer = explainer(classifier, images[sick], target)
    assert answer.found.all()
    blurred = (lambda x: F.avg_pool2d(x, 5, 1, 2)) if kind == "oct" else (lambda x: x)  # speckle is drawn anew
    image, twin, made = (blurred(x) for x in (images[sick], twins[sick], answer.counterfactual))
    lesion = (image - twin).abs() > 0.1
    assert (made - twin).abs()[lesion].mean() < 0.8 * (image - twin).abs()[lesion].mean()
