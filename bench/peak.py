"""How much of the processor each explainer and each recipe uses: its share of the speed of a matrix product.

    python bench/peak.py --json results/peak.json [--only rise inpainting] [--skip student]

The peak is that of a product of two matrices of 1024 x 1024, on as many threads and in the precision that networks run
in here (`nets/precision.py`). Explainers explain phantoms with shipped weights, recipes make steps of their own batch
on phantoms, and both do it twice: once with torch counting the operations of convolutions, matrix products and
attention (a multiplication with its addition is two), forward and backward, and once on the clock, in seconds of this
process. What lacks to one is memory, all else that a network does (norms, resampling, optimisers), and Python.
"""

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from counterscan.bench.methods import Method, registered
from counterscan.classifiers.load import load_classifier
from counterscan.core import Target
from counterscan.data.archive import write_phantoms
from counterscan.data.batches import load_batch, open_images
from counterscan.data.files import write_whole
from counterscan.data.manifest import Manifest, read_manifest
from counterscan.errors import CounterscanError, WeightsError
from counterscan.explainers.base import Explainer
from counterscan.explainers.build import build_explainer
from counterscan.explainers.diffusion_autoencoder import DiffusionAutoencoder
from counterscan.jobs import default_prior, default_settings, prepare_recipe
from counterscan.nets.precision import fast_bfloat16
from counterscan.registry import RECIPES
from counterscan.train import loop

SEED, SIDE, KINDS = 20264, 1024, ("chest", "fundus", "oct", "abdomen")
IMAGES, DRAWN, WARM, STEPS = 4, 96, 2, 8  # a lazy penalty comes once in eight steps
SETTINGS: dict[str, list[str]] = {
    "coin": ["classifier=chest/classifier"],
    "inpainting": ["classifier=chest/classifier"],
    "progressive": ["classifier=chest/classifier"],
    "text-diffusion": ["autoencoder=chest/autoencoder"],
}


class Enough(Exception):
    """Enough steps were made."""


