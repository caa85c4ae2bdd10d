"""One method in one direction on one kind of images: explained, measured image by image, and checked on a few.

Everything that takes long is kept in a file when it is done, so that a run that was stopped goes on there.
"""

import platform
from dataclasses import fields, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from counterscan.bench.every.checks import Found, checked
from counterscan.bench.every.lines import ATTRIBUTES, DRAWS, Line
from counterscan.bench.every.places import Place
from counterscan.bench.every.sheets import Sheet
from counterscan.bench.methods import Method
from counterscan.bench.parts import thinned
from counterscan.bench.setting import BATCH, Setting, kept
from counterscan.bench.suite import machine, one_line
from counterscan.classifiers.features import Extractor
from counterscan.data.batches import open_images
from counterscan.errors import CounterscanError, TargetError
from counterscan.explainers.base import AttributionExplainer, CounterfactualExplainer, Explainer
from counterscan.explainers.build import recipe_name
from counterscan.explainers.diffusion_autoencoder import DiffusionAutoencoder
from counterscan.metrics.identity import identity, promise
from counterscan.metrics.intervals import bootstrap
from counterscan.metrics.populations import realism
from counterscan.registry import EXPLAINERS, METRICS, RECIPES
from counterscan.score import with_truth
from counterscan.weights.store import find_weights, load_card

MEASURED = (
    *("already_there", "flip_rate", "judge_flip_rate", "reconstruction_flip_rate", "l1", "ms_ssim", "twin_ratio"),
    *("auprc", "pointing_game", "outside_inside_ratio", "queries", "seconds"),
)
RATES = ("flip_rate", "judge_flip_rate")  # of these an image that a method failed on is a failure
TAUGHT = 500  # images that an agent learns from, or as many as there are


def measure(place: Place, direction: str, method: Method) -> Line:
    """The line of a method; one whose prior is not there, or that raises, is a line that says so."""
    setting = place.settings[direction]
    kind = ATTRIBUTES if issubclass(EXPLAINERS[method.name], AttributionExplainer) else DRAWS
    line = Line(place.name, direction, method.name, kind)
    if method.prior and not setting.models.there(method.prior, setting.part.fold):
        return replace(line, absent=_absent(place.name, method, setting))
    try:
        return replace(line, result=_result(place, setting, method, line.file))
    except TargetError as error:  # it says what it cannot do, which is no fault of the run
        return replace(line, absent=one_line(error))
    except Exception as error:  # a method that raises, whatever it is, has failed; the others go on
        told = one_line(error)
        return replace(line, failed=told if isinstance(error, CounterscanError) else f"{type(error).__name__}: {told}")


def _absent(name: str, method: Method, setting: Setting) -> str:
    """That there is no prior, and how to get one."""
    recipe = recipe_name(method.prior)
    needs = any(item.name == "classifier" for item in fields(RECIPES[recipe]))
    classifier = f" --classifier {setting.models.place('classifier', setting.part.fold)}" if needs else ""
    return (
        f"no prior for this kind: counterscan train {recipe} --data ARCHIVE{classifier} --out DIR, "
        f"then --model {name}/{method.prior}=DIR (docs/methods/{method.name}.md)"
    )


def _result(place: Place, setting: Setting, method: Method, sheet: str) -> dict[str, Any]:
    """What is measured of a method, in the form of `score --json`."""
    if not len(setting.part.test):
        raise CounterscanError(f"{setting.part.test.root} has no image to ask this of; measure more images")
    explainer = _taught(setting, _built(setting, method), place.quick)
    out, weights = setting.out / method.name, _weights(setting, explainer)
    folder = setting.explain(explainer, setting.part.test, out / "explained")
    verifier = place.verifier.card.sha256 if place.verifier else ""
    key = [setting.key(explainer), weights, verifier]
    picture = setting.out.parents[1] / "sheets" / f"{sheet}.webp"
    columns = kept(out / "measured.json", key, partial(_columns, place, setting, explainer, folder, picture))
    done = [case for case in setting.part.test.cases if (folder / "cases" / case.name / "explanation.json").exists()]
    few = partial(checked, setting, explainer, done[: 1 if place.quick else BATCH], place.quick)
    checks: Found = kept(out / "checks.json", [key, place.quick], few)
    far = _realism(setting, explainer, folder, [key, "sets"])
    patients = columns.pop("patient")
    found = {name: bootstrap(values, patients) for name, values in columns.items()}
    metrics = {name: figure.to_dict() for name, figure in found.items() if figure.n} | checks["metrics"]
    return {
        "command": setting.command,
        "version": metadata.version("counterscan"),
        "explainer": repr(explainer),
        "classifier": setting.models.place("classifier", setting.part.fold),
        "target": setting.target.describe(setting.classifier.card),
        "n": len(patients),
        "metrics": dict(sorted((metrics | far.pop("metrics", {})).items())),
        "black_box": checks["black_box"],
        "sanity": checks["sanity"],
        "notes": [*_lost(len(setting.part.test) - len(done)), *checks["notes"], *far.pop("notes", [])],
        **far,
        **({"verifier": promise(place.verifier.card)} if place.verifier else {}),
        "images": place.title,
        "quick": place.quick,
        "seed": setting.seed,
        "weights": weights,
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "machine": machine(),
    }


