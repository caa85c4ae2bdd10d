"""The lines of a table: what one method under one rule reached over all parts, in the form of `results/`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import numpy as np

from counterscan.bench.measuring import TUNED, Found
from counterscan.metrics.confidence import Objects
from counterscan.metrics.intervals import Estimate, bootstrap, paired
from counterscan.metrics.overlap import SIZES, micro_dice, micro_iou, size_names, tertiles

APART = ("slice", "patient", "name", "area_mm2", "area_px", "hits", "masked", "lesion")  # columns that are no metric
OBJECTS = ("object_confidence", "object_hits", "object_patients")
MICRO = {"micro_iou": micro_iou, "micro_dice": micro_dice}
FIRST = "inpainting"  # what every other method is compared with, image by image


@dataclass(frozen=True)
class Row:
    """One line: a method, its rule, and its result; or why there is none (`absent`, or `failed`)."""

    method: str
    rule: str = TUNED
    result: dict[str, Any] = field(default_factory=dict)
    absent: str = ""
    failed: str = ""

    @property
    def file(self) -> str:
        """What its own JSON file is called: `layer-cam.json`, `layer-cam-published-rule.json`."""
        return self.method + ("" if self.rule == TUNED else "-" + self.rule.replace(" and ", "-").replace(" ", "-"))

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """The estimates by name."""
        return self.result.get("metrics", {})

    def to_dict(self) -> dict[str, Any]:
        """The line as the table's JSON has it."""
        told = {"method": self.method, "rule": self.rule}
        return told | {key: text for key in ("absent", "failed") if (text := getattr(self, key))} | self.result


@dataclass(frozen=True)
class Sizes:
    """The two areas between small, medium and large lesions, and their unit: `mm2`, or `px` at a side of 128."""

    unit: str
    edges: tuple[float, float]

    @classmethod
    def of(cls, parts: Sequence[Found]) -> "Sizes":
        """Thirds of the lesions of all parts; in mm2 where every lesion's area is known."""
        mm2, px = (_joined(parts, f"area_{unit}").astype(float) for unit in ("mm2", "px"))
        lesion = np.nan_to_num(px) > 0
        unit = "mm2" if lesion.any() and not np.isnan(mm2[lesion]).any() else "px"
        return cls(unit, tertiles(mm2 if unit == "mm2" else px))

    def names(self, parts: Sequence[Found]) -> np.ndarray:
        """The size of each image's lesion, see `size_names`."""
        return size_names(_joined(parts, f"area_{self.unit}").astype(float), self.edges)

    def describe(self) -> str:
        """The limits as a person reads them."""
        low, high = self.edges
        unit = "mm²" if self.unit == "mm2" else "pixels at a side of 128"
        return f"small up to {low:.4g}, medium up to {high:.4g} {unit}"


def row(method: str, rule: str, parts: Sequence[Found], sizes: Sizes, first: Sequence[Found], facts: dict) -> Row:
    """The line of a method under a rule from what was found on each part; `first` is what it is compared with."""
    metrics = {name: one.to_dict() for name, one in _estimates(parts, sizes).items() if one.n}
    metrics |= _set_metrics(parts)
    if first and first[0] is not parts[0]:
        metrics["iou_difference"] = _difference(first, parts).to_dict()
    told = [_without_nan({"fold": fold, **it.facts}) for fold, it in zip(facts["folds"], parts, strict=True)]
    result = {
        "command": facts["command"],
        "version": metadata.version("counterscan"),
        "explainer": parts[0].facts["explainer"],
        "classifier": facts["classifier"],
        "target": facts["target"],
        "n": sum(len(part.columns["name"]) for part in parts),
        "metrics": dict(sorted(metrics.items())),
        "mask_rule": parts[0].facts["mask_rule"] if len(parts) == 1 else {},
        "calibration": told[0].get("calibration") if len(parts) == 1 else None,
        "parts": told,
    }
    return Row(method, rule, result)


def _estimates(parts: Sequence[Found], sizes: Sizes) -> dict[str, Estimate]:
    patients = _joined(parts, "patient").tolist()
    hits, masked, lesion = (_joined(parts, name).astype(float) for name in ("hits", "masked", "lesion"))
    apart = {*APART, *OBJECTS}
    found = {name: bootstrap(_joined(parts, name), patients) for name in parts[0].columns if name not in apart}
    if set(OBJECTS) <= parts[0].columns.keys():  # files of earlier versions lack them
        found["confidence_error"] = Objects(*(_joined(parts, name).tolist() for name in OBJECTS)).error()
    found |= {name: pooled(hits, masked, lesion, patients) for name, pooled in MICRO.items()}
    for size, chosen in ((size, sizes.names(parts) == size) for size in SIZES):
        of_size = [patient for patient, keep in zip(patients, chosen, strict=True) if keep]
        for name in ("iou", "dice"):
            found[f"{name}_{size}"] = bootstrap(_joined(parts, name)[chosen], of_size)
        for name, pooled in MICRO.items():
            found[f"{name}_{size}"] = pooled(hits[chosen], masked[chosen], lesion[chosen], of_size)
    return found


def _set_metrics(parts: Sequence[Found]) -> dict[str, dict[str, Any]]:
    """Figures of a whole part, as their mean over the parts: the distances of sets, and memory (its largest)."""
    found: dict[str, dict[str, Any]] = {}
    distances = [part.facts["frechet"] for part in parts if "value" in part.facts.get("frechet", {})]
    if len(distances) == len(parts):
        n = sum(one["n"] for one in distances)
        found["frechet_distance"] = _plain(np.mean([one["value"] for one in distances]), n)
        found["frechet_floor"] = _plain(np.mean([one["floor"] for one in distances]), n)
    memory = [part.facts.get("memory_mb", float("nan")) for part in parts]
    if not np.isnan(memory).all():
        found["memory_mb"] = _plain(np.nanmax(memory), len(parts))
    return found


def _plain(value: float, n: int) -> dict[str, Any]:
    return Estimate(float(value), float("nan"), float("nan"), n).to_dict()


def _difference(first: Sequence[Found], parts: Sequence[Found]) -> Estimate:
    """IoU of the first method minus this one's, over the images that both explained."""
    left, right = _by_image(first), _by_image(parts)
    shared = [key for key in left if key in right]
    patients = [key[2] for key in shared]
    return paired([left[key] for key in shared], [right[key] for key in shared], patients)


def _by_image(parts: Sequence[Found]) -> dict[tuple, float]:
    columns = [_joined(parts, name).tolist() for name in ("name", "slice", "patient", "iou")]
    return {(name, number, patient): iou for name, number, patient, iou in zip(*columns, strict=True)}


def _joined(parts: Sequence[Found], name: str) -> np.ndarray:
    return np.concatenate([np.array(part.columns[name]) for part in parts])


def _without_nan(facts: dict[str, Any]) -> dict[str, Any]:
    """The same facts with None for nan, which JSON does not know."""
    plain = {key: _without_nan(value) if isinstance(value, dict) else value for key, value in facts.items()}
    return {key: None if isinstance(value, float) and np.isnan(value) else value for key, value in plain.items()}
