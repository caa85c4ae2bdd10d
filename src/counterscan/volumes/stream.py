"""One volume of a job: slices go through the explainer a few at a time, and what is left of each is its heat map.

Memory holds a batch of slices and, for every slice, one map in half precision at the working size, whatever the scan's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from counterscan.core import Explanation
from counterscan.data.opening import part_of
from counterscan.data.scans import Scan
from counterscan.metrics.confidence import told
from counterscan.metrics.lesions import Found, Grid, Lesion, VolumeRule
from counterscan.metrics.masks import MaskRule
from counterscan.progress import within
from counterscan.volumes.tensors import tensors_of

if TYPE_CHECKING:
    from counterscan.engine import Job
    from counterscan.volumes.page import SlicePictures

Keep = Callable[[Explanation], dict[str, list]]
SHIFTED = 1.0  # degrees: slices that are shifted against each other by more are told
INTERVAL = (
    "ml_low to ml_high is the volume at the mask's threshold times and divided by {factor:g}; how often that holds the "
    "true volume was measured on phantoms (docs/volumes.md), and it says nothing of lesions that were missed"
)


@dataclass(frozen=True, eq=False)
class Volume:
    """A scan whose slices lie in known places, and what was found in it.

    `heat` is float16 `(n, h, w)` at the working size; `answers` is an explanation of all slices without its images.
    """

    scan: Scan
    grid: Grid
    heat: np.ndarray = field(repr=False)
    answers: Explanation = field(repr=False)
    rule: VolumeRule
    found: Found = field(repr=False)

    def masks(self) -> Iterator[np.ndarray]:
        """The mask `(h, w)` bool of each slice at the scan's size."""
        from counterscan.data.fitting import fit_mask

        height, width = self.scan.pixels.shape[2:]
        for index in range(len(self.heat)):
            mask = torch.from_numpy(self.found.mask(index))[None, None]
            yield fit_mask(mask, (height, width))[0, 0].numpy()

    @property
    def mask_share(self) -> float:
        """How much of the volume is in the mask."""
        return float(np.mean([self.found.mask(index).mean() for index in range(len(self.heat))]))

    @property
    def confidence(self) -> float:
        """That of the largest lesion; nan where there is none, or it is not known."""
        return self.found.lesions[0].confidence if self.found.lesions else float("nan")

    def facts(self) -> dict[str, Any]:
        """What lesions.json says."""
        space = "LPS" if self.scan.format == "dicom" else "RAS"
        return {
            "slices": len(self.heat),
            "coordinates": f"{space}+ millimetres" if self._placed else "",
            "interval": INTERVAL.format(factor=self.rule.widen),
            "rule": self.rule.to_dict(),
            "notes": notes(self.scan),
            "lesions": [self._row(number, lesion) for number, lesion in enumerate(self.found.lesions, 1)],
        }

    def _row(self, number: int, lesion: Lesion) -> dict[str, Any]:
        row, column, index = self._in_scan(lesion.centre)
        place = self._place(row, column, index)
        named = {f"{axis}_mm": "" if place is None else round(float(place[at]), 1) for at, axis in enumerate("xyz")}
        return {
            "number": number,
            "ml": _digits(lesion.ml),
            "ml_low": _digits(lesion.low),
            "ml_high": _digits(lesion.high),
            "first_slice": lesion.first + 1,
            "last_slice": lesion.last + 1,
            "extent_mm": round(lesion.extent_mm, 1),
            "diameter_mm": round(lesion.diameter_mm, 1),
            **named,
            "row": round(row, 1),
            "column": round(column, 1),
            "peak": round(lesion.peak, 3),
            "confidence": told(lesion.confidence),
        }

    @property
    def _placed(self) -> bool:
        return self.scan.affine is not None or bool(_planes(self.scan))

    def _in_scan(self, centre: tuple[float, float, float]) -> tuple[float, float, float]:
        """(row, column, slice) of the scan's pixels."""
        height, width = self.scan.pixels.shape[2:]
        down, right = height / self.heat.shape[1], width / self.heat.shape[2]
        return (centre[0] + 0.5) * down - 0.5, (centre[1] + 0.5) * right - 0.5, centre[2]

    def _place(self, row: float, column: float, index: float) -> np.ndarray | None:
        """Millimetres in the patient: LPS+ for DICOM, else RAS+."""
        if self.scan.affine is not None:
            place = (self.scan.affine @ [column, row, index, 1])[:3]
            return place * [-1, -1, 1] if self.scan.format == "dicom" else place
        planes = _planes(self.scan)
        if not planes:
            return None
        near = planes[round(index)]
        return near.position + near.along_row * near.spacing[1] * column + near.along_column * near.spacing[0] * row


