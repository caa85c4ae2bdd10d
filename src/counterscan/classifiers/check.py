"""What `counterscan classifier check` says of a classifier: a few images are asked, and what looks wrong has a cure."""

import copy
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from counterscan.classifiers.function import FunctionClassifier
from counterscan.classifiers.remembered import Remembered
from counterscan.classifiers.service import Service
from counterscan.classifiers.torch import candidate_layers, find_layer, forward_with_layers, one_line
from counterscan.core import Card, Classifier
from counterscan.data.batches import load_batch
from counterscan.data.fitting import fit_images
from counterscan.data.manifest import Manifest
from counterscan.data.phantoms import KINDS, draw, module
from counterscan.data.window import Window
from counterscan.errors import ClassifierError, CounterscanError, NeedsGradients

IMAGES = 8
SAME = 1e-3  # a difference in log-odds that nobody sees; networks in half precision reach 1e-2
MOVED = 1e-2
FLAT = 1e-4  # answers that differ less from image to image are one answer
TIMED = 1.0  # seconds that each measurement of the speed takes
CHANNELS = {1: "grey", 3: "colour"}


@dataclass(frozen=True)
class Summary:
    """What was seen, in the order in which it is printed, and the `faults`, each with its cure."""

    name: str
    facts: dict[str, str]
    faults: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Is there nothing to mend?"""
        return not self.faults

    def __str__(self) -> str:
        width = max(map(len, self.facts)) + 2
        lines = [f"{key:<{width}}{value}" for key, value in self.facts.items()]
        faults = [f"  {fault}" for fault in self.faults]
        end = ["nothing to mend"] if self.ok else ["to mend:", *faults]
        return "\n".join([self.name, *lines, "", *end])


def check_classifier(classifier: Classifier, manifest: Manifest | None = None) -> Summary:
    """Ask `classifier` some images, of `manifest`, phantoms of its kind, or random ones, and say what it does.

    What it answers wrongly is among the summary's faults; ScanError and ManifestError are for images that cannot be
    read. It costs some fifty answers, and two seconds for the speed.
    """
    images, source = _images(classifier.card, manifest)
    classifier = classifier.classifier if isinstance(classifier, Remembered) else classifier  # no answers of yesterday
    facts, faults = _promised(classifier) | {"asked": source}, list[str]()
    try:
        with torch.no_grad():
            answers = classifier(images)
            for see in (_range, _batch, _repeats, _outside):
                see(classifier, images, answers, facts, faults)
        _gradients(classifier, images, facts, faults)
        facts["speed"] = " ".join(_speed(classifier, images[:size]) for size in (1, IMAGES))
    except CounterscanError as error:
        faults.append(str(error))
    return Summary(classifier.card.name, facts, tuple(faults))


def _promised(classifier: Classifier) -> dict[str, str]:
    """What its card says."""
    card = classifier.card
    channels, *spatial = card.shape
    low, high, unit = card.window or (0, 0, "")
    window = f", where -1 is {low:g} and 1 is {high:g} {unit}" if card.window else ", window not said"
    facts = {
        "kind": type(classifier).__name__,
        "inputs": f"{' x '.join(map(str, spatial))}, {channels} channel{'s' * (channels > 1)}"
        + (f" ({CHANNELS[channels]})" if channels in CHANNELS else "")
        + f", in [-1, 1]{window}",
        "fed as": f"(image - {_list(card.mean)}) / {_list(card.std)}",
        "classes": ", ".join(card.classes) + (f" (healthy: {card.normal})" if card.normal else ""),
        "output": f"{card.output}, {card.scale}",
    }
    if isinstance(classifier, FunctionClassifier):
        facts["kind"] = f"{classifier.function!r}"
        if isinstance(classifier.function, Service) and classifier.function.exposed:
            facts["note"] = "pixels leave this machine unencrypted; use https, or a tunnel"
    if set(card.temperature) != {1.0}:
        facts["temperature"] = _list(card.temperature)
    return facts


def _images(card: Card, manifest: Manifest | None) -> tuple[Tensor, str]:
    """Images `(n, *card.shape)` in [-1, 1] and what they are: of each class of the manifest some, else drawn."""
    if manifest is not None:
        window = Window(*card.window) if card.window else None
        step = max(len(manifest) // IMAGES, 1)
        cases = manifest.cases[::step][:IMAGES]
        return load_batch(cases, card.shape, window), f"{len(cases)} images of {manifest.root}"
    kind = next((kind for kind in KINDS if card.name.startswith(f"{kind}/")), None)
    if kind and len(card.shape) == 3:
        pixels = torch.stack([torch.as_tensor(draw(kind, index).image) for index in range(IMAGES)])
        shown = Window(*module(kind).WINDOW).to_unit(pixels.float())
        return fit_images(shown if shown.ndim == 4 else shown[:, None], card.shape), f"{IMAGES} {kind} phantoms"
    return _random(card.shape), f"{IMAGES} random images (give --data for real ones)"


def _random(shape: tuple[int, ...]) -> Tensor:
    """Clouds with a little noise, each of another brightness: nearer to a scan than noise alone."""
    draws = torch.Generator().manual_seed(0)
    clouds = torch.rand(IMAGES, shape[0], *[5] * (len(shape) - 1), generator=draws) * 2 - 1
    noise = torch.randn(IMAGES, *shape, generator=draws) * 0.05
    level = torch.linspace(-0.5, 0.5, IMAGES).reshape(-1, *[1] * len(shape))
    return (fit_images(clouds, shape) * 0.8 + level + noise).clamp(-1, 1)


def _range(classifier: Classifier, images: Tensor, answers: Tensor, facts: dict, faults: list) -> None:
    facts["answers"] = f"log-odds {float(answers.min()):.3g} to {float(answers.max()):.3g}"
    for name, column in zip(classifier.card.classes, answers.sigmoid().T, strict=True):
        facts[f"  {name}"] = f"probability {float(column.min()):.3f} to {float(column.max()):.3f}"
    spread = answers.amax(0) - answers.amin(0)
    flat = [name for name, width in zip(classifier.card.classes, spread, strict=True) if width < FLAT]
    if len(images) > 1 and flat:
        faults.append(
            f"the same answer for every image ({', '.join(flat)}): are its weights loaded, and do mean and std fit?"
        )
    elif _look_like_probabilities(classifier, images):
        faults.append("what it answers looks like probabilities, and its card says logits: say scale='probabilities'")


def _look_like_probabilities(classifier: Classifier, images: Tensor) -> bool:
    """Whether the adapter, told that it gets probabilities, believes it."""
    if classifier.card.scale == "probabilities":
        return False
    told = copy.copy(classifier)
    told.card = classifier.card.model_copy(update={"scale": "probabilities"})
    try:
        told(images)
    except ClassifierError:
        return False
    return True


def _batch(classifier: Classifier, images: Tensor, answers: Tensor, facts: dict, faults: list) -> None:
    alone = torch.cat([classifier(images[place : place + 1]) for place in range(len(images))])
    apart = float((alone - answers).abs().max())
    facts["batches"] = f"answer {_alike(apart)} single images do"
    if apart > MOVED:
        faults.append(
            f"an image is answered otherwise in a batch (by {apart:.2g} log-odds): does something look at the whole "
            "batch, as batch norm does in training mode?"
        )


def _repeats(classifier: Classifier, images: Tensor, answers: Tensor, facts: dict, faults: list) -> None:
    apart = float((classifier(images) - answers).abs().max())
    facts["repeats"] = f"a second call answers {_alike(apart)} the first"
    if apart > SAME:
        faults.append(f"two calls differ by {apart:.2g} log-odds: turn off dropout and random test-time changes")


def _outside(classifier: Classifier, images: Tensor, answers: Tensor, facts: dict, faults: list) -> None:
    try:
        classifier(images * 2)
        facts["outside"] = "values outside [-1, 1] are answered (explainers refuse such images themselves)"
    except CounterscanError:
        facts["outside"] = "values outside [-1, 1] are refused"


def _gradients(classifier: Classifier, images: Tensor, facts: dict, faults: list) -> None:
    if not classifier.differentiable:
        facts["gradients"] = "none (a black box): use rise, inpainting"
        return
    asked = images[:1].clone().requires_grad_()
    answers = classifier(asked)
    one = answers[:, 0].sum()  # not of all: those of classes that exclude one another cancel out
    found = torch.autograd.grad(one, asked)[0] if one.requires_grad else torch.zeros(1)
    if not (torch.isfinite(found).all() and found.abs().max() > 0):
        faults.append("its gradients are nothing or no numbers: wrap it in BlackBox, and use rise or inpainting")
    facts["gradients"] = "yes"
    facts["layers"] = _layers(classifier)


def _layers(classifier: Classifier) -> str:
    try:
        layers = candidate_layers(classifier)
        default = find_layer(classifier) if layers else ""
        forward_with_layers(classifier, torch.zeros(1, *classifier.card.shape), [default] if layers else [])
    except NeedsGradients:
        layers = ()
    except CounterscanError as error:
        return f"none that can be read: {error}"
    except Exception as error:
        return f"cannot be looked into: {one_line(error)}"
    shown = [f"{one.name} {one.resolution}{' (default)' * (one.name == default)}" for one in layers]
    return ", ".join(shown) or "none with a map: no class activation maps"


@torch.no_grad()
def _speed(classifier: Classifier, images: Tensor) -> str:
    start, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - start < TIMED:
        classifier(images)
        calls += 1
    rate = calls * len(images) / (time.perf_counter() - start)
    return f"{rate:.{0 if rate >= 10 else 1}f} images/s in batches of {len(images)}" + ("," if len(images) == 1 else "")


def _alike(apart: float) -> str:
    return f"as (to {apart:.1g})" if apart else "exactly as"


def _list(values: tuple[float, ...]) -> str:
    text = ", ".join(f"{value:g}" for value in values)
    return text if len(values) == 1 else f"[{text}]"
