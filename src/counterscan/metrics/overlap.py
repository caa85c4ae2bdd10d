"""Overlap of masks and lesions over a whole set, as papers on segmentation count it, and by the lesions' size.

`iou` and `dice` are means over images, in which a small lesion weighs as much as a large one. The micro figures pool
the pixels of all images that show a lesion (torchmetrics' BinaryJaccardIndex over a loader, as COIN evaluates), so that
large lesions decide them; what happens on healthy images appears in neither.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from counterscan.core import Explanation
from counterscan.metrics.intervals import DRAWS, Estimate, interval, patient_groups, resamples
from counterscan.metrics.masks import mask_of
from counterscan.metrics.truth import Truth

SIZES = ("small", "medium", "large")


@dataclass
class Overlaps:
    """Pixels per image, as they come: those of mask and lesion both, of the mask, and of the lesion.

    nan where the lesion's mask is not known; an image without a lesion has a `lesion` of 0.
    """

    hits: list[float] = field(default_factory=list)
    masked: list[float] = field(default_factory=list)
    lesion: list[float] = field(default_factory=list)

    def add(self, explanation: Explanation, truth: Truth) -> None:
        """Count the pixels of each image of a batch."""
        if truth.mask is None:
            for column in (self.hits, self.masked, self.lesion):
                column += [float("nan")] * len(explanation)
            return
        mask, lesion = mask_of(explanation).flatten(1).cpu(), truth.mask.flatten(1).cpu()
        self.hits += (mask & lesion).sum(1).double().tolist()
        self.masked += mask.sum(1).double().tolist()
        self.lesion += lesion.sum(1).double().tolist()


def micro_iou(hits, masked, lesion, patients: Sequence[str] = (), *, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """Intersection over union of all pixels of the images with a lesion, with an interval by patient.

    The arguments are pixels per image `(n,)`, see `Overlaps`; images without a lesion, and nan, play no part.
    """
    hits, masked, lesion = (np.asarray(one, float) for one in (hits, masked, lesion))
    return _ratio(hits, masked + lesion - hits, lesion, patients, draws, seed)


def micro_dice(hits, masked, lesion, patients: Sequence[str] = (), *, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """The Dice coefficient of all pixels of the images with a lesion; see `micro_iou`."""
    hits, masked, lesion = (np.asarray(one, float) for one in (hits, masked, lesion))
    return _ratio(2 * hits, masked + lesion, lesion, patients, draws, seed)


def tertiles(areas) -> tuple[float, float]:
    """The two areas that part the lesions among `areas` `(n,)` (those above 0) in thirds; nan where there is none."""
    known = np.asarray(areas, float)
    known = known[known > 0]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [1 / 3, 2 / 3])
    return float(low), float(high)


def size_names(areas, edges: tuple[float, float]) -> np.ndarray:
    """`small`, `medium` or `large` for each of the `areas` `(n,)`, `""` for an image without a lesion (0 or nan)."""
    areas = np.nan_to_num(np.asarray(areas, float))
    names = np.array(SIZES, dtype=object)[np.digitize(areas, edges, right=True)]
    return np.where(areas > 0, names, "")


def _ratio(
    above: np.ndarray, below: np.ndarray, lesion: np.ndarray, patients: Sequence[str], draws: int, seed: int
) -> Estimate:
    """Sum over sum of the images with a lesion, the bootstrap drawing patients with all of their images."""
    groups = patient_groups(patients, len(lesion))
    keep = np.nan_to_num(lesion) > 0
    if not keep.any():
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    _, groups = np.unique(groups[keep], return_inverse=True)
    above, below = above[keep], below[keep]
    tops, bottoms = np.bincount(groups, above), np.bincount(groups, below)
    drawn = [(weights @ tops) / (weights @ bottoms) for weights in resamples(len(tops), draws, seed)]
    return interval(float(above.sum() / below.sum()), np.concatenate(drawn), int(keep.sum()))
