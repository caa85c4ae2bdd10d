"""Diffusion counterfactuals of real eyes, measured on those that no model learned from: figures and pictures.

    python bench/real_retina.py SET --work runs/real --models runs/real/retina/fundus [--denoiser D] [--json FILE]

SET is a manifest of bench/real_sets.py below WORK. What bench/diffusion_guidance.py does with phantoms is done in
fold 0 (`oct_kermany`, which trained nothing, in all of it): three methods explain in both directions, then come flips,
change, and where lesions are drawn how well it finds them. Beside the distance of the counterfactuals to real images
of the class asked for stand that of real ones of fold 0 (the best to hope for: the judge knows the others from its
training) and that of the images before. How well the models tell the classes apart comes first: it limits the rest.
Explanations and pictures go into WORK/measured/SET and may not be shared.
"""

import argparse
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from diffusion_guidance import METHODS, MODELS, Bench, distances, typed
from PIL import Image

from counterscan.classifiers.features import Extractor
from counterscan.classifiers.load import load_classifier
from counterscan.core import Classifier, Explanation, Target
from counterscan.data.batches import labels_of, load_batch
from counterscan.data.files import write_whole
from counterscan.data.manifest import Manifest, read_manifest
from counterscan.data.window import Window
from counterscan.errors import CounterscanError
from counterscan.metrics.discrimination import auc
from counterscan.metrics.populations import at_labels, wanted_labels
from counterscan.metrics.truth import Truth
from counterscan.pictures import TRUE, contact_sheet, difference_picture, grey, tint
from counterscan.score import with_truth

SHOWN = (
    "already_there",
    "flip_rate",
    "judge_flip_rate",
    "l1",
    "changed_share",
    "ssim",
    "outside_inside_ratio",
    "auprc",
    "pointing_game",
    "best_iou",
)
EXPLAINING = ("classifier", "judge", "robust")
FOLD = 0  # what is measured on; bench/real.sh trains on the others
PICTURED = 8  # images on a sheet


@dataclass(frozen=True)
class Eyes:
    """What is asked of a set, in words of `Bench.targets`; the set that real images are from; folds measured on."""

    targets: Mapping[str, tuple[str, str]]
    real: str = ""
    folds: tuple[int, ...] = (FOLD,)
    unseen: bool = False  # no classifier learned from any of it


FLUID = {"removed": ("fluid=0", ""), "added": ("fluid=1", "")}
SETS = {
    "fundus": Eyes({"removed": ("dr=0", ""), "added": ("dr=1", "")}, "fundus"),
    "fundus_masks": Eyes({"removed": ("dr=0", "")}, unseen=True),
    "fundus_grades": Eyes({"removed": ("normal", "mild=0"), "added": ("moderate", "no_dr=1")}, "fundus_grades"),
    "oct": Eyes(FLUID, "oct"),
    "oct_kermany": Eyes(FLUID, folds=(), unseen=True),
}


