"""Diffusion counterfactuals of the retina, measured: both directions, with and without a cone, beside `sparse`.

    python bench/diffusion_guidance.py fundus --work runs/guidance --n 200
    python bench/diffusion_guidance.py oct --work runs/guidance --n 200 --exact 24 --models runs/oct
    python bench/diffusion_guidance.py grades --models runs/grades --denoiser fundus/denoiser

`grades` are the fundus phantoms whose classifiers know five grades of retinopathy and not only whether there is any.
Phantoms that nobody was trained on are drawn into WORK: those that are explained, and others as the real images. Each
method explains them into a folder of its own, as `counterscan explain` does; then come validity under classifier and
judge, distance to the true twin, change outside the lesion, distance to real images of the class asked for, and whether
it is still the same eye, with intervals. The last part runs the default and `exact=True` side by side on a few images,
with what both ask of the network counted. A folder that is there is not made again.
"""

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from torch import Tensor

from counterscan.classifiers.features import Extractor
from counterscan.classifiers.load import load_classifier
from counterscan.core import Classifier, Target
from counterscan.data.archive import write_phantoms
from counterscan.data.files import write_whole
from counterscan.data.manifest import Case, Manifest, read_manifest
from counterscan.engine import run
from counterscan.errors import CounterscanError
from counterscan.jobs import prepare
from counterscan.metrics.populations import realism
from counterscan.priors.denoiser import DenoiserPrior
from counterscan.registry import shipped_weights
from counterscan.score import score_folder

TARGETS = {
    "fundus": {"removed": ("dr=0", ""), "added": ("dr=1", "")},
    "grades": {
        "removed": ("no_dr", ""),
        "eased": ("mild", "severe=1"),
        "worsened": ("severe", "mild=1"),
        "added": ("proliferative", "no_dr=1"),
    },
    "oct": {"removed": ("normal", ""), "added": ("dme", "")},
}
GRADED = {"grades": "fundus"}  # targets of a dataset file of their own, and the phantoms that have it
MODELS = ("classifier", "judge", "robust", "denoiser", "verifier")
METHODS = {
    "cone": ("diffusion-guidance", ()),
    "no-cone": ("diffusion-guidance", ("robust=",)),
    "sparse": ("sparse", ()),
}
SHOWN = (
    "flip_rate",
    "judge_flip_rate",
    "twin_ratio",
    "outside_inside_ratio",
    "changed_share",
    "ssim",
    "ms_ssim",
    "identity_kept",
)
REAL = 3000  # phantoms that stand for real images
SEED = 20261


