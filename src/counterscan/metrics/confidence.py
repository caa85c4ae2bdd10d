"""Whether the confidence of a mask's objects is what it says: of those told as 0.8, are eight in ten true lesions?"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from counterscan.core import Explanation
from counterscan.metrics.discrimination import calibration_error
from counterscan.metrics.intervals import Estimate, bootstrap
from counterscan.metrics.lesions import VolumeRule, found_in
from counterscan.metrics.masks import MaskRule, is_volume
from counterscan.metrics.truth import Truth

EDGES = (0.0, 0.5, 0.8, 0.9, 0.95, 1.0)  # of the bins that a person is shown


@dataclass
class Objects:
    """The objects of masks, as they come: `confidence` of each, whether it `hits` a true lesion (1 or 0), its patient.

    Objects whose confidence, or whose truth, is not known have no place here.
    """

    confidence: list[float] = field(default_factory=list)
    hits: list[float] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)

    def add(self, explanation: Explanation, truth: Truth) -> None:
        """Take in the objects of the masks that a user gets of a batch (of a volume: its lesions)."""
        if truth.mask is None or not _known(explanation):
            return
        for rows, labels, confidence in numbered(explanation):
            met = np.unique(labels[truth.mask[rows, 0].cpu().numpy()])
            patient = truth.patients[rows.start] if truth.patients else str(len(self.patients))
            self.confidence += confidence.tolist()
            self.hits += np.isin(np.arange(1, len(confidence) + 1), met).astype(float).tolist()
            self.patients += [patient] * len(confidence)

    def error(self) -> Estimate:
        """The expected calibration error with its interval by patient, see `discrimination.calibration_error`."""
        chance = np.clip(np.array(self.confidence, float), 1e-9, 1 - 1e-9)
        return calibration_error(self.hits, np.log(chance / (1 - chance)), self.patients)

    def table(self) -> Iterator[tuple[float, float, float, Estimate]]:
        """For each bin that holds objects: its edges, the mean confidence, and the share of hits."""
        confidence, hits = np.array(self.confidence, float), np.array(self.hits, float)
        place = np.clip(np.digitize(confidence, EDGES) - 1, 0, len(EDGES) - 2)
        for index in np.unique(place):
            here = place == index
            of_bin = [patient for patient, inside in zip(self.patients, here, strict=True) if inside]
            yield EDGES[index], EDGES[index + 1], float(confidence[here].mean()), bootstrap(hits[here], of_bin)


def numbered(explanation: Explanation) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Of each image with a mask: where it stands in the batch, its objects `(1, *spatial)` from 1, how sure each is.

    The slices of a volume are one item `(n, h, w)`.
    """
    if is_volume(explanation):
        found = found_in(explanation)
        labels = np.stack([found.numbered(index) for index in range(len(explanation))])
        yield slice(0, len(explanation)), labels, np.array([lesion.confidence for lesion in found.lesions])
        return
    rule = MaskRule.of(explanation)
    for index in np.flatnonzero(~explanation.target.reached(explanation.before).cpu().numpy()):
        labels, _, peaks = rule.objects(explanation.heatmap[index, 0].detach().float().cpu().numpy())
        yield slice(index, index + 1), labels[None], rule.confidence(peaks)


def of_largest(explanation: Explanation) -> float:
    """The confidence of the largest object of images that are no volume; nan without one, or where it is not known."""
    largest, answer = 0, float("nan")
    for _, labels, confidence in numbered(explanation) if _known(explanation) else ():
        sizes = np.bincount(labels.ravel(), minlength=len(confidence) + 1)[1:]
        if len(sizes) and sizes.max() > largest:
            largest, answer = int(sizes.max()), float(confidence[sizes.argmax()])
    return answer


def _known(explanation: Explanation) -> bool:
    """Does its rule know how sure its objects are?"""
    rule = MaskRule.of(explanation)
    return VolumeRule(rule).confident if is_volume(explanation) else rule.confident


def told(confidence: float) -> float | str:
    """As tables have it: empty where it is not known, and never 1."""
    return "" if np.isnan(confidence) else min(round(confidence, 3), 0.999)