def grid_of(scan: Scan, shape: tuple[int, ...]) -> Grid | None:
    """Where the slices of a scan lie, for maps of `shape` `(c, h, w)`; None for what is no stack in a patient."""
    if len(scan) < 2 or len(shape) != 3 or scan.spacing is None:
        return None
    planes = _planes(scan)
    if planes:
        places = np.array([plane.position @ planes[0].normal for plane in planes])
    elif len(scan.spacing) == 3 and scan.affine is not None:
        places = np.arange(len(scan)) * _step(scan.affine)
    else:
        return None
    if min(scan.spacing) <= 0 or not np.abs(np.diff(places)).min() > 0:
        return None
    height, width = scan.pixels.shape[2:]
    pixel = scan.spacing[0] * height / shape[1], scan.spacing[1] * width / shape[2]
    return Grid(pixel, places)


def notes(scan: Scan) -> list[str]:
    """What a reader of the numbers has to know of the scan, a line each."""
    told = []
    if scan.affine is None:
        told.append("the slices lie unevenly; each stands for half of the way to either neighbour")
    else:
        across, normal = scan.affine[:3, 2], np.cross(scan.affine[:3, 0], scan.affine[:3, 1])
        cosine = abs(across @ normal) / (np.linalg.norm(across) * np.linalg.norm(normal))
        angle = float(np.degrees(np.arccos(min(float(cosine), 1.0))))
        if angle > SHIFTED:
            told.append(
                f"the slices are shifted by {angle:.0f} degrees (gantry tilt); distances are along their normal"
            )
    return told


def explained(job: Job, scan: Scan) -> Iterator[tuple[Scan, Explanation]]:
    """Some slices of the scan in memory, and their explanation, in order."""
    for start in range(0, len(scan), job.batch):
        part = part_of(scan, slice(start, start + job.batch))
        yield part, job.explainer(job.asked, part.images(job.shape), job.target, seed=job.seed)
        within(min(start + job.batch, len(scan)), len(scan), "slices")


def collected(job: Job, scan: Scan, grid: Grid, pictures: SlicePictures, keep: Keep = lambda _: {}) -> Volume:
    """What was found in a scan whose slices go through the explainer one batch after the other.

    Of each batch the heat maps and the answers stay, the `pictures`, and what `keep` does with it; the lists that it
    answers are facts of the slices, and put into `meta`.
    """
    heat, answers, start = np.zeros((len(scan), *job.shape[1:]), np.float16), [], 0
    facts: dict[str, list] = {}
    for part, explanation in explained(job, scan):
        heat[start : start + len(part)] = explanation.heatmap[:, 0].cpu().numpy()
        start += len(part)
        answers.append(without_images(explanation))
        pictures.take(part, explanation)
        for name, values in keep(explanation).items():
            facts.setdefault(name, []).extend(values)
    whole = joined(answers)
    whole = replace(whole, meta={**whole.meta, **facts})
    rule = VolumeRule(job.rule or MaskRule.of(whole))
    found = rule(heat, grid, (~job.target.reached(whole.before)).numpy())
    return Volume(scan, grid, heat, whole, rule, found)


def without_images(explanation: Explanation) -> Explanation:
    """Answers, target and facts; what is an image holds nothing, but is there if it was."""
    none = torch.empty(len(explanation), 0)
    changed = None if explanation.counterfactual is None else none
    rest = replace(explanation, reconstruction=None, path=None, deviation=None)
    return replace(rest, images=none, heatmap=none, counterfactual=changed)


def joined(parts: list[Explanation]) -> Explanation:
    """One explanation of all the images of several, whose seconds and queries are added up."""
    first = parts[0]
    tensors: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in tensors_of(first)}
    total = {name: sum(part.meta[name] for part in parts) for name in ("seconds", "queries")}
    if "cases" in first.meta:
        total["cases"] = [case for part in parts for case in part.meta["cases"]]
    return replace(first, **tensors, meta={**first.meta, **total})


def _planes(scan: Scan) -> tuple[Any, ...]:
    return getattr(scan.source, "planes", ())


def _step(affine: np.ndarray) -> float:
    """The distance of the slices along their normal, which a shear does not change."""
    area = np.linalg.norm(np.cross(affine[:3, 0], affine[:3, 1]))
    return float(abs(np.linalg.det(affine[:3, :3])) / area) if area else 0.0


def _digits(ml: float) -> float:
    return float(f"{ml:.3g}")
