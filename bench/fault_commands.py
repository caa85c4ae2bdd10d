"""The long commands that faults.py disturbs, on 64-pixel chest phantoms with tiny networks made on the spot."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OUT = "out"  # what each command writes, in its working folder
LOADED = (  # what commands load when they are run
    "counterscan.cli",
    "counterscan.data.archive",
    "counterscan.data.manifest",
    "counterscan.engine.running",
    "counterscan.explainers.inpainting",
    "counterscan.jobs",
    "counterscan.report",
    "counterscan.study.analysis",
    "counterscan.study.store",
    "counterscan.synthesis.asking",
    "counterscan.synthesis.writing",
    "counterscan.train.recipes.classifier",
    "counterscan.web.study_server",
    "scipy.stats",
    "uvicorn.lifespan.on",
    "uvicorn.logging",
    "uvicorn.loops.auto",
    "uvicorn.protocols.http.auto",
)


@dataclass(frozen=True)
class Command:
    """What a person types, as `words` after `counterscan`; `again` are the words more with which it goes on."""

    name: str
    words: tuple[str, ...]
    again: tuple[str, ...] = ()

    def run(self, again: bool = False) -> None:
        """Run it here, as the console script does."""
        from counterscan import cli

        sys.argv = ["counterscan", *self.words, *(self.again if again else ())]
        cli.main()


def commands(ground: Path) -> dict[str, Command]:
    """Each command by its name, on what `lay` put into `ground`."""
    data = str(ground / "data")
    networks = {name: str(ground / name) for name in ("classifier", "judge", "editor", "generator")}
    asked = ("--classifier", networks["classifier"], "--target", "effusion=0", "--with", "inpainting")
    asked += ("--prior", networks["editor"], "--batch", "2", "--out", OUT, "--split", "validation")
    scans = ("--generator", networks["generator"], "--classifier", networks["classifier"])
    scans += ("--judge", networks["judge"], "--labels", "effusion=1", "--labels", "effusion=0")
    sizes = [word for one in ("steps=20", "batch=4", "size=32") for word in ("--set", one)]
    return {
        "explain": Command("explain", ("explain", data, *asked, "--judge", networks["judge"])),
        "segment": Command("segment", ("segment", data, *asked, "--threshold", "0.02")),
        "synthesise": Command("synthesise", ("synthesise", *scans, "-n", "72", "--draws", "2", "--out", OUT)),
        "train": Command("train", ("train", "classifier", "--data", data, "--out", OUT, *sizes), ("--resume",)),
        "phantoms": Command("phantoms", ("phantoms", "chest", "--n", "70", "--size", "64", "--out", OUT)),
    }


def load() -> None:
    """Load what commands will need, with one thread, so that a fork of this process is as good as a new one."""
    import importlib

    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    for name in LOADED:
        importlib.import_module(name)


def lay(ground: Path) -> None:
    """Write phantoms and networks into `ground`; to be called in a process of its own, for networks start threads."""
    from counterscan.data.archive import write_phantoms
    from counterscan.data.manifest import read_manifest

    write_phantoms("chest", 48, ground / "data", size=64, seed=7)
    classes = read_manifest(ground / "data").classes
    _networks(ground, classes)


def _networks(ground: Path, classes: Sequence[str]) -> None:
    import torch

    k = len(classes)
    torch.manual_seed(0)
    makes: dict[str, Any] = {"channels": 1, "latents": 16, "widths": [16, 16, 8, 8]}
    makes["critic_quantiles"] = [-1e6 + index for index in range(101)]
    generator = _network("growing-gan", makes)
    looks: dict[str, Any] = {"widths": [8, 16], "depth": 1, "outputs": k}
    classifier, judge = (_network("resnet", looks) for _ in range(2))
    _decide(classifier, generator)
    with torch.no_grad():
        for name, value in judge.named_parameters():  # another one that mostly agrees
            value.copy_(classifier.get_parameter(name) * (1 + 0.01 * torch.randn_like(value)))
    _keep(ground / "generator", (), "generator", 32, "growing-gan", makes, generator)
    _keep(ground / "classifier", classes, "classifier", 32, "resnet", looks, classifier)
    _keep(ground / "judge", classes, "classifier", 32, "resnet", looks, judge)
    edits = {"channels": 1, "outputs": 1, "conditions": k, "widths": [8, 16]}
    _keep(ground / "editor", classes, "editor", 64, "unet", edits, _network("unet", edits))


def _network(name: str, settings: dict[str, Any]) -> Any:
    """A network with random weights, and no layer that is zero."""
    import torch

    from counterscan.nets import build

    module = build(name, settings).eval()
    with torch.no_grad():
        for value in module.parameters():
            if not value.any():
                value.copy_(0.02 * torch.randn_like(value))
    return module


def _decide(classifier: Any, generator: Any) -> None:
    """Let half of the generator's images be above one half, clearly, so that what is asked for is found soon."""
    import torch

    with torch.no_grad():
        logits = classifier(generator.generator(torch.randn(64, 16)).clamp(-1, 1))
        gain = 3 / logits.std(0)
        classifier.head.weight.mul_(gain[:, None])
        classifier.head.bias.sub_(logits.mean(0)).mul_(gain)


def _keep(
    folder: Path, classes: Sequence[str], kind: Any, side: int, network: str, settings: dict[str, Any], module: Any
) -> None:
    from counterscan.core import Card
    from counterscan.weights.store import save_weights

    facts: dict[str, Any] = {"classes": tuple(classes), "network": network, "settings": settings}
    save_weights(folder, module, Card(name=f"tiny/{folder.name}", kind=kind, shape=(1, side, side), **facts))
