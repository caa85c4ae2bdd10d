"""Latent diffusion with text, measured on chest phantoms: the normal counterpart, and disease placed by a sentence.

    python bench/latent_text.py --work runs/text --n 200 --json results/latent-text-chest.json

`removed`: abnormal phantoms that nobody was trained on, under the text of a normal one; how near they come to their
healthy twins, and as a set to real healthy ones. `cams`: class activation maps
of the same images at the layer that is best on others. `normal`: healthy ones under that text, led away from the
findings that the abnormal ones had. `induced`: healthy ones under a sentence for each finding, side and zone, and for
each size; whether the judge sees it, where it came, where it comes when the sentence is mirrored, and whether more is
said to be more; `--unbounded` shows what of the places the prior itself knows. `known`: of phantoms that truly show a
finding and no other, the share in which classifier and judge see it, which drawn ones can hardly surpass. `cost`: one
image at a time. `exact`: the same images together, alone, and once more. What a part has written into WORK is not made
again.
"""

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from counterscan.classifiers.features import Extractor
from counterscan.classifiers.load import load_classifier
from counterscan.classifiers.torch import candidate_layers
from counterscan.core import Explanation, Target
from counterscan.data.archive import write_phantoms
from counterscan.data.batches import load_batch
from counterscan.data.files import write_whole
from counterscan.data.manifest import Case, Manifest, read_manifest
from counterscan.data.scans import read_scan
from counterscan.engine import run
from counterscan.explainers.build import build_explainer
from counterscan.explainers.latent_text import LatentText
from counterscan.explainers.text_guided.wording import seen
from counterscan.jobs import prepare
from counterscan.memory import peak_memory
from counterscan.metrics.closeness import multiscale
from counterscan.metrics.intervals import bootstrap, paired
from counterscan.metrics.localisation import auprc
from counterscan.metrics.placement import Placement, placements
from counterscan.metrics.populations import realism
from counterscan.metrics.truth import Truth
from counterscan.priors.text import load_text_prior
from counterscan.prompts import Mention, mirrored, report
from counterscan.score import score_folder, with_truth

SEED = 20263
CAMS = ("layer-cam", "grad-cam", "score-cam")
SHOWN = ("flip_rate", "judge_flip_rate", "twin_ratio", "outside_inside_ratio", "pointing_game", "l1", "ssim", "ms_ssim")
CHOSEN_ON = 24  # images that a map's layer is chosen on
SIZES, SIDES, ZONES = ("small", "moderate", "large"), ("left", "right"), ("upper", "middle", "lower")
NAMED = ("consolidation", "effusion", "nodule", "pneumothorax", "cardiomegaly")
BATCH, TIMED = 8, 8


