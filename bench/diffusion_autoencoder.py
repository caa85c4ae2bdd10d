"""The black-box agent measured: a service that only answers, explained through a codec, beside RISE, SHAP, occlusion.

    python bench/diffusion_autoencoder.py abdomen --work runs/agent --n 200 --json results/diffusion-autoencoder.json
    python bench/diffusion_autoencoder.py abdomen --models runs/prognosis --target poor_outcome=0 --middling 0.2

The classifier of MODELS is served over HTTP on this machine, and nothing else is known of it. An agent is fitted to
phantoms (`--fit`), and phantoms that nobody was trained on, all with disease, are explained twice: with the finding
gone, and at a probability between (`--middling`). The attributions explain the first `--compared` of these, for which
the row `compared` holds the method's own figures. They ask the same weights in this process, which answers the same
and spares them the way over HTTP; SHAP is the Partition explainer of the library `shap` (pip install shap), left out
where it is not installed, and all three get the queries of `--masks`. The last part sends a few images there and back
as the codec does, and as the paper of the diffusion autoencoder does (DDIM, 250 steps up and 100 down, over the same
range of noise). A folder that is there is not made again.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from counterscan.agents import fit_folder
from counterscan.classifiers.load import load_classifier
from counterscan.classifiers.wrappers import BlackBox
from counterscan.core import Classifier, Explanation, Target
from counterscan.data.archive import write_phantoms
from counterscan.data.batches import load_batch
from counterscan.data.files import write_whole
from counterscan.data.manifest import read_manifest
from counterscan.engine import Job, run
from counterscan.explainers.attribution.substrate import substrate
from counterscan.explainers.base import AttributionExplainer
from counterscan.explainers.diffusion_autoencoder import DiffusionAutoencoder
from counterscan.explainers.latent_agent.agent import Agent
from counterscan.jobs import prepare
from counterscan.metrics.twin import LEAST
from counterscan.metrics.validity import attempted
from counterscan.priors.codec import HIGHEST, LOWEST, DiffusionCodec, load_codec
from counterscan.priors.sampling import ddim, invert
from counterscan.priors.schedules import karras
from counterscan.score import score_folder, with_truth

TARGETS = {"abdomen": "tumour=0", "chest": "normal", "fundus": "dr=0", "oct": "normal"}
SHOWN = ("flip_rate", "judge_flip_rate", "reconstruction_flip_rate", "pointing_game", "auprc", "twin_ratio")
SEED = 20261
SURE = DiffusionAutoencoder.sure  # that a finding is gone
CLOSE = 0.1  # of the probability asked for
OCCLUDED = 16  # pixels: the side of occlusion's window
UP, DOWN = 250, 100  # steps of the published round trip


@dataclass(frozen=True)
class Shap(AttributionExplainer):
    """Shapley values of a hierarchy of image parts, by the library `shap` (Lundberg and Lee, 2017; Partition)."""

    queries: int = 4000

    def run(self, classifier: Classifier, images: Tensor, target: Target) -> Tensor:
        import shap

        def missed(pixels: np.ndarray) -> np.ndarray:
            asked = torch.from_numpy(np.moveaxis(pixels, -1, 1).astype(np.float32))
            return -torch.cat([target.score(classifier(part)) for part in asked.split(32)]).detach().numpy()

        maps = []
        for image, fill in zip(images, substrate(images, None), strict=True):
            pixels, hidden = (np.moveaxis(each.expand_as(image).numpy(), 0, -1) for each in (image, fill))
            explainer = shap.PartitionExplainer(missed, shap.maskers.Image(hidden, pixels.shape))
            found = explainer(pixels[None], max_evals=self.queries, batch_size=32, silent=True)
            maps.append(torch.from_numpy(found.values).reshape(pixels.shape).sum(-1)[None].float())
        return torch.stack(maps)


class Bench:
    """One kind of phantom, its models, and the folder that everything is made in."""

    def __init__(self, arguments: argparse.Namespace, url: str):
        self.arguments, self.kind, self.url = arguments, arguments.kind, url
        self.work = Path(arguments.work) / self.kind
        self.names = model_names(arguments)
        self.text = arguments.target or TARGETS[self.kind]

    def archive(self, name: str, n: int, seed: int) -> Path:
        return write_phantoms(self.kind, n, self.work / name, seed=seed, workers=os.cpu_count() or 1)

    def agent(self) -> dict[str, Any]:
        """The agent, in WORK/agent, and how faithful it is."""
        images = self.archive("fit", self.arguments.fit, SEED + 2)
        dataset = self._dataset(images)
        words = {"classifier": self.url, "prior": self.names["diffusion-autoencoder"], "split": "train"}
        print(fit_folder(images, self.work / "agent", dataset=dataset, command=self.arguments.command, **words))
        return dict(Agent.load(self.work / "agent").facts)

    def rows(self) -> dict[str, dict[str, Any]]:
        """The figures of each method on the same images."""
        settings = (f"fitted={self.work / 'agent'}", f"queries={self.arguments.queries}")
        codec = self.names["diffusion-autoencoder"]
        rows = {}
        for name, text in self._only({"removed": self.text, "middling": self._middling()}).items():
            job = self._job(name, text, "diffusion-autoencoder", self.url, codec, settings)
            rows[name] = self._measured(job) | closeness(job)
        few = self.arguments.compared
        for name in self._only({"compared": ""}):
            job = self._job(name, self.text, "diffusion-autoencoder", self.url, codec, settings, few)
            rows[name] = self._measured(job)
        for name, (method, given) in self._only(self._attributions()).items():
            job = self._job(name, self.text, method, self.names["classifier"], "", given, few)
            explainer = Shap(self.arguments.masks) if name == "shap" else job.explainer
            rows[name] = self._measured(replace(job, classifier=BlackBox(job.classifier), explainer=explainer))
        return rows

    def round_trip(self) -> dict[str, dict[str, float]]:
        """Error and time of the codec's way there and back, and of the published one, on the same images."""
        codec = load_codec(self.names["diffusion-autoencoder"])
        cases = read_manifest(self._asked()).cases[: self.arguments.trips]
        images = load_batch(cases, codec.card.shape)
        ways = {f"{codec.steps} and {codec.steps}, second order": codec.round_trip}
        ways[f"{UP} and {DOWN}, DDIM"] = lambda images: published(codec, images)
        rows = {}
        for name, way in ways.items():
            began, cpu = time.time(), time.process_time()
            error = (way(images) - images).square().flatten(1).mean(1).sqrt()
            spent = {"seconds": time.time() - began, "cpu_seconds": time.process_time() - cpu}
            rows[name] = {"rmse": float(error.mean()), "rmse_worst": float(error.max()), "n": len(images)}
            rows[name] |= {key: value / len(images) for key, value in spent.items()}
            print(name, _line(rows[name]), flush=True)
        return rows

    def _only(self, rows: dict[str, Any]) -> dict[str, Any]:
        return {name: row for name, row in rows.items() if name in (self.arguments.rows or rows)}

    def _attributions(self) -> dict[str, tuple[str, tuple[str, ...]]]:
        masks, side = self.arguments.masks, load_classifier(self.names["classifier"]).card.shape[-1]
        stride = next(
            s for s in range(1, OCCLUDED + 1) if (-(-(side - OCCLUDED) // s) + 1) ** 2 <= masks or s == OCCLUDED
        )
        chosen = {
            "rise": ("rise", (f"masks={masks}", "converged=0")),
            "occlusion": ("occlusion", (f"window={OCCLUDED}", f"stride={stride}")),
        }
        if importlib.util.find_spec("shap"):
            chosen["shap"] = ("rise", ())  # the job's explainer is put in its place
        else:
            print("shap is not installed and left out; run: pip install shap", file=sys.stderr)
        return chosen

    def _middling(self) -> str:
        """The first class asked for, at a probability between."""
        name = self.text.partition("=")[0] if "=" in self.text else read_manifest(self._asked()).classes[-1]
        return f"{name}={self.arguments.middling}"

    def _asked(self) -> Path:
        """The phantoms that are explained, and others."""
        return self.archive("asked", max(4 * self.arguments.n, 800), self.arguments.seed)

    def _dataset(self, archive: Path) -> Path | None:
        known = archive / "prognosis.toml"
        return known if "poor_outcome" in self.text else None

    def _job(
        self, name: str, text: str, method: str, classifier: str, prior: str, settings: tuple[str, ...], n: int = 0
    ) -> Job:
        archive = self._asked()
        job = prepare(
            [archive],
            classifier=classifier,
            judge=self.names["judge"],
            target=text,
            method=method,
            prior=prior,
            settings=settings,
            out=self.work / name,
            dataset=self._dataset(archive),
            names={"command": self.arguments.command},
        )
        diseased = [case for case in job.manifest.cases if job.manifest.diseased(case)][: n or self.arguments.n]
        return replace(job, manifest=replace(job.manifest, cases=tuple(diseased)))

    def _measured(self, job: Job) -> dict[str, Any]:
        """What `score` finds, how much of the change or the map lies in the lesion, and what it took an image."""
        if not (job.out / "score.json").exists():
            run(job)
            score_folder(job.out, self.work / "asked")
        scores = json.loads((job.out / "score.json").read_text())["metrics"]
        row = {name: scores[name] for name in SHOWN if name in scores} | inside_outside(job) | costs(job)
        print(job.out.name, _line(row), flush=True)
        return row


def inside_outside(job: Job) -> dict[str, float]:
    """How much more of the change, or of the map, a pixel of the lesion has than one elsewhere.

    The inverse of the mean over images of outside by inside, as `outside_inside_ratio` has it, for any map: each is
    counted in parts of its maximum, of which less than `LEAST` inside the lesion counts as that. A few maps that miss
    the lesion decide it, so the median image's is told as well.
    """
    ratios = []
    for _, explanation, truth in with_truth(job.out, job.manifest, None):
        assert truth.mask is not None, "phantoms have masks"
        heat, mask = explanation.heatmap[0, 0].double(), truth.mask[0, 0]
        heat = heat / heat.max().clamp_min(1e-12)
        ratios.append(float(heat[~mask].mean() / heat[mask].mean().clamp_min(LEAST)))
    mean, median = (1 / max(float(each), 1e-9) for each in (np.mean(ratios), np.median(ratios)))
    return {"inside_outside_ratio": mean, "inside_outside_median": median}


def costs(job: Job) -> dict[str, float]:
    """Queries and seconds an image, means; `queries_most` is the largest number of queries."""
    metas = [explanation.meta for explanation in explanations(job)]
    told = {name: float(np.mean([meta[name] for meta in metas])) for name in ("queries", "seconds")}
    cases = [meta["cases"][0] for meta in metas if "cases" in meta]
    if cases:
        told |= {
            name: float(np.mean([case[name] for case in cases])) for name in ("queries", "evaluations", "round_trip")
        }
        told["queries_most"] = max(case["queries"] for case in cases)
    return told | {"n": len(metas)}


def closeness(job: Job) -> dict[str, float]:
    """How near the black box's answer to what was found is to the one asked for, which is `SURE` that all is gone.

    `close` is the share of all images that were not there already, `close_found` of those that were found.
    """
    near, found = [], []
    for explanation in explanations(job):
        if bool(attempted(explanation)[0]):
            near.append(distance(explanation) <= CLOSE)
            found.append(bool(explanation.found[0]))
    both = [a and b for a, b in zip(near, found, strict=True)]
    return {"close": _mean(both), "close_found": sum(both) / max(sum(found), 1), "attempted": len(near)}


def distance(explanation: Explanation) -> float:
    """How far the answer to the counterfactual of one image lies from the probability asked for: the worst class's."""
    assert explanation.after is not None, "a counterfactual was answered"
    target = explanation.target
    if all(p in (0, 1) for _, p in target.wanted):
        return abs(float(target.score(explanation.after)[0].sigmoid()) - SURE)
    return max(abs(float(explanation.after[0, index].sigmoid()) - p) for index, p in target.wanted)


def explanations(job: Job) -> Iterator[Explanation]:
    """Those in the job's folder, one at a time."""
    for case in job.manifest.cases:
        if (job.out / "cases" / case.name / "explanation.json").exists():
            yield Explanation.load(job.out / "cases" / case.name)


def published(codec: DiffusionCodec, images: Tensor) -> Tensor:
    """Images sent there and back by DDIM, with more steps up than down, and the same network and range of noise."""
    denoiser = codec.denoiser(codec.encode(images))
    up, down = (karras(steps + 1, LOWEST, HIGHEST)[:-1] for steps in (UP, DOWN))
    return ddim(denoiser, invert(denoiser, images, up), down).clamp(-1, 1)


def model_names(arguments: argparse.Namespace) -> dict[str, str]:
    models = arguments.models or arguments.kind
    return {name: f"{models}/{name}" for name in ("classifier", "judge", "diffusion-autoencoder")}


@contextlib.contextmanager
def served(name: str, work: Path) -> Iterator[str]:
    """The address of a service that answers for the classifier `name`: the same one whenever WORK is gone on with."""
    note = work / "port.json"
    port = json.loads(note.read_text()) if note.exists() else free_port()
    write_whole(note, json.dumps(port).encode())
    command = ["counterscan", "classifier", "serve", name, "--port", str(port)]
    program = [sys.executable, "-c", "from counterscan.cli import main; main()", *command[1:]]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            if "http://" not in process.stdout.readline():
                raise SystemExit(f"the service did not start; is port {port} taken? then delete {note}")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        return line.getsockname()[1]


def _mean(values: list[bool]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _line(row: dict[str, Any]) -> str:
    plain = {name: value["value"] if isinstance(value, dict) else value for name, value in row.items()}
    return "  ".join(f"{name} {value:.3g}" for name, value in plain.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=sorted(TARGETS))
    parser.add_argument("--work", default="runs/agent", help="folder for what is drawn, fitted and explained")
    parser.add_argument("--models", default="", help="folder of classifier, judge and diffusion-autoencoder")
    parser.add_argument("--n", type=int, default=200, help="images that are explained")
    parser.add_argument("--compared", type=int, default=40, help="of these, that the attributions explain as well")
    parser.add_argument("--seed", type=int, default=SEED, help="of the phantoms that are explained")
    parser.add_argument("--fit", type=int, default=8000, help="phantoms, of whose training part the agent is made")
    parser.add_argument("--target", default="", help="what is asked for, by default that the disease is gone")
    parser.add_argument("--middling", type=float, default=0.3, help="the probability that is asked for in between")
    parser.add_argument("--queries", type=int, default=12, help="of the black box, an image")
    parser.add_argument("--masks", type=int, default=4000, help="queries of each attribution, an image")
    parser.add_argument("--rows", nargs="*", default=[], help="only these; another run, without it, takes them over")
    parser.add_argument("--trips", type=int, default=16, help="images that are sent there and back, 0 for none")
    parser.add_argument("--json", default="", help="where the figures go, as in results/")
    arguments = parser.parse_args()
    arguments.command = shlex.join(["python", os.path.relpath(sys.argv[0]), *sys.argv[1:]])
    with served(model_names(arguments)["classifier"], Path(arguments.work) / arguments.kind) as url:
        bench = Bench(arguments, url)
        found: dict[str, Any] = {"agent": bench.agent(), "rows": bench.rows()}
        found["round_trip"] = bench.round_trip() if arguments.trips else {}
    found = {"command": arguments.command, "version": metadata.version("counterscan"), "n": arguments.n, **found}
    if arguments.json:
        write_whole(Path(arguments.json), (json.dumps(found, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
