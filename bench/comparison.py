"""Inpainting beside the attributions, each with its best layer and a mask rule chosen on validation images.

    python bench/comparison.py phantoms abdomen --work runs/abdomen          # fresh phantoms, shipped weights
    python bench/comparison.py folds DATA --classifier C --judge J --prior P --target tumour=0 --work runs/real

Every step is a counterscan command, printed before it runs and kept in the JSON under results/; a run that was stopped
goes on where it was. `folds` explains some folds to choose rules and layers on, and measures on others.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from counterscan.classifiers.load import load_classifier
from counterscan.classifiers.torch import candidate_layers
from counterscan.core import Classifier, Target
from counterscan.data.batches import Images, open_images
from counterscan.data.manifest import read_manifest
from counterscan.data.window import Window
from counterscan.explainers.base import Explainer
from counterscan.explainers.build import build_explainer
from counterscan.metrics.calibration import search
from counterscan.metrics.validity import attempted
from counterscan.score import compare

RESULTS = Path(os.path.relpath(Path(__file__).parents[1] / "results"))  # commands are kept as one would type them
TARGETS = {"abdomen": "tumour=0", "chest": "normal", "fundus": "dr=0", "oct": "normal"}
SEEDS = {"validation": 20261, "test": 20262}
LAYER_IMAGES = {"layer-cam": 160, "grad-cam": 160, "score-cam": 48}  # validation images that a layer is chosen on
METHODS = ("gradient", "smooth-grad", "integrated-gradients", "layer-cam", "grad-cam", "occlusion", "score-cam", "rise")


def counterscan(*words: str) -> str:
    """Run a counterscan command; the answer is the command as one would type it."""
    typed = shlex.join(["counterscan", *words])
    print("$", typed, flush=True)
    done = subprocess.run([str(Path(sys.executable).with_name("counterscan")), *words])
    if done.returncode not in (0, 3):
        raise SystemExit(done.returncode)
    return typed


class Comparison:
    """One dataset with its models: `part(name)` gives the words that select validation or test images."""

    def __init__(self, name: str, arguments: argparse.Namespace):
        self.name, self.work = name, Path(arguments.work)
        self.models = ["--classifier", arguments.classifier, "--target", arguments.target]
        self.target, self.dataset = arguments.target, arguments.dataset
        self.classifier, self.judge, self.prior = arguments.classifier, arguments.judge, arguments.prior
        self.extra = ["--dataset", arguments.dataset] if arguments.dataset else []
        self.data, self.kind = arguments.data, arguments.what
        self.folds = {"validation": arguments.validation_folds, "test": arguments.test_folds}
        self.n, self.masks = arguments.n, arguments.masks

    def part(self, part: str) -> list[str]:
        if self.data:
            return [self.data, *(word for fold in self.folds[part] for word in ("--fold", str(fold))), *self.extra]
        folder = self.work / "data" / part
        if not (folder / "labels.csv").exists():
            counterscan("phantoms", self.kind, "--n", str(self.n), "--seed", str(SEEDS[part]), "--out", str(folder))
        return [str(folder)]

    def explain(self, part: str, method: str, *settings: str) -> Path:
        out = self.work / part / "-".join([method, *(s.replace("=", "") for s in settings if s != "--set")])
        prior = ["--prior", self.prior] if method == "inpainting" else []
        counterscan("explain", *self.part(part), *self.models, "--with", method, *prior, *settings, "--out", str(out))
        return out

    def measure(self, method: str, *settings: str) -> Path:
        validation, test = self.explain("validation", method, *settings), self.explain("test", method, *settings)
        judge = ["--judge", self.judge] if self.judge else []
        # the calibrated rule comes last, so that its scores are the ones that stay in the folder
        rules = [("-published", []), ("", ["--validation", str(validation)])]
        for rule, words in rules[method == "inpainting" :]:
            result = RESULTS / f"{self.name}-{method}{rule}.json"
            counterscan("score", str(test), *words, *judge, "--json", str(result))
        return test

    def best_layer(self, method: str) -> list[str]:
        """The layer whose best mask rule has the best IoU on validation images, healthy ones kept silent if it can."""
        classifier = load_classifier(self.classifier)
        images = self.images(classifier, LAYER_IMAGES[method])
        every = torch.arange(len(images))
        masks = images.masks(every)
        tried = {}
        for layer in candidate_layers(classifier):
            explainer = build_explainer(method, layer=layer.name)
            maps = [self.map(explainer, classifier, images.batch(chosen)) for chosen in every.split(16)]
            found = search(torch.cat(maps), masks)
            tried[layer.name] = (found.feasible, found.iou)
            print(
                f"{method} at {layer.name} {layer.spatial}: IoU {found.iou:.3f} feasible {found.feasible}", flush=True
            )
        return ["--set", f"layer={max(tried, key=lambda name: tried[name])}"]

    def images(self, classifier: Classifier, n: int) -> Images:
        """The first `n` validation images at the classifier's size; enough to tell layers apart."""
        manifest = read_manifest(self.part("validation")[0], self.dataset or None)
        if self.data:
            manifest = manifest.select(folds=self.folds["validation"])
        window = Window(*classifier.card.window) if classifier.card.window else None
        return open_images(replace(manifest, cases=manifest.cases[:n]), classifier.card.shape, window)

    def map(self, explainer: Explainer, classifier: Classifier, images: Tensor) -> Tensor:
        """Maps of a batch, empty where the answer is as asked already, as they are when masks are made."""
        explanation = explainer(classifier, images, Target.parse(self.target, classifier.card))
        return explanation.heatmap * attempted(explanation).view(-1, 1, 1, 1)

    def run(self, methods: list[str]) -> None:
        """Measure inpainting and the `methods`; paired differences to others that were measured before are kept."""
        ours, path = self.measure("inpainting"), RESULTS / f"{self.name}-paired.json"
        kept = json.loads(path.read_text())["iou"] if path.exists() else {}
        differences = {
            method: self.difference(ours, self.measure(method, *self.settings(method))) for method in methods
        }
        result = {"command": shlex.join(["python", *sys.argv]), "what": "inpainting minus the method, paired by image"}
        path.write_text(json.dumps({**result, "iou": kept | differences}, indent=1) + "\n")
        print(json.dumps(differences, indent=1))

    def settings(self, method: str) -> list[str]:
        """What a method is given: CAMs their best layer, RISE its number of masks, those that ask most bfloat16."""
        if method == "rise":
            return ["--set", f"masks={self.masks}", "--set", "bfloat16=true"]
        if method == "occlusion":
            return ["--set", "bfloat16=true"]
        return self.best_layer(method) if method in LAYER_IMAGES else []

    def difference(self, first: Path, second: Path) -> dict:
        return compare(first, second)["iou"].to_dict()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["phantoms", "folds"])
    parser.add_argument("what", help="a kind of phantom, or a manifest with folds")
    parser.add_argument("--name", help="of the files under results/")
    parser.add_argument("--classifier")
    parser.add_argument("--judge")
    parser.add_argument("--prior")
    parser.add_argument("--target")
    parser.add_argument("--dataset", help="a dataset.toml that does not lie beside the manifest")
    parser.add_argument("--validation-folds", type=int, nargs="+", default=[1])
    parser.add_argument("--test-folds", type=int, nargs="+", default=[0])
    parser.add_argument("--work", required=True, help="a folder for explanations")
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS, help="all of them take hours")
    parser.add_argument("--n", type=int, default=300, help="phantoms in each part")
    parser.add_argument("--masks", type=int, default=1000, help="of RISE")
    arguments = parser.parse_args()
    phantoms = arguments.kind == "phantoms"
    arguments.data = "" if phantoms else arguments.what
    for word in ("classifier", "judge"):
        if phantoms and getattr(arguments, word) is None:
            setattr(arguments, word, f"{arguments.what}/{word}")
    if phantoms:
        arguments.prior = arguments.prior or f"{arguments.what}/inpainting"
        arguments.target = arguments.target or TARGETS[arguments.what]
    RESULTS.mkdir(exist_ok=True)
    Comparison(arguments.name or Path(arguments.what).name, arguments).run(list(arguments.methods))


if __name__ == "__main__":
    main()
