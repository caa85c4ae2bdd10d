"""What a table says below itself: what its columns rest on, and what to be careful with."""

from collections.abc import Mapping, Sequence
from typing import Any

from counterscan.bench.measuring import Found


def notes(tuned: Mapping[str, Sequence[Found]]) -> list[str]:
    """Sentences about what each method found under its own rule on each part."""
    if not tuned:
        return []
    return [
        "IoU and Dice are means over images with a lesion, micro pools their pixels; 95 % intervals by patient",
        "mask rules and layers are chosen on validation images, never on those measured",
        *_not_silent(tuned),
        *_lost(tuned),
        *_distances(tuned),
    ]


def _not_silent(tuned: Mapping[str, Sequence[Found]]) -> list[str]:
    loud = [name for name, parts in tuned.items() if not all(it.facts["calibration"]["feasible"] for it in parts)]
    if not loud:
        return []
    return [f"no rule kept healthy validation images silent for {', '.join(loud)}; the quietest was taken"]


def _lost(tuned: Mapping[str, Sequence[Found]]) -> list[str]:
    lost = {name: sum(part.facts["images_lost"] for part in parts) for name, parts in tuned.items()}
    words = "images (failed.csv names them), which it is not measured on"
    return [f"{name} failed on {n} {words}" for name, n in lost.items() if n]


def _distances(tuned: Mapping[str, Sequence[Found]]) -> list[str]:
    found = {name: parts[0].facts["frechet"] for name, parts in tuned.items() if "frechet" in parts[0].facts}
    told = [f"{name} has no Fréchet distance: {one['note']}" for name, one in found.items() if "note" in one]
    alike: dict[str, list[str]] = {}
    for name, one in found.items():
        if "value" in one:
            alike.setdefault(_measured_so(one), []).append(name)
    return told + [f"Fréchet distance, {', '.join(names)}: {text}" for text, names in alike.items()]


def _measured_so(one: Mapping[str, Any]) -> str:
    short = " (no more images than features: mostly bias)" if one["short"] else ""
    return (
        f"{one['n']} counterfactuals against {one['n_real']} real images of the target class in {one['features']} "
        f"features of the judge's layer {one['layer']}{short}; real to real is that of as many real test images"
    )