@dataclass
class _Counted:
    """A denoiser that counts the images it is asked about, and those that gradients come back through it for."""

    denoiser: DenoiserPrior
    asked: int = 0
    passed_back: int = 0

    @property
    def card(self):
        return self.denoiser.card

    def __call__(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        self.asked += len(noisy)
        clean = self.denoiser(noisy, sigma)
        if clean.requires_grad:
            clean.register_hook(self._back)
        return clean

    def _back(self, gradient: Tensor) -> None:
        self.passed_back += len(gradient)


@dataclass(frozen=True)
class Bench:
    """Models by what they are `MODELS` for, the manifest (or some of its `folds`) that they explain into `work`.

    `targets` has the answer asked for in each direction, and which images it is asked of (as `explain --where`) beside
    that they show something else. `real` are images to compare the counterfactuals with, None where there are none.
    """

    names: Mapping[str, str]
    targets: Mapping[str, tuple[str, str]]
    work: Path
    asked: Path
    folds: tuple[int, ...]
    real: Manifest | None
    command: str
    shown: Sequence[str] = SHOWN
    dataset: Path | None = None
    methods: Sequence[str] = tuple(METHODS)

    @cached_property
    def judge(self) -> Classifier:
        """The classifier whose features images are compared in."""
        return load_classifier(self.names["judge"])

    def rows(self, n: int) -> dict[str, dict[str, Any]]:
        """The figures of each direction and method, on `n` images each."""
        rows = {}
        for direction, asked in self.targets.items():
            for method in self.methods:
                explainer, settings = METHODS[method]
                folder = self.work / direction / method
                self.explain(folder, explainer, settings, asked, n)
                rows[f"{direction} {method}"] = self._measured(folder)
                print(direction, method, self._line(rows[f"{direction} {method}"]), flush=True)
        return rows

    def costs(self, n: int) -> dict[str, dict[str, Any]]:
        """The default and the published method on the same `n` images, with what each costs an image."""
        rows = {}
        for direction, asked in self.targets.items():
            for name, settings in {"default": (), "exact": ("exact=true",)}.items():
                folder = self.work / direction / f"{name}-{n}"
                cost = self.explain(folder, "diffusion-guidance", settings, asked, n)
                rows[f"{direction} {name}"] = {**self._measured(folder), **cost}
                print(direction, name, self._line(rows[f"{direction} {name}"]), cost, flush=True)
        return rows

    def explain(
        self, folder: Path, explainer: str, settings: tuple[str, ...], asked: tuple[str, str], n: int
    ) -> dict[str, float]:
        """Explain the first `n` images that show something else; CPU seconds, evaluations and passes back an image."""
        if (folder / "cost.json").exists():
            return json.loads((folder / "cost.json").read_text())
        job = prepare(
            [self.asked],
            classifier=self.names["classifier"],
            judge=self.names["judge"],
            target=asked[0],
            where=asked[1],
            folds=self.folds,
            dataset=self.dataset,
            method=explainer,
            prior=self.names["denoiser"] if explainer == "diffusion-guidance" else "",
            settings=[f"robust={self.names['robust']}", *settings],  # what comes last counts
            out=folder,
            names={"command": self.command},
        )
        chosen = [case for case in job.manifest.cases if _other(case, job.target, job.classifier)][:n]
        counted = _Counted(getattr(job.explainer, "denoiser", None))
        if explainer == "diffusion-guidance":
            job = replace(job, explainer=replace(job.explainer, denoiser=counted))
        begun = time.process_time()
        run(replace(job, manifest=replace(job.manifest, cases=tuple(chosen))))
        cost = {"cpu_seconds": time.process_time() - begun, "asked": counted.asked, "passed_back": counted.passed_back}
        cost = {name: round(value / len(chosen), 3) for name, value in cost.items()}
        write_whole(folder / "cost.json", json.dumps(cost).encode())
        return cost

    def _measured(self, folder: Path) -> dict[str, Any]:
        """What `score` finds, and how far the counterfactuals are from real images of the class asked for."""
        if not (folder / "realism.json").exists():
            score_folder(folder, self.asked, verifier=self._verifier())
            found = distances(folder, self.real, Extractor.of(self.judge)) if self.real else {}
            write_whole(folder / "realism.json", json.dumps(found).encode())
        scores = json.loads((folder / "score.json").read_text())["metrics"]
        far = json.loads((folder / "realism.json").read_text())
        return {**{name: scores[name] for name in self.shown if name in scores}, **({"realism": far} if far else {})}

    def _verifier(self) -> str:
        known = self.names["verifier"]
        return known if known in shipped_weights() or Path(known).is_dir() else ""

    def _line(self, row: dict[str, Any]) -> str:
        known = row["realism"]["metrics"] if "realism" in row else {}
        far = {name: known[name] for name in ("kernel_distance", "frechet_distance") if name in known}
        shown = {name: row[name]["value"] for name in self.shown if name in row}
        shown |= {name: value["value"] for name, value in far.items()}
        shown |= {f"{name}_floor": value["floor"]["value"] for name, value in far.items()}
        return "  ".join(f"{name} {value:.3g}" for name, value in shown.items())


def _other(case: Case, target: Target, classifier: Classifier) -> bool:
    """Whether the image shows something else than what is asked for."""
    asked = {classifier.card.classes[index]: round(p) for index, p in target.wanted}
    return any(case.labels.get(name) != value for name, value in asked.items())


def distances(made: Path | Manifest, real: Manifest, extractor: Extractor, **settings: Any) -> dict[str, Any]:
    """What `realism` finds, or where there are too few images to compare, what it says of that."""
    try:
        return realism(made, real, extractor, **settings).to_dict()
    except CounterscanError as error:
        return {"none": str(error), "metrics": {}}


def phantoms(kind: str, models: str, denoiser: str, methods: Sequence[str], work: Path, n: int, command: str) -> Bench:
    """The phantoms of a kind that are explained, and those that stand for real images."""
    often = 16 if kind in GRADED else 4  # as often as the rarest of what is asked of
    for name, count, seed in (("asked", often * n, SEED), ("real", REAL, SEED + 1)):
        write_phantoms(GRADED.get(kind, kind), count, work / name, seed=seed, workers=os.cpu_count() or 1)
    names = {name: f"{models}/{name}" for name in MODELS} | ({"denoiser": denoiser} if denoiser else {})
    dataset = work / "asked" / f"{kind}.toml" if kind in GRADED else None
    real = read_manifest(work / "real", dataset)
    return Bench(names, TARGETS[kind], work, work / "asked", (), real, command, dataset=dataset, methods=methods)


def typed() -> str:
    """The command that runs, as one would type it."""
    return shlex.join(["python", os.path.relpath(sys.argv[0]), *sys.argv[1:]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=sorted(TARGETS))
    parser.add_argument("--work", default="runs/guidance", help="folder for what is drawn and explained")
    parser.add_argument("--models", default="", help="folder of classifier, judge, robust, denoiser, verifier")
    parser.add_argument("--denoiser", default="", help="one that is not in that folder")
    parser.add_argument("--methods", nargs="+", default=tuple(METHODS), choices=METHODS)
    parser.add_argument("--n", type=int, default=200, help="images of each direction")
    parser.add_argument("--exact", type=int, default=24, help="images that the published method runs on, 0 for none")
    parser.add_argument("--json", default="", help="where the figures go, as in results/")
    arguments = parser.parse_args()
    work = Path(arguments.work) / arguments.kind
    models = arguments.models or arguments.kind
    bench = phantoms(arguments.kind, models, arguments.denoiser, arguments.methods, work, arguments.n, typed())
    found = {"rows": bench.rows(arguments.n), "costs": bench.costs(arguments.exact) if arguments.exact else {}}
    facts = {"command": bench.command, "version": metadata.version("counterscan"), "n": arguments.n}
    if arguments.json:
        write_whole(Path(arguments.json), (json.dumps({**facts, **found}, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