class Bench:
    """The models, and the folder that everything is made in."""

    def __init__(self, arguments: argparse.Namespace):
        self.arguments, self.work = arguments, Path(arguments.work)
        self.classifier, self.judge = (load_classifier(name) for name in (arguments.classifier, arguments.judge))
        self.prior = load_text_prior(arguments.prior)
        manifest = read_manifest(write_phantoms("chest", 6 * arguments.n, self.work / "asked", seed=SEED))
        ill = [case for case in manifest.cases if manifest.diseased(case)]
        self.abnormal, self.others = ill[: arguments.n], ill[arguments.n : arguments.n + CHOSEN_ON]
        self.healthy = [case for case in manifest.cases if not manifest.diseased(case)][: arguments.n]
        self.manifest = manifest
        self.normal = Target.parse("normal", self.classifier.card)

    def removed(self) -> dict[str, Any]:
        """The normal counterpart of abnormal images, and how near it comes to their healthy twins."""
        out = self._explained("removed", self.abnormal, self.arguments.settings)
        metrics = json.loads((out / "score.json").read_text())["metrics"]
        row = {name: metrics[name] for name in SHOWN if name in metrics}
        own, found, area = [], [], []
        for _, explanation, truth in with_truth(out, self._only(self.abnormal), None):
            assert truth.twin is not None
            assert explanation.counterfactual is not None
            own.append(float(multiscale(explanation.images, truth.twin)))
            found.append(float(multiscale(explanation.counterfactual, truth.twin)))
            area.append(float(auprc(explanation, truth=truth)))
        row |= {"ms_ssim_to_twin": bootstrap(found).to_dict(), "images_ms_ssim_to_twin": bootstrap(own).to_dict()}
        row |= {"ms_ssim_gained": paired(found, own).to_dict(), "auprc": bootstrap(area).to_dict()}
        return row | {"realism": realism(out, self.manifest, Extractor.of(self.judge), seed=SEED).to_dict()}

    def cams(self) -> dict[str, Any]:
        """The area under the precision-recall curve of each map, at the layer that is best on other images."""
        rows = {}
        for name in self.arguments.cams:
            layers = candidate_layers(self.classifier)
            tried = {layer.name: np.nanmean(self._areas(name, self.others, layer=layer.name)) for layer in layers}
            best = max(tried, key=lambda layer: tried[layer])
            rows[name] = {"layer": best, "auprc": bootstrap(self._areas(name, self.abnormal, layer=best)).to_dict()}
            print(name, rows[name], flush=True)
        return rows

    def _areas(self, name: str, cases: Sequence[Case], **settings: Any) -> list[float]:
        explainer, found = build_explainer(name, **settings), []
        for part in batches(cases):
            explanation = explainer(self.classifier, self._images(part), self.normal)
            masks = torch.stack([torch.from_numpy(read_scan(str(case.mask_path)).pixels[:1] > 0)[0] for case in part])
            found += auprc(explanation, truth=Truth(masks)).tolist()
        return found

    def kept(self, mass: float) -> dict[str, Any]:
        """How much healthy images change, as a share of the `mass` that abnormal ones do: told nothing, and misled.

        Misled, they are led away from the findings that the classifier saw in an abnormal image.
        """
        changes: dict[str, list[float]] = {"asked": [], "misled": []}
        for healthy, ill in zip(batches(self.healthy), batches(self.abnormal), strict=False):
            images, told = self._images(healthy), seen(self.classifier.card, self.classifier(self._images(ill)))
            for name, texts in (("asked", [""] * len(images)), ("misled", told)):
                changes[name] += [self._change(*pair) for pair in zip(images, texts, strict=False)]
        return {name: bootstrap(np.array(values) / mass).to_dict() for name, values in changes.items()}

    def _change(self, image: Tensor, negative: str) -> float:
        explanation = LatentText(self.prior, negative=negative)(self.classifier, image[None], self.normal)
        return float(explanation.heatmap.mean())

    def induced(self) -> dict[str, Any]:
        """Healthy images under each sentence: seen by the judge, placed as said, mirrored, and larger where more."""
        mentions = [Mention(name, True, size, side, zone) for name, size, side, zone in sentences()]
        rows = {report([mention]): self._induced(mention) for mention in mentions}
        told = [(mention, row) for mention, row in zip(mentions, rows.values(), strict=True)]
        sided = [one for mention, row in told if mention.side for one in row["side"]]
        zoned = [one for mention, row in told if mention.zone for one in row["zone"]]
        return {
            "judge": bootstrap([one for _, row in told for one in row["judge"]]).to_dict(),
            "classifier": bootstrap([one for _, row in told for one in row["classifier"]]).to_dict(),
            "side": bootstrap(sided).to_dict(),
            "zone": bootstrap(zoned).to_dict(),
            "mirrored": bootstrap([one for mention, row in told if mention.side for one in row["mirrored"]]).to_dict(),
            "severity": self._severity(told),
            "findings": {name: self._of(name, told) for name in NAMED},
            "sentences": {text: {key: float(np.mean(v)) for key, v in row.items() if v} for text, row in rows.items()},
        }

    def _of(self, name: str, told: Sequence[tuple[Mention, dict[str, list[float]]]]) -> dict[str, float]:
        rows = [row for mention, row in told if mention.finding == name]
        return {key: float(np.mean([one for row in rows for one in row[key]])) for key in ("judge", "classifier")}

    def _severity(self, told: Sequence[tuple[Mention, dict[str, list[float]]]]) -> dict[str, float]:
        """Rank correlation of the size asked for with the size of the change, on the same images, by finding."""
        found = {}
        for name in NAMED:
            pairs = [
                (SIZES.index(mention.severity), size, number)
                for mention, row in told
                if mention.finding == name and mention.severity
                for number, size in enumerate(row["size"])
            ]
            by_image = [[(asked, size) for asked, size, number in pairs if number == one] for one in range(self._few)]
            found[name] = float(np.nanmean([spearmanr(*zip(*image, strict=True)).statistic for image in by_image]))
        return {"mean": float(np.mean([*found.values()])), **found}

    @property
    def _few(self) -> int:
        return self.arguments.induced

    def _induced(self, mention: Mention) -> dict[str, list[float]]:
        how = "unbounded" if self.arguments.unbounded else "induced"
        folder = self.work / how / report([mention]).rstrip(".").replace(" ", "-").lower()
        if not folder.with_suffix(".json").exists():
            row = self._measured(mention)
            folder.parent.mkdir(parents=True, exist_ok=True)
            write_whole(folder.with_suffix(".json"), json.dumps(row).encode())
            print(
                report([mention]),
                {key: round(float(np.mean(value)), 3) for key, value in row.items() if value},
                flush=True,
            )
        return json.loads(folder.with_suffix(".json").read_text())

    def _measured(self, mention: Mention) -> dict[str, list[float]]:
        target = Target.parse(f"{mention.finding}=1", self.classifier.card)
        here = self._drawn(report([mention]), target)
        placed = placements(here.difference)
        row = {
            "judge": target.reached(self.judge(here.counterfactual)).double().tolist(),
            "classifier": here.found.double().tolist(),
            "side": [float(mention.side in ("", one.side)) for one in placed],
            "zone": [float(mention.zone in ("", one.zone)) for one in placed],
            "size": [one.size for one in placed],
            "mirrored": [],
        }
        if mention.side and not mention.severity:
            there = placements(self._drawn(mirrored(report([mention])), target).difference)
            row["mirrored"] = [float(opposite(*pair)) for pair in zip(placed, there, strict=True)]
        return row

    def _drawn(self, text: str, target: Target) -> Explanation:
        images = self._images(self.healthy[: self._few])
        return LatentText(self.prior, prompt=text, placed=not self.arguments.unbounded)(
            self.classifier, images, target, seed=SEED
        )

    def known(self) -> dict[str, dict[str, Any]]:
        """How many images that truly show a finding, and no other, classifier and judge find it in."""
        found = {}
        for name in NAMED:
            target = Target.parse(f"{name}=1", self.classifier.card)
            answers: dict[str, list[Tensor]] = {"classifier": [], "judge": []}
            for part in batches([case for case in self.manifest.cases if only(name, case)]):
                images = self._images(part)
                answers["classifier"].append(target.reached(self.classifier(images)))
                answers["judge"].append(target.reached(self.judge(images)))
            found[name] = {who: bootstrap(torch.cat(said).double().numpy()).to_dict() for who, said in answers.items()}
        return found

    def cost(self) -> dict[str, float]:
        """Seconds of one counterpart after loading, on all cores, and the memory that it takes at most."""
        explainer, times = LatentText(self.prior), []
        images = self._images(self.abnormal[:TIMED])

        def each() -> None:
            for image in images:
                began = time.perf_counter()
                explainer(self.classifier, image[None], self.normal)
                times.append(time.perf_counter() - began)

        each()
        times.clear()
        highest = peak_memory(each)
        told = {"seconds": float(np.mean(times)), "slowest": max(times), "memory_mb": highest}
        return told | {"threads": torch.get_num_threads(), "n": TIMED}

    def exact(self) -> dict[str, float]:
        """The largest change of a pixel where the same images are explained one by one, and once more together."""
        explainer, images = LatentText(self.prior), self._images(self.abnormal[:TIMED])
        together = [explainer(self.classifier, images, self.normal, seed=SEED).counterfactual for _ in range(2)]
        alone = [explainer(self.classifier, image[None], self.normal, seed=SEED).counterfactual for image in images]
        told = {"alone": torch.cat(alone), "again": together[1]}
        return {name: float((one - together[0]).abs().max()) for name, one in told.items()} | {"n": TIMED}

    def _explained(self, name: str, cases: Sequence[Case], settings: Sequence[str]) -> Path:
        out = self.work / name
        if not (out / "score.json").exists():
            words = {
                "classifier": self.arguments.classifier,
                "judge": self.arguments.judge,
                "prior": self.arguments.prior,
            }
            job = prepare(
                [self.work / "asked"], target="normal", method="latent-text", settings=settings, out=out, **words
            )
            run(replace(job, manifest=self._only(cases)))
            print(score_folder(out, self.work / "asked"), flush=True)
        return out

    def _only(self, cases: Sequence[Case]) -> Manifest:
        return replace(self.manifest, cases=tuple(cases))

    def _images(self, cases: Sequence[Case]) -> Tensor:
        return load_batch(cases, self.prior.card.shape)