def _built(setting: Setting, method: Method) -> Explainer:
    """The method's explainer, with the robust classifier beside the one explained where it takes one."""
    steers = any(item.name == "robust" for item in fields(EXPLAINERS[method.name]))
    fold = setting.part.fold
    beside = {"robust": setting.models.place("robust", fold)} if steers and setting.models.there("robust", fold) else {}
    return setting.explainer(method, **beside)


def _taught(setting: Setting, explainer: Explainer, quick: bool) -> Explainer:
    """One that first learns what the classifier says of other images, with what it learnt, which is kept."""
    if not isinstance(explainer, DiffusionAutoencoder):
        return explainer
    codec, asked = explainer.codec.card, setting.classifier.card
    some = thinned(setting.part.validation, TAUGHT)
    folder = setting.out.parent / "agents" / f"{codec.sha256[:12]}-{asked.sha256[:12]}-{len(some)}"
    if not (folder / "agent.json").exists():
        images = open_images(some, setting.shape(explainer), setting.window, setting.out.parent / "decoded")
        learnt = explainer.fit(
            setting.classifier, images.images, kind="linear" if quick else "auto", patients=images.patients
        )
        learnt.agent.save(folder)
    return replace(explainer, fitted=str(folder))


def _weights(setting: Setting, explainer: Explainer) -> dict[str, str]:
    """The hash of all weights that took part, by what they are."""
    cards = {"classifier": setting.classifier.card}
    cards |= {"judge": setting.judge.card} if setting.judge else {}
    if priors := [value.card for value in vars(explainer).values() if hasattr(value, "card")]:
        cards["prior"] = priors[0]
    if robust := getattr(explainer, "robust", ""):
        cards["robust"] = load_card(find_weights(robust))
    return {name: card.sha256 for name, card in cards.items()}


def _columns(place: Place, setting: Setting, explainer: Explainer, folder: Path, picture: Path) -> dict[str, list[Any]]:
    """A value an image for each metric, and whose it is; draws the `picture` of the first of them."""
    columns: dict[str, list[Any]] = {"patient": []}
    sheet, done = Sheet(), set()
    for name, explanation, truth in with_truth(folder, setting.part.test, None):
        found = {
            metric: METRICS[metric](explanation, classifier=setting.classifier, judge=setting.judge, truth=truth)
            for metric in MEASURED
        }
        if place.verifier is not None:
            found |= identity(explanation, place.verifier, truth)
        for metric, values in found.items():
            columns.setdefault(metric, []).extend(values.tolist())
        columns["patient"] += truth.patients
        sheet.add(explanation, truth)
        done.add(name)
    for case in setting.part.test.cases if isinstance(explainer, CounterfactualExplainer) else ():
        if case.name not in done:
            columns["patient"].append(case.patient or case.name)
            for metric in columns.keys() - {"patient"}:
                columns[metric].append(0.0 if metric in RATES else float("nan"))
    sheet.save(picture)
    return columns


def _lost(lost: int) -> list[str]:
    """A note on the images that the method raised on, if there are any."""
    return [f"failed on {lost} images (failed.csv), which count as not flipped"] if lost else []


def _realism(setting: Setting, explainer: Explainer, folder: Path, key: list[Any]) -> dict[str, Any]:
    """How far the counterfactuals are, as a set, from real images that show what was asked for, and the floor."""
    if not isinstance(explainer, CounterfactualExplainer) or setting.judge is None:
        return {}
    compared = partial(realism, folder, setting.part.validation, Extractor.of(setting.judge), seed=setting.seed)
    try:
        found = kept(folder.with_name("realism.json"), key, lambda: compared().to_dict())
    except CounterscanError as error:
        return {"notes": [f"realism: {one_line(error)}"]}
    figure = dict(found["metrics"]["kernel_distance"])
    floor = figure.pop("floor")
    return {"metrics": {"kernel_distance": figure} | ({"kernel_floor": floor} if floor else {}), "realism": found}
