"""How good the masks and volumes of `segment` are on phantom volumes, slice by slice and joined across slices.

    python bench/lesions.py [--n 40] [--seed 13] [--healthy] [--json FILE]
    python bench/lesions.py --fit 16 [--volumes 200] [--kept FILE] [--write]

Each phantom volume (`data/phantoms/volume.py`) is explained by the shipped abdomen inpainting; its maps become a mask
by the rule for images, and by that for volumes. Figures are means over volumes with 95 % intervals by volume; a table
says how many lesions of each bin of confidence meet the tumour.

`--fit` learns the confidence in the lesions of volumes, from so many volumes of another seed, before anything is
measured; `--kept` is a file of what was found in each, so that a run that was stopped goes on where it was, and
`--write` puts the two numbers into the shipped card. `--healthy` leaves half of all these volumes without a tumour.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from confidence import put, told

from counterscan.classifiers.load import load_classifier
from counterscan.core import Classifier, Target
from counterscan.data.phantoms.volume import VolumePhantom, draw_volume
from counterscan.data.window import Window
from counterscan.explainers.inpainting import Inpainting
from counterscan.metrics.calibration import with_volume_confidence
from counterscan.metrics.confidence import Objects
from counterscan.metrics.intervals import Estimate, bootstrap, paired
from counterscan.metrics.lesions import Found, Grid, VolumeRule
from counterscan.metrics.masks import MaskRule
from counterscan.priors.editor import load_editor

KINDS = ((50, 1.5), (30, 3.0), (20, 5.0))  # slices, mm
NONE = Target(((0, 0.0),))


@dataclass(frozen=True)
class Explained:
    """A phantom volume, the heat maps `(n, h, w)` of its slices, and in which of them the classifier saw a tumour."""

    phantom: VolumePhantom
    heat: np.ndarray
    tried: np.ndarray

    @property
    def grid(self) -> Grid:
        pixel, step = self.phantom.spacing[:2], self.phantom.spacing[2]
        return Grid((pixel[0], pixel[1]), np.arange(len(self.heat)) * step)


def explained(
    classifier: Classifier, explainer: Inpainting, indices: Sequence[int], seed: int, healthy: bool
) -> Iterator[tuple[int, Explained]]:
    """Volumes of a series; half of them without a tumour where there shall be `healthy` ones."""
    for index in indices:
        slices, step = KINDS[index % len(KINDS)]
        tumour = None if healthy else True
        phantom = draw_volume(index, slices=slices, thickness=step, seed=seed, tumour=tumour)
        images = torch.from_numpy(Window(-160, 240).to_unit(phantom.image))[:, None].float()
        parts = [explainer(classifier, chunk, NONE) for chunk in images.split(8)]
        heat = np.concatenate([part.heatmap[:, 0].half().numpy() for part in parts])
        yield index, Explained(phantom, heat, np.concatenate([(~NONE.reached(part.before)).numpy() for part in parts]))


def learned(classifier: Classifier, explainer: Inpainting, arguments: argparse.Namespace) -> MaskRule:
    """The rule of the explainer's card, with its confidence in the lesions of volumes as the seed to fit on has it."""
    rule, series = MaskRule.from_dict(explainer.editor.card.mask_rule), (arguments.fit, arguments.healthy)
    seen = {one["index"]: one for one in recalled(arguments.kept, *series) if one["index"] < arguments.volumes}
    missing = [index for index in range(arguments.volumes) if index not in seen]
    for index, each in explained(classifier, explainer, missing, *series):
        found = VolumeRule(rule)(each.heat, each.grid, each.tried)
        peaks, hits = [lesion.peak for lesion in found.lesions], measured(found, each.phantom.mask)["hits"]
        seen[index] = {"seed": series[0], "healthy": series[1], "index": index, "peaks": peaks, "hits": hits}
        if arguments.kept:
            with arguments.kept.open("a") as file:
                file.write(json.dumps(seen[index]) + "\n")
    peaks, hits = ([value for one in seen.values() for value in one[name]] for name in ("peaks", "hits"))
    fitted = with_volume_confidence(rule, peaks, hits)
    print(f"fitted on {len(hits)} lesions of {len(seen)} volumes, of which {sum(hits):.0f} meet a tumour")
    print(f"  intercept {fitted.volume_intercept:.4f}, slope {fitted.volume_slope:.4f}")
    return fitted


def recalled(kept: Path | None, seed: int, healthy: bool) -> list[dict[str, Any]]:
    """What an earlier run found in volumes of this series."""
    lines = kept.read_text().splitlines() if kept and kept.exists() else []
    return [one for one in map(json.loads, lines) if (one["seed"], one["healthy"]) == (seed, healthy)]


