"""Inpainting beside the attributions, each with its best layer and a mask rule chosen on validation images.

    python bench/comparison.py phantoms abdomen --work runs/abdomen          # fresh phantoms, shipped weights
    python bench/comparison.py folds DATA --classifier C --judge J --prior P --target tumour=0 --work runs/real

Every step is a counterscan command, printed before it runs and kept in the JSON under results/; a run that was stopped
goes on where it was. `folds` explains fold 1 to choose rules and layers, and measures on fold 0.
"""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

from counterscan.classifiers.load import load_classifier
from counterscan.classifiers.torch import candidate_layers
from counterscan.score import choose_rule, compare

RESULTS = Path(__file__).parents[1] / "results"
TARGETS = {"abdomen": "tumour=0", "chest": "normal"}
SEEDS = {"validation": 20261, "test": 20262}


def counterscan(*words: str) -> str:
    """Run a counterscan command; the answer is the command as one would type it."""
    typed = shlex.join(["counterscan", *words])
    print("$", typed, flush=True)
    done = subprocess.run([sys.executable, "-m", "counterscan.cli", *words])
    if done.returncode not in (0, 3):
        raise SystemExit(done.returncode)
    return typed


class Comparison:
    """One dataset with its models: `part(name)` gives the words that select validation or test images."""

    def __init__(self, name: str, arguments: argparse.Namespace):
        self.name, self.work = name, Path(arguments.work)
        self.models = ["--classifier", arguments.classifier, "--target", arguments.target]
        self.classifier, self.judge, self.prior = arguments.classifier, arguments.judge, arguments.prior
        self.extra = ["--dataset", arguments.dataset] if arguments.dataset else []
        self.data = arguments.data
        self.n, self.masks = arguments.n, arguments.masks

    def part(self, part: str) -> list[str]:
        if self.data:
            return [self.data, "--fold", "1" if part == "validation" else "0", *self.extra]
        folder = self.work / "data" / part
        if not (folder / "labels.csv").exists():
            counterscan("phantoms", self.name, "--n", str(self.n), "--seed", str(SEEDS[part]), "--out", str(folder))
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
        """The layer whose calibrated rule has the best IoU on validation images that keeps healthy ones silent."""
        tried = {}
        for layer in candidate_layers(load_classifier(self.classifier)):
            settings = ["--set", f"layer={layer.name}"]
            found = choose_rule(self.explain("validation", method, *settings))
            tried[layer.name] = (found.feasible, found.iou)
            print(f"{method} at {layer.name} {layer.spatial}: IoU {found.iou:.3f} feasible {found.feasible}", flush=True)
        return ["--set", f"layer={max(tried, key=lambda name: tried[name])}"]

    def run(self) -> None:
        folders = {"inpainting": self.measure("inpainting")}
        for method in ("layer-cam", "grad-cam"):
            folders[method] = self.measure(method, *self.best_layer(method))
        folders["rise"] = self.measure("rise", "--set", f"masks={self.masks}")
        differences = {m: self.difference(folders["inpainting"], f) for m, f in folders.items() if m != "inpainting"}
        result = {"command": shlex.join(["python", *sys.argv]), "what": "inpainting minus the method, paired by image"}
        (RESULTS / f"{self.name}-paired.json").write_text(json.dumps({**result, "iou": differences}, indent=1) + "\n")
        print(json.dumps(differences, indent=1))

    def difference(self, first: Path, second: Path) -> dict:
        return compare(first, second)["iou"].to_dict()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["phantoms", "folds"])
    parser.add_argument("what", help="abdomen or chest, or a manifest with folds")
    parser.add_argument("--name", help="of the files under results/")
    parser.add_argument("--classifier")
    parser.add_argument("--judge")
    parser.add_argument("--prior")
    parser.add_argument("--target")
    parser.add_argument("--dataset", help="a dataset.toml that does not lie beside the manifest")
    parser.add_argument("--work", required=True, help="a folder for explanations")
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
    Comparison(arguments.name or Path(arguments.what).name, arguments).run()


if __name__ == "__main__":
    main()