class Operations(TorchDispatchMode):
    """Counts by torch's own formulas; its FlopCounterMode also follows modules, which breaks under autograd.grad."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer, kwargs = func(*args, **(kwargs or {})), kwargs or {}
        if formula := flop_registry.get(func._overloadpacket):
            self.count += formula(*args, **kwargs, out_val=answer)
        return answer


@dataclass
class Meter:
    """Operations and processor seconds of the same work, done with `counted` and with `timed`."""

    operations: float = 0.0
    seconds: float = 0.0

    @contextmanager
    def counted(self) -> Iterator[None]:
        with Operations() as operations:
            yield
        self.operations += operations.count

    @contextmanager
    def timed(self) -> Iterator[None]:
        began = time.process_time()
        yield
        self.seconds += time.process_time() - began

    def row(self, pieces: int, top: float) -> dict[str, float]:
        """GFLOP and processor seconds a piece (an image, a step), and the share of `top` GFLOP a second."""
        gflop, seconds = self.operations / 1e9 / pieces, self.seconds / pieces
        return {"gflop": round(gflop, 2), "cpu_seconds": round(seconds, 4), "share": round(gflop / seconds / top, 3)}


def peak() -> float:
    """GFLOP of matrix products in a second of this process: the most of several tries."""
    dtype = torch.bfloat16 if fast_bfloat16("cpu") else torch.float32
    one, rates = torch.randn(SIDE, SIDE).to(dtype), []
    for _ in range(12):
        meter = Meter()
        with meter.timed():
            one @ one
        rates.append(2 * SIDE**3 / 1e9 / meter.seconds)
    return max(rates)


class Bench:
    """The phantoms of each kind, drawn when they are asked for."""

    def __init__(self, work: Path, top: float):
        self.work, self.top = work, top

    def phantoms(self, kind: str) -> Manifest:
        """Phantoms of a kind."""
        folder = self.work / kind
        return read_manifest(folder if folder.exists() else write_phantoms(kind, DRAWN, folder, seed=SEED))

    def explainer(self, method: Method) -> dict[str, Any]:
        """One explainer, on the first kind of phantoms that its models are shipped for."""
        kind, explainer = self._built(method)
        classifier = load_classifier(f"{kind}/classifier")
        manifest, target = self.phantoms(kind), Target.parse("normal", classifier.card)
        shape = explainer.prior.card.shape if hasattr(explainer, "prior") else classifier.card.shape
        explainer = self._taught(explainer, manifest, classifier, shape)
        images = load_batch([case for case in manifest.cases if manifest.diseased(case)][:IMAGES], shape)
        meter = Meter()
        explainer(classifier, images[:1], target)
        with meter.counted():
            explainer(classifier, images, target)
        with meter.timed():
            explainer(classifier, images, target)
        return {"of": kind, **meter.row(len(images), self.top)}

    def _built(self, method: Method) -> tuple[str, Explainer]:
        for kind in KINDS:
            try:
                prior = default_prior(method.explainer, f"{kind}/classifier")
            except WeightsError:
                continue
            settings = method.settings | default_settings(method.explainer, f"{kind}/classifier")
            return kind, build_explainer(method.explainer, prior=prior or None, **settings)
        raise WeightsError("no prior is shipped")

    def _taught(self, explainer: Explainer, manifest: Manifest, classifier: Any, shape: tuple[int, ...]) -> Explainer:
        if not isinstance(explainer, DiffusionAutoencoder):
            return explainer
        learnt = explainer.fit(classifier, open_images(manifest, shape).images, kind="linear")
        learnt.agent.save(self.work / "agent")
        return replace(explainer, fitted=str(self.work / "agent"))

    def recipe(self, name: str) -> dict[str, Any]:
        """The steps of one recipe, after a few that warm it up."""
        recipe, meter = prepare_recipe(name, settings=SETTINGS.get(name, [])), Meter()
        manifest = self.phantoms("chest")
        with tempfile.TemporaryDirectory() as out, stepping(meter):
            try:
                recipe.train(manifest, Path(out), say=lambda line: None)
            except Enough:
                return {"of": "chest", **meter.row(STEPS, self.top)}
        raise CounterscanError(f"{name} stopped before it had made {WARM + 2 * STEPS} steps")


@contextmanager
def stepping(meter: Meter) -> Iterator[None]:
    """Within, a training leaves by Enough once its steps were counted and then timed."""
    plain: Callable[..., dict[str, float]] = loop._Run.advance

    def advance(run: Any, seed: int) -> dict[str, float]:
        if run.step == WARM + 2 * STEPS:
            raise Enough
        if run.step < WARM:
            return plain(run, seed)
        with meter.counted() if run.step < WARM + STEPS else meter.timed():
            return plain(run, seed)

    loop._Run.advance = advance  # type: ignore[method-assign]
    try:
        yield
    finally:
        loop._Run.advance = plain  # type: ignore[method-assign]


def told(kind: str, name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `work` measured, or why it could not be."""
    try:
        row = work()
    except CounterscanError as error:
        row = {"failed": str(error)}
    print(kind, name, row, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], help="names of explainers and recipes")
    parser.add_argument("--skip", nargs="+", default=[], help="those that are left out")
    parser.add_argument("--json", default="", help="where the figures go, as in results/")
    arguments = parser.parse_args()
    top, methods = peak(), {method.name: method for method in registered()}

    def chosen(names: Any) -> list[str]:
        return [name for name in names if name not in arguments.skip and (not arguments.only or name in arguments.only)]

    found = {
        "command": shlex.join(["python", "bench/peak.py", *sys.argv[1:]]),
        "version": metadata.version("counterscan"),
        "torch": torch.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "precision": "bfloat16" if fast_bfloat16("cpu") else "float32",
        "threads": torch.get_num_threads(),
        "peak_gflop_a_second": round(top, 1),
    }
    print(found, flush=True)
    with tempfile.TemporaryDirectory() as work:
        bench = Bench(Path(work), top)
        found["explainers"] = {
            name: told("explainer", name, lambda name=name: bench.explainer(methods[name])) for name in chosen(methods)
        }
        found["recipes"] = {
            name: told("recipe", name, lambda name=name: bench.recipe(name)) for name in chosen(RECIPES)
        }
    if arguments.json:
        write_whole(Path(arguments.json), (json.dumps(found, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