def batches(cases: Sequence[Case]) -> list[Sequence[Case]]:
    """The cases, `BATCH` at a time."""
    return [cases[start : start + BATCH] for start in range(0, len(cases), BATCH)]


def sentences() -> list[tuple[str, str, str, str]]:
    """Finding, size, side and zone of each sentence that is asked: every place without a size, every size on a side."""
    places = [(name, "", side, zone) for name in ("consolidation", "nodule") for side in SIDES for zone in ZONES]
    places += [(name, "", side, "") for name in ("effusion", "pneumothorax") for side in SIDES]
    sizes = [(name, size, "left" if name != "cardiomegaly" else "", "") for name in NAMED for size in SIZES]
    return [*places, ("cardiomegaly", "", "", ""), *sizes]


def only(name: str, case: Case) -> bool:
    """Does the image show this finding, and no other?"""
    return [one for one, value in case.labels.items() if value] == [name]


def opposite(one: Placement, other: Placement) -> bool:
    """Whether a change came on the other side when the sentence was mirrored."""
    return {one.side, other.side} == {"left", "right"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", default="runs/text", help="folder for what is drawn and explained")
    parser.add_argument("--classifier", default="chest/classifier")
    parser.add_argument("--judge", default="chest/judge")
    parser.add_argument("--prior", default="chest/text-diffusion")
    parser.add_argument("--n", type=int, default=200, help="abnormal images, and healthy ones")
    parser.add_argument("--induced", type=int, default=16, help="healthy images under each sentence")
    parser.add_argument("--unbounded", action="store_true", help="sentences do not bound where `induced` draws")
    parser.add_argument("--cams", nargs="+", default=CAMS, choices=CAMS)
    parser.add_argument("--set", dest="settings", action="append", default=[], help="settings of latent-text")
    parser.add_argument(
        "--parts", nargs="+", default=["removed", "cams", "normal", "induced", "known", "cost", "exact"]
    )
    parser.add_argument("--json", default="", help="where the figures go, as in results/")
    arguments = parser.parse_args()
    bench = Bench(arguments)
    parts: dict[str, Callable[[], Any]] = {"removed": bench.removed, "cams": bench.cams, "induced": bench.induced}
    parts |= {"normal": lambda: bench.kept(bench.removed()["l1"]["value"]), "known": bench.known}
    parts |= {"cost": bench.cost, "exact": bench.exact}
    command = shlex.join(["python", os.path.relpath(sys.argv[0]), *sys.argv[1:]])
    found = {"command": command, "version": metadata.version("counterscan"), "n": arguments.n}
    with torch.no_grad():
        found |= {name: parts[name]() for name in arguments.parts}
    print(json.dumps({name: found[name] for name in arguments.parts}, indent=1))
    if arguments.json:
        write_whole(Path(arguments.json), (json.dumps(found, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