def told_apart(classifiers: Mapping[str, Classifier], manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Each classifier's AUC of each class that images of the manifest show and others do not, by patient."""
    found: dict[str, dict[str, Any]] = {}
    for name, classifier in classifiers.items():
        images = load_batch(manifest.cases, classifier.card.shape, _window(classifier))
        with torch.no_grad():
            answers = torch.cat([classifier(part) for part in images.split(16)])
        columns = [manifest.classes.index(one) for one in classifier.card.classes]
        labels = labels_of(manifest)[:, columns]
        areas = (auc(labels[:, k].numpy(), answers[:, k].numpy(), manifest.patients) for k in range(len(columns)))
        known = zip(classifier.card.classes, areas, strict=True)
        found[name] = {one: area.to_dict() for one, area in known if not math.isnan(area.value)}
    return found


def beside(bench: Bench, direction: str) -> dict[str, Any]:
    """How far real images of fold 0 that show the class asked for, and those explained, are from the others."""
    assert bench.real is not None
    card, text, where = bench.judge.card, *bench.targets[direction]
    labels = wanted_labels(Target.parse(text, card), card.classes)
    held_out = read_manifest(bench.asked).select(folds=bench.folds)
    alike = at_labels(held_out, labels)
    others = [case for case in held_out.select(where=where or None).cases if case not in alike]
    sets = {"unseen": alike, "before": others}
    found = {}
    for name, cases in sets.items():
        made = replace(held_out, cases=tuple(cases))
        extractor = Extractor.of(bench.judge)
        shown = {"shape": tuple(card.shape), "window": _window(bench.judge), "labels": labels}
        found[name] = distances(made, bench.real, extractor, **shown)
    return found


def sheet(bench: Bench, direction: str) -> Image.Image:
    """A row an image: as it was, its drawn lesions if there are any, each method's counterfactual and its change."""
    truth = read_manifest(bench.asked)
    found = {name: _first(bench.work / direction / name, truth) for name in METHODS}
    rows, marked = [], any(known.mask is not None and known.mask.any() for _, known in found["cone"])
    for index, (explanation, known) in enumerate(found["cone"]):
        cells = [grey(explanation.images[0])]
        cells += [_tinted(explanation, known)] if marked else []
        for name in METHODS:
            made = found[name][index][0]
            assert made.counterfactual is not None
            cells += [grey(made.counterfactual[0]), difference_picture((made.counterfactual - made.images)[0])]
        rows.append(cells)
    titles = [title for name in METHODS for title in (name, "change")]
    return contact_sheet(rows, ["image", *(["drawn"] if marked else []), *titles])


def lesion_share(folder: Path, truth: Manifest) -> float | None:
    """The mean share of an image that its drawn lesions take, which chance reaches in `auprc` and `pointing_game`."""
    masks = [known.mask for _, _, known in with_truth(folder, truth, None) if known.mask is not None]
    shares = [float(mask.float().mean()) for mask in masks if mask.any()]
    return round(sum(shares) / len(shares), 5) if shares else None


def _first(folder: Path, truth: Manifest) -> list[tuple[Explanation, Truth]]:
    """The explanations that are shown, spread over all."""
    every = list(with_truth(folder, truth, None))
    chosen = every[:: max(1, len(every) // PICTURED)][:PICTURED]
    return [(explanation, known) for _, explanation, known in chosen]


def _tinted(explanation: Explanation, truth: Truth) -> Image.Image:
    picture = grey(explanation.images[0]).convert("RGBA")
    if truth.mask is not None:
        picture.alpha_composite(tint(truth.mask[0], picture.size, TRUE))
    return picture.convert("RGB")


def _window(classifier: Classifier) -> Window | None:
    return Window(*classifier.card.window) if classifier.card.window else None


def real_images(work: Path, eyes: Eyes) -> Manifest | None:
    """The images of the set that counterfactuals are compared with: those of other folds."""
    if not eyes.real:
        return None
    manifest = read_manifest(work / eyes.real)
    return replace(manifest, cases=tuple(case for case in manifest.cases if case.fold not in eyes.folds))


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures of a set; pictures on the way."""
    eyes, work, out = SETS[arguments.set], Path(arguments.work), Path(arguments.work) / "measured" / arguments.set
    names = {name: f"{arguments.models}/{name}" for name in MODELS}
    names |= {"denoiser": arguments.denoiser} if arguments.denoiser else {}
    asked = work / arguments.set
    bench = Bench(names, eyes.targets, out, asked, eyes.folds, real_images(work, eyes), typed(), SHOWN)
    manifest = read_manifest(asked)
    seen = manifest if eyes.unseen else manifest.select(folds=eyes.folds)
    models = told_apart({name: load_classifier(names[name]) for name in EXPLAINING}, seen)
    for name, areas in models.items():
        print(name, "AUC", {one: round(area["value"], 3) for one, area in areas.items()}, flush=True)
    rows = bench.rows(arguments.n)
    for direction in eyes.targets:
        path = out / f"{direction}.png"
        sheet(bench, direction).save(path)
        print(path, flush=True)
    far = {direction: beside(bench, direction) for direction in eyes.targets} if bench.real else {}
    drawn = {direction: lesion_share(out / direction / "cone", manifest) for direction in eyes.targets}
    return {"models": models, "rows": rows, "beside": far, "lesion_share": drawn}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("--work", required=True, help="folder of the sets, and for what is made")
    parser.add_argument("--models", required=True, help="folder of classifier, judge, robust, denoiser")
    parser.add_argument("--denoiser", default="", help="a denoiser that lies elsewhere")
    parser.add_argument("--n", type=int, default=1000, help="images of each direction at most")
    parser.add_argument("--json", default="", help="where the figures go, as in results/")
    arguments = parser.parse_args()
    try:
        found = measured(arguments)
    except CounterscanError as error:
        raise SystemExit(str(error)) from None
    facts = {"command": typed(), "version": metadata.version("counterscan"), "set": arguments.set}
    if arguments.json:
        write_whole(Path(arguments.json), (json.dumps({**facts, **found}, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
