"""Train on synthetic, test on real; the reverse; and each on its own kind: what the archive is worth as teaching."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from counterscan.bench.setting import kept
from counterscan.bench.synthesis.archives import Archive
from counterscan.bench.synthesis.setting import Setting
from counterscan.classifiers.load import load_classifier
from counterscan.data.batches import labels_of, load_batch
from counterscan.data.manifest import Manifest
from counterscan.data.window import Window
from counterscan.metrics.delong import delong, delong_mean, delong_ratio, delong_test
from counterscan.registry import RECIPES
from counterscan.train.parts import parts
from counterscan.train.starting import channels_of

QUICK_STEPS = 30
BATCH = 32
MEAN = "mean"


def training(setting: Setting, steps: int | None, say: Callable[[str], None]) -> dict[str, Any]:
    """Areas under the curve of classifiers trained on either archive, on the test part of either.

    Both are trained by the recipe `classifier` with the same settings, `steps` each, on the training part of their
    archive; what was trained is not trained again, and a training that was stopped goes on.
    """
    archives = {archive.name: archive for archive in (setting.made, setting.real)}
    split = {name: parts(one.manifest, fold=_fold(setting, one)) for name, one in archives.items()}
    places = {name: _trained(setting, archive, steps, say) for name, archive in archives.items()}
    found = {on: _tested(setting, places, split[on]["test"], on) for on in ("real", "synthetic")}
    sizes = {name: {part: len(cases) for part, cases in one.items()} for name, one in split.items()}
    facts = {"sizes": sizes, "recipe": repr(_recipe(setting, setting.real, steps))}
    return {**facts, "tested_on": found}


def _trained(setting: Setting, archive: Archive, steps: int | None, say: Callable[[str], None]) -> Path:
    """The folder of the classifier trained on the archive's training part."""
    recipe = _recipe(setting, archive, steps)
    folder = setting.out / "models" / f"{archive.name}-{archive.key}-{recipe.size}-{recipe.steps}"
    if not (folder / "card.json").exists():
        say(f"training on the {archive.name} archive: {folder}")
        recipe.train(archive.manifest, folder, resume=True, say=say, command=setting.command)
    return folder


def _recipe(setting: Setting, archive: Archive, steps: int | None) -> Any:
    told = {"steps": steps or QUICK_STEPS} if steps or setting.quick else {}
    channels = channels_of(setting.real.manifest)
    fold = _fold(setting, archive)
    name = f"trained on {archive.name}"
    return RECIPES["classifier"](
        name=name, size=setting.side, channels=channels, fold=fold, seed=setting.seed % 1000, **told
    )


def _fold(setting: Setting, archive: Archive) -> int:
    return setting.fold if archive is setting.real else 0


def _tested(setting: Setting, places: dict[str, Path], test: Manifest, on: str) -> list[dict[str, Any]]:
    """A line a class, and one of their mean: the areas of both classifiers on the same images, and how they differ."""
    labels, patients = labels_of(test).numpy(), test.patients
    answers = {name: _answers(setting, place, test, on) for name, place in places.items()}
    lines = []
    for k, name in enumerate(test.classes):
        truth, own = labels[:, k], {whose: table[:, k] for whose, table in answers.items()}
        lines.append(_line(name, truth, own, on, patients, delong))
    return [*lines, _line(MEAN, labels, answers, on, patients, delong_mean)]


def _line(name: str, truth: np.ndarray, answers: dict[str, np.ndarray], on: str, patients, measure: Callable) -> dict:
    """The classifier from the other archive is compared with the one from this."""
    other = "synthetic" if on == "real" else "real"
    pair = (answers[other], answers[on], patients)
    return {
        "name": name,
        **{f"from_{whose}": measure(truth, table, patients).to_dict() for whose, table in answers.items()},
        "difference": delong_test(truth, *pair).to_dict(),
        "ratio": delong_ratio(truth, *pair).to_dict(),
    }


def _answers(setting: Setting, place: Path, test: Manifest, on: str) -> np.ndarray:
    """The log-odds `(n, k)` of a classifier on the test images, from the file where they are kept or asked now."""
    classifier = load_classifier(str(place))
    window = Window(*classifier.card.window) if classifier.card.window else None

    def asked() -> list[list[float]]:
        with torch.no_grad():
            return [
                row
                for start in range(0, len(test), BATCH)
                for row in classifier(
                    load_batch(test.cases[start : start + BATCH], classifier.card.shape, window)
                ).tolist()
            ]

    key = [classifier.card.sha256, [str(case.path) for case in test.cases]]
    return np.array(kept(setting.out / "models" / f"{place.name}-on-{on}.json", key, asked))
