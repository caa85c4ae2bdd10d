"""Does the classifier go by the border? What it answers to the border alone, and where the evidence lies.

Collimation, letters, padding and the size of a scan differ between hospitals and machines, and so between labels. A
classifier that learns them is right for a wrong reason; what it looks at lies in the frame around the image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from counterscan.core import Classifier, Target
from counterscan.data.batches import Images
from counterscan.data.fitting import resize
from counterscan.metrics.discrimination import auc
from counterscan.metrics.intervals import Estimate, bootstrap
from counterscan.sanity.checks import FAILS, PASSES, Check, decide, unmeasured

FRAME = 0.1  # of each side
BATCH = 16
GUESSING = 0.75  # AUC from the border alone above which it counts as a shortcut
PROBE_SIDE, FOLDS, RIDGE = 48, 5, 0.1
EVIDENCE = "Does more of the evidence lie in the outer frame than its area would get by chance?"
BORDER = "Can the classifier tell the images apart by their border alone?"
GIVEN_AWAY = "Could anyone learn the labels from the border alone?"


@dataclass(frozen=True)
class Views:
    """What the classifier answers: one log-odds `(n,)` that the target is missed, for whole, border and centre.

    `labels` `(n,)` are 1 where the truth misses the target, 0 where not, nan unknown; `own` where there are none, and
    they are the classifier's own answers to the whole images. `mean` `(*shape,)` stands where a part is hidden.
    """

    answers: dict[str, np.ndarray]
    labels: np.ndarray
    own: bool
    mean: Tensor
    patients: tuple[str, ...]

    def auc(self, view: str) -> Estimate:
        """The AUC of one view."""
        return auc(self.labels, self.answers[view], self.patients)


def frame(spatial: tuple[int, ...]) -> Tensor:
    """The outer tenth on each side, as a mask `(1, *spatial)` bool."""
    inside = torch.zeros(spatial, dtype=torch.bool)
    inside[tuple(slice(width := max(1, round(FRAME * side)), side - width) for side in spatial)] = True
    return ~inside[None]


def parts_of(images: Tensor, mean: Tensor) -> dict[str, Tensor]:
    """Images `(b, c, *spatial)` whole, with only their border, and with only their centre; `mean` stands elsewhere."""
    border = frame(tuple(images.shape[2:]))
    return {
        "whole": images,
        "border": torch.where(border, images, mean),
        "centre": torch.where(border, mean, images),
    }


@torch.no_grad()
def ask(classifier: Classifier, images: Images, target: Target, done) -> Views:
    """Ask the classifier all images whole, their border alone and their centre alone; `done(n)` counts images."""
    mean = mean_image(images)
    answers: dict[str, list[Tensor]] = {}
    for chosen in torch.arange(len(images)).split(BATCH):
        for view, part in parts_of(images.batch(chosen), mean).items():
            answers.setdefault(view, []).append(-target.score(classifier(part).float()))
        done(int(chosen[-1]) + 1)
    found = {view: torch.cat(parts).double().numpy() for view, parts in answers.items()}
    labels = true_labels(images, target, classifier.card.classes)
    own = len(set(labels[~np.isnan(labels)])) < 2
    return Views(found, (found["whole"] > 0).astype(float) if own else labels, own, mean, images.patients)


def mean_image(images: Images) -> Tensor:
    """The mean `(*shape,)` of all images: it says nothing about any of them."""
    total = torch.zeros(images.shape, dtype=torch.float64)
    for chosen in torch.arange(len(images)).split(BATCH):
        total += images.batch(chosen).double().sum(0)
    return (total / len(images)).float()


def true_labels(images: Images, target: Target, classes: Sequence[str]) -> np.ndarray:
    """1 where a class asked for is labelled otherwise `(n,)`, 0 where all are as asked, nan where that is unknown."""
    found = []
    for case in images.manifest.cases:
        known = [(case.labels.get(classes[index]), p >= 0.5) for index, p in target.wanted]
        if any(label is not None and bool(label) != wanted for label, wanted in known):
            found.append(1.0)
        else:
            found.append(float("nan") if any(label is None for label, _ in known) else 0.0)
    return np.array(found)


def evidence_check(heatmap: Tensor, patients: Sequence[str]) -> Check:
    """The share of the maps `(b, 1, *spatial)` that lies in the frame, over the frame's share of the area."""
    border = frame(tuple(heatmap.shape[2:]))
    area = float(border.float().mean())
    total = heatmap.flatten(1).sum(1)
    share = (heatmap * border).flatten(1).sum(1) / torch.where(total > 0, total, float("nan"))
    inside = bootstrap(share.numpy(), patients)
    value = Estimate(inside.value / area, inside.low / area, inside.high / area, inside.n)
    verdict = decide(value, 1.0)
    told = f"{inside.value:.0%} of the evidence lies in the outer frame, which is {area:.0%} of the image"
    words = {
        FAILS: f"{told}: per pixel the border matters more than the inside. Look at the mean map.",
        PASSES: f"{told}: the explanations point inside.",
    }.get(verdict, f"{told}: as much as chance would put there, or too few images to tell.")
    figures = {"frame_evidence": inside, "frame_area": Estimate(area, area, area, inside.n)}
    return Check("evidence_in_frame", EVIDENCE, verdict, words, "evidence per area", value, 1.0, figures)