def measured(found: Found, truth: np.ndarray) -> dict[str, Any]:
    """IoU, Dice, whether the tumour was met, objects that meet none, which lesions meet it, and which is most of it."""
    numbers = np.stack([found.numbered(index) for index in range(len(truth))])
    mask, met = numbers > 0, set(np.unique(numbers[truth])) - {0}
    both, sick = (mask & truth).sum(), truth.any()
    return {
        "iou": both / (mask | truth).sum() if sick else np.nan,
        "dice": 2 * both / (mask.sum() + truth.sum()) if sick else np.nan,
        "met": bool(met) if sick else np.nan,
        "false_objects": len(found.lesions) - len(met),
        "hits": [float(number in met) for number in range(1, len(found.lesions) + 1)],
        "lesion": max(met, key=lambda number: (truth & (numbers == number)).sum(), default=0),
    }


def covered(found: Found, number: int, ml: float) -> float:
    """Does the interval of lesion `number` hold the true volume? nan where there is none."""
    if not number:
        return np.nan
    lesion = found.lesions[number - 1]
    return float(lesion.low <= ml <= lesion.high)


def compared(
    volumes: Iterator[tuple[int, Explained]], plane: MaskRule
) -> tuple[list[dict[str, dict[str, Any]]], Objects]:
    """What each rule finds in each volume, and the lesions that the rule for volumes found."""
    rules = {"images": VolumeRule(plane, across=0, thinnest=0, smallest=0), "volumes": VolumeRule(plane)}
    rows, objects = [], Objects()
    for index, each in volumes:
        row = {}
        for name, rule in rules.items():
            heat = each.heat if name == "volumes" else each.heat * each.tried[:, None, None]
            found = rule(heat, each.grid, each.tried)
            row[name] = measured(found, each.phantom.mask)
        objects.confidence += [lesion.confidence for lesion in found.lesions]
        objects.hits += row["volumes"]["hits"]
        objects.patients += [str(index)] * len(found.lesions)
        row["volumes"]["covered"] = covered(found, row["volumes"]["lesion"], each.phantom.ml)
        rows.append(row)
    return rows, objects


def figures(rows: list[dict[str, dict[str, Any]]], objects: Objects) -> Mapping[str, Estimate]:
    """Means over the volumes, and over the lesions found."""
    answer = {}
    for metric in ("iou", "dice", "met", "false_objects"):
        values = {name: [row[name][metric] for row in rows] for name in ("images", "volumes")}
        answer |= {f"{metric}, rule for {name}": bootstrap(each) for name, each in values.items()}
        answer[f"{metric}, volumes minus images"] = paired(values["volumes"], values["images"])
    answer["interval holds the true volume"] = bootstrap([row["volumes"]["covered"] for row in rows])
    answer["confidence of the lesions found"] = bootstrap(objects.confidence, objects.patients)
    answer["lesions found that are true"] = bootstrap(objects.hits, objects.patients)
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=40)
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--healthy", action="store_true", help="half of the volumes without a tumour")
    parser.add_argument("--fit", type=int, metavar="SEED", help="of the volumes that the confidence is learned from")
    parser.add_argument("--volumes", type=int, default=200, help="how many of them")
    parser.add_argument("--kept", type=Path, metavar="FILE", help="what was found in them")
    parser.add_argument("--write", action="store_true", help="put the confidence fitted into the shipped card")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.fit == arguments.seed:
        sys.exit(f"the volumes of seed {arguments.seed} cannot be both fitted and measured; give another --seed")
    classifier, explainer = load_classifier("abdomen/classifier"), Inpainting(load_editor("abdomen/inpainting"))
    plane = MaskRule.from_dict(explainer.editor.card.mask_rule)
    if arguments.fit is not None:
        plane = learned(classifier, explainer, arguments)
        if arguments.write:
            put("abdomen", plane)
    volumes = explained(classifier, explainer, range(arguments.n), arguments.seed, arguments.healthy)
    rows, objects = compared(volumes, plane)
    answer = figures(rows, objects)
    for name, estimate in answer.items():
        print(f"{name:<40} {estimate}")
    sure = told("lesions of volumes", plane, objects) if VolumeRule(plane).confident else {}
    if arguments.json:
        plain = {name: each.to_dict() for name, each in answer.items()}
        arguments.json.write_text(json.dumps(plain | {"confidence": sure}, indent=1) + "\n")


if __name__ == "__main__":
    main()
