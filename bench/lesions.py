"""How good the masks and volumes of `segment` are on phantom volumes, slice by slice and joined across slices.

    python bench/lesions.py [--n 40] [--seed 13] [--json FILE]

Each phantom volume (`data/phantoms/volume.py`) is explained by the shipped abdomen inpainting; its maps become a mask
by the rule for images, and by that for volumes. Figures are means over volumes with 95 % intervals by volume.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from counterscan.classifiers.load import load_classifier
from counterscan.core import Target
from counterscan.data.phantoms.volume import VolumePhantom, draw_volume
from counterscan.data.window import Window
from counterscan.explainers.inpainting import Inpainting
from counterscan.metrics.confidence import Objects
from counterscan.metrics.intervals import bootstrap, paired
from counterscan.metrics.lesions import Found, Grid, VolumeRule
from counterscan.metrics.masks import MaskRule
from counterscan.priors.editor import load_editor

KINDS = ((50, 1.5), (30, 3.0), (20, 5.0))  # slices, mm
NONE = Target(((0, 0.0),))


def maps(phantom: VolumePhantom, classifier, explainer) -> tuple[np.ndarray, np.ndarray]:
    """The heat maps `(n, h, w)` of a volume's slices, and in which of them the classifier saw a tumour."""
    images = torch.from_numpy(Window(-160, 240).to_unit(phantom.image))[:, None].float()
    parts = [explainer(classifier, chunk, NONE) for chunk in images.split(8)]
    heat = np.concatenate([part.heatmap[:, 0].half().numpy() for part in parts])
    return heat, np.concatenate([(~NONE.reached(part.before)).numpy() for part in parts])


def measured(found: Found, truth: np.ndarray) -> dict[str, Any]:
    """IoU, Dice, whether the lesion was met, objects that meet none, and the volume's interval."""
    numbers = np.stack([found.numbered(index) for index in range(len(truth))])
    mask, met = numbers > 0, set(np.unique(numbers[truth])) - {0}
    both, sick = (mask & truth).sum(), truth.any()
    return {
        "iou": both / (mask | truth).sum() if sick else np.nan,
        "dice": 2 * both / (mask.sum() + truth.sum()) if sick else np.nan,
        "met": bool(met) if sick else np.nan,
        "false_objects": len(found.lesions) - len(met),
        "met_by": sorted(met),
        "lesion": max(met, key=lambda number: (truth & (numbers == number)).sum(), default=0),
    }


def covered(found: Found, number: int, ml: float) -> float:
    """Does the interval of lesion `number` hold the true volume? nan where there is none."""
    if not number:
        return np.nan
    lesion = found.lesions[number - 1]
    return float(lesion.low <= ml <= lesion.high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=40)
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--healthy", action="store_true", help="half of the volumes without a tumour")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    classifier, editor = load_classifier("abdomen/classifier"), load_editor("abdomen/inpainting")
    plane, rows = MaskRule.from_dict(editor.card.mask_rule), []
    rules = {"images": VolumeRule(plane, across=0, thinnest=0, smallest=0), "volumes": VolumeRule(plane)}
    objects = Objects()
    for index in range(arguments.n):
        slices, step = KINDS[index % len(KINDS)]
        tumour = None if arguments.healthy else True
        phantom = draw_volume(index, slices=slices, thickness=step, seed=arguments.seed, tumour=tumour)
        heat, tried = maps(phantom, classifier, Inpainting(editor))
        grid = Grid(phantom.spacing[:2], np.arange(slices) * step)
        row = {}
        for name, rule in rules.items():
            found = rule(heat if name == "volumes" else heat * tried[:, None, None], grid, tried)
            row[name] = measured(found, phantom.mask)
        objects.confidence += [lesion.confidence for lesion in found.lesions]
        objects.hits += [float(number in row["volumes"]["met_by"]) for number in range(1, len(found.lesions) + 1)]
        objects.patients += [str(index)] * len(found.lesions)
        row["volumes"]["covered"] = covered(found, row["volumes"]["lesion"], phantom.ml)
        rows.append(row)
    figures = {}
    for metric in ("iou", "dice", "met", "false_objects"):
        values = {name: [row[name][metric] for row in rows] for name in rules}
        figures |= {f"{metric}, rule for {name}": bootstrap(each) for name, each in values.items()}
        figures[f"{metric}, volumes minus images"] = paired(values["volumes"], values["images"])
    figures["interval holds the true volume"] = bootstrap([row["volumes"]["covered"] for row in rows])
    figures["confidence of the lesions found"] = bootstrap(objects.confidence, objects.patients)
    figures["lesions found that are true"] = bootstrap(objects.hits, objects.patients)
    figures["confidence off by"] = objects.error()
    for name, estimate in figures.items():
        print(f"{name:<40} {estimate}")
    if arguments.json:
        arguments.json.write_text(json.dumps({name: each.to_dict() for name, each in figures.items()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