def border_check(views: Views) -> Check:
    """What the classifier makes of the border alone."""
    figures = {f"auc_{view}": views.auc(view) for view in views.answers}
    value = figures["auc_border"]
    if np.isnan(value.value):
        words = "All images have the same label, or get the same answer: add images of the other kind."
        return unmeasured("border_alone", BORDER, words)
    verdict = decide(value, GUESSING)
    against = "its own answers to the whole images" if views.own else "the true labels"
    told = (
        f"Measured against {against}: AUC {value.value:.2f} from the border alone, "
        f"{figures['auc_centre'].value:.2f} with the border hidden, {figures['auc_whole'].value:.2f} from all."
    )
    words = {
        FAILS: f"It answers from the border without seeing anything inside: a shortcut. {told}",
        PASSES: f"With only the border to see it is near guessing. {told}",
    }.get(verdict, f"Too near the threshold, or too few images, for a verdict. {told}")
    return Check("border_alone", BORDER, verdict, words, "AUC", value, GUESSING, figures)


def probe_check(images: Images, views: Views) -> Check:
    """Whether a small model can learn the labels from the border, or the centre, of these images."""
    if views.own:
        words = "The images have no labels for this target; give a manifest with labels."
        return unmeasured("border_gives_away", GIVEN_AWAY, words)
    known = ~np.isnan(views.labels)
    labels, patients = views.labels[known], [views.patients[place] for place in np.flatnonzero(known)]
    small = torch.cat([_small(images.batch(chosen)) for chosen in torch.arange(len(images)).split(BATCH)])[known]
    border = frame(tuple(small.shape[2:])).expand(small.shape[1:])
    found = {}
    for view, part in (("whole", border | ~border), ("border", border), ("centre", ~border)):
        found[f"probe_{view}"] = auc(labels, probe(small[:, part].double().numpy(), labels, patients), patients)
    value = found["probe_border"]
    verdict = decide(value, GUESSING)
    told = f"AUC {value.value:.2f} for a small model that sees only the border of images it was not fitted to"
    words = {
        FAILS: f"{told}: these data give the label away there, and a classifier that learns from them may take it. "
        "Crop or mask the border, or match the images by how they were taken.",
        PASSES: f"{told}: the border says little about the label.",
    }.get(verdict, f"{told}.")
    return Check("border_gives_away", GIVEN_AWAY, verdict, words, "AUC", value, GUESSING, found)


def probe(features: np.ndarray, labels: np.ndarray, patients: Sequence[str]) -> np.ndarray:
    """Scores `(n,)` of a ridge regression with a Gaussian kernel, each from patients that it was not fitted to."""
    _, groups = np.unique(np.asarray(patients, dtype=object).astype(str), return_inverse=True)
    folds = np.random.default_rng(0).permutation(groups.max() + 1)[groups] % FOLDS
    squares = (features**2).sum(1)
    distances = np.maximum(squares[:, None] + squares - 2 * features @ features.T, 0)
    kernel = np.exp(-distances / max(float(np.median(distances)), 1e-12))
    scores = np.zeros(len(labels))
    for fold in range(FOLDS):
        seen, new = folds != fold, folds == fold
        if seen.any() and new.any():
            mean = labels[seen].mean()
            weights = np.linalg.solve(kernel[np.ix_(seen, seen)] + RIDGE * np.eye(seen.sum()), labels[seen] - mean)
            scores[new] = kernel[np.ix_(new, seen)] @ weights
    return scores


def _small(images: Tensor) -> Tensor:
    return resize(images, (PROBE_SIDE,) * (images.ndim - 2))
