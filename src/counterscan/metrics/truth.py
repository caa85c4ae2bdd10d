"""What is known to be true of a batch: where the lesion is, and what the image looks like without it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from counterscan.core import Explanation
from counterscan.data.alignment import Placed, inside
from counterscan.data.fitting import fit_mask
from counterscan.data.manifest import Case, Manifest
from counterscan.data.opening import open_case
from counterscan.data.scans import read_scan
from counterscan.data.window import Window
from counterscan.errors import ManifestError


@dataclass(frozen=True)
class Truth:
    """The truth of `b` images: `mask` `(b, 1, *spatial)` bool, empty where there is no disease, None where unknown.

    `twin` `(b, c, *spatial)` in [-1, 1] is the same anatomy without the disease, known for phantoms only. `patients`
    names whose images they are; without names every image counts as a patient of its own.
    """

    mask: Tensor | None = None
    twin: Tensor | None = None
    patients: Sequence[str] = ()

    @property
    def diseased(self) -> Tensor | None:
        """Whether each image `(b,)` has any lesion."""
        return None if self.mask is None else self.mask.flatten(1).any(1)

    def select(self, index: slice) -> Self:
        """The truth of some of the images."""
        mask = None if self.mask is None else self.mask[index]
        twin = None if self.twin is None else self.twin[index]
        return replace(self, mask=mask, twin=twin, patients=tuple(self.patients)[index])


def undefined(explanation: Explanation) -> Tensor:
    """The answer `(b,)` of a metric that cannot be taken here: nan for every image."""
    return torch.full((len(explanation),), float("nan"))


def where(keep: Tensor, values: Tensor) -> Tensor:
    """`values` `(b,)` as float32 where `keep` `(b,)` is true, nan elsewhere."""
    return torch.where(keep, values.float(), torch.full_like(values.float(), float("nan")))


def read_truth(manifest: Manifest, case: Case, explanation: Explanation) -> Truth:
    """What the manifest knows of the one scan that `explanation` is of, at the size that it was worked on.

    The mask of a case without a mask file is empty where its labels say that it shows no disease, else unknown.
    Raises ManifestError for a mask on another grid than the scan, and for a twin of another number of slices.
    """
    count, *_ = explanation.images.shape
    patients = (case.patient or case.name,) * count
    return Truth(_mask(manifest, case, explanation), _twin(case, explanation), patients)


def _mask(manifest: Manifest, case: Case, explanation: Explanation) -> Tensor | None:
    count, _, *spatial = explanation.images.shape
    if case.mask_path is None:
        healthy = not manifest.diseased(case) and any(value is not None for value in case.labels.values())
        return torch.zeros(count, 1, *spatial, dtype=torch.bool) if healthy else None
    scan = read_scan(case.mask_path)
    _same_slices(case.name, "mask", len(scan), count)
    if told := _grid(case, explanation).unlike(Placed.of(scan)):
        raise ManifestError(f"{case.mask_path}: {told}; resample it to the grid of {case.path}, or mend the manifest")
    return fit_mask(torch.from_numpy(inside(scan))[:, None], (spatial[0], spatial[1]))


def _grid(case: Case, explanation: Explanation) -> Placed:
    """The grid of the scan that was explained, from what was noted then, else from its file."""
    noted = explanation.meta.get("grid")
    return Placed.from_dict(noted) if noted else Placed.of(open_case(case))


def _twin(case: Case, explanation: Explanation) -> Tensor | None:
    if case.twin_path is None:
        return None
    seen = explanation.meta.get("window")  # what -1 and 1 meant when the image was explained
    window = Window(*seen) if seen else case.read().window
    twin = read_scan(case.twin_path).declared(window, case.slope, case.intercept)
    _same_slices(case.name, "twin", len(twin), len(explanation))
    return twin.images(tuple(explanation.images.shape[1:]))


def _same_slices(name: str, what: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise ManifestError(
            f"the {what} of {name} has {found} slices, its image {wanted}; check the path in the manifest"
        )
