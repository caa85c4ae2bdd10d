"""How fast the parts are on this machine, side by side in one run: `make bench`. Compare shares, not absolute times."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from counterscan.classifiers.load import load_classifier
from counterscan.core import Target
from counterscan.data.phantoms.base import KINDS, stream
from counterscan.explainers.build import build_explainer
from counterscan.priors.editor import load_editor
from counterscan.registry import shipped_weights


def rate(count: int, job: Callable[[], object]) -> float:
    """How many of `count` things a second a `job` does, its start left out by one run beforehand."""
    job()
    start = time.perf_counter()
    job()
    return count / (time.perf_counter() - start)


def show(what: str, value: float, unit: str) -> None:
    """One line of the table."""
    print(f"{what:<52} {value:10.1f} {unit}", flush=True)


def phantoms() -> None:
    """Phantoms a second, with their twins, on two processes."""
    for kind in KINDS:
        for size, n in ((128, 512), (512, 64)):
            speed = rate(n, lambda kind=kind, size=size, n=n: list(stream(kind, n, size=size, workers=2)))
            show(f"phantoms {kind} {size} px, two processes", speed, "images/s")


def explainers(kind: str) -> None:
    """Explained images a second, from the shipped weights."""
    classifier, editor = load_classifier(f"{kind}/classifier"), load_editor(f"{kind}/inpainting")
    images = torch.rand(16, *classifier.card.shape) * 2 - 1
    target = Target.parse(f"{classifier.card.classes[0]}=0", classifier.card)
    show(f"{kind}: classifier alone", rate(16, lambda: classifier(images)), "images/s")
    explainer = build_explainer("inpainting", prior=editor)
    show(f"{kind}: inpainting", rate(16, lambda: explainer(classifier, images, target)), "images/s")
    for name, settings in (("grad-cam", {}), ("layer-cam", {}), ("rise", {"masks": 100})):
        explainer = build_explainer(name, **settings)
        speed = rate(16, lambda explainer=explainer: explainer(classifier, images, target))
        show(f"{kind}: {explainer!r}"[:52], speed, "images/s")


def command() -> None:
    """Seconds until the help is there."""
    call = [str(Path(sys.executable).with_name("counterscan")), "--help"]
    show("counterscan --help", 1 / rate(1, lambda: subprocess.run(call, capture_output=True, check=True)), "s")


if __name__ == "__main__":
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    command()
    phantoms()
    for kind in KINDS:
        if {f"{kind}/classifier", f"{kind}/inpainting"} <= set(shipped_weights()):
            explainers(kind)
