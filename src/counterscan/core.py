"""The words of the design as types: Card, Target, Explanation, and what a classifier, a prior and an editor promise."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from counterscan.errors import ScanError, TargetError, did_you_mean
from counterscan.kept import as_kept, read_json

TOLERANCE = 0.1  # how near an answer must come to a probability asked for that is neither 0 nor 1


class Card(BaseModel):
    """What a set of weights, or a classifier, expects, promises and comes from.

    `shape` is `(c, *spatial)`; images reach it in [-1, 1], where `window` (low, high, unit) tells what -1 and 1 are in
    physical units. `output` says what the module answers: `binary` (one output for two classes, the second is the
    positive one), `multilabel` (one per class) or `softmax`; `scale` whether as logits or as probabilities. The module
    itself is fed `(image - mean) / std`, and its log-odds are divided by `temperature` (one, or one per class). `parts`
    names for parts of the network the weights that hold them, which are not kept twice, and their sha256.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Literal["classifier", "editor", "segmenter", "denoiser", "codec", "verifier", "generator"] = "classifier"
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    output: Literal["binary", "multilabel", "softmax"] = "multilabel"
    scale: Literal["logits", "probabilities"] = "logits"
    normal: str | None = None  # the class that means healthy, where there is one
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    temperature: tuple[float, ...] = (1.0,)
    window: tuple[float, float, str] | None = None
    modality: str = ""
    network: str = ""
    settings: dict[str, Any] = Field(default_factory=dict)
    mask_rule: dict[str, float] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)
    command: str = ""
    licence: str = ""
    source: str = ""
    parts: dict[str, tuple[str, str]] = Field(default_factory=dict)
    sha256: str = ""

    def index(self, name: str) -> int:
        """The position of class `name`; a mistyped one is answered with the nearest that exists."""
        if name not in self.classes:
            raise TargetError(f"{self.name} has no class {name!r}{did_you_mean(name, self.classes)}")
        return self.classes.index(name)


class Classifier(Protocol):
    """Answers log-odds `(b, k)`, one per class of its card, for images `(b, c, *spatial)` in [-1, 1]."""

    card: Card
    differentiable: bool

    def __call__(self, images: Tensor) -> Tensor: ...


class Denoiser(Protocol):
    """Answers the clean estimate of `noisy = clean + sigma * noise`."""

    def __call__(self, noisy: Tensor, sigma: Tensor) -> Tensor: ...


class Codec(Protocol):
    """Turns images into latents and back; `noise` is what the latents leave open, where there is any."""

    card: Card

    def encode(self, images: Tensor, /) -> Tensor: ...

    def decode(self, latents: Tensor, noise: Tensor | None = None, /) -> Tensor: ...


class Editor(Protocol):
    """Edits images `(b, c, *spatial)` towards a target in one pass."""

    card: Card

    def __call__(self, images: Tensor, target: "Target") -> Tensor: ...


class Segmenter(Protocol):
    """Answers how likely each pixel shows one of the card's classes: `(b, 1, *spatial)` in [0, 1]."""

    card: Card

    def __call__(self, images: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Target:
    """The answer asked for: `wanted` holds (class index, probability); the other classes don't care.

    A probability of 0 or 1 asks for the class to be below or above one half; any other to come within `TOLERANCE`.
    """

    wanted: tuple[tuple[int, float], ...]

    def __post_init__(self) -> None:
        if not self.wanted or any(not 0 <= p <= 1 for _, p in self.wanted):
            raise TargetError(f"a target needs at least one class at a probability in [0, 1], got {self.wanted}")

    @classmethod
    def parse(cls, text: str, card: Card) -> Self:
        """Read `effusion=0,nodule=1`, or `normal`: every finding absent (multi-label) or the normal class."""
        if text.strip() == "normal" and "normal" not in card.classes:
            if card.output != "multilabel":
                if card.normal is None:
                    raise TargetError(f"{card.name} has no normal class; ask for one of {', '.join(card.classes)}")
                return cls(((card.index(card.normal), 1.0),))
            return cls(tuple((index, 0.0) for index in range(len(card.classes))))
        if text.strip() == "normal":
            return cls(((card.index("normal"), 1.0),))
        asked = cls(tuple(_parse_one(part, card) for part in text.split(",") if part.strip()))
        total = sum(p for _, p in asked.wanted)
        if card.output == "softmax" and (total > 1 or (total < 1 and len(asked.wanted) == len(card.classes))):
            raise TargetError(
                f"{card.name} gives each image one of {', '.join(card.classes)}; {text} asks for probabilities "
                f"that sum to {total:g}, not 1: ask for one class"
            )
        return asked

    def describe(self, card: Card) -> str:
        """The text that `parse` reads."""
        return ",".join(f"{card.classes[index]}={p:g}" for index, p in self.wanted)

    def renamed(self, asked: Card, known: Card) -> Self:
        """The same target for another card's order of classes; a class that it lacks is a TargetError."""
        return replace(self, wanted=tuple((known.index(asked.classes[index]), p) for index, p in self.wanted))

    def loss(self, log_odds: Tensor) -> Tensor:
        """Kullback-Leibler divergence `(b,)` from the probabilities asked for, summed over the classes asked for."""
        losses = []
        for index, p in self.wanted:
            entropy = -sum(q * math.log(q) for q in (p, 1 - p) if q > 0)
            wanted = torch.full_like(log_odds[:, index], p)
            losses.append(F.binary_cross_entropy_with_logits(log_odds[:, index], wanted, reduction="none") - entropy)
        return torch.stack(losses).sum(0)

    def score(self, log_odds: Tensor) -> Tensor:
        """One log-odds `(b,)` of having got there: positive when every class asked for is where it should be."""
        scores = []
        for index, p in self.wanted:
            answer = log_odds[:, index]
            low, high = (0.5, 1.0) if p == 1 else (0.0, 0.5) if p == 0 else (p - TOLERANCE, p + TOLERANCE)
            scores += [answer - _logit(low)] if low > 0 else []
            scores += [_logit(high) - answer] if high < 1 else []
        return torch.stack(scores).amin(0)

    def reached(self, log_odds: Tensor) -> Tensor:
        """Whether each image `(b,)` answers as asked."""
        return self.score(log_odds) > 0


def _parse_one(part: str, card: Card) -> tuple[int, float]:
    name, _, value = part.partition("=")
    try:
        return card.index(name.strip()), float(value if value.strip() else 1)
    except ValueError:
        raise TargetError(f"cannot read {part!r} as class=probability, for example {card.classes[0]}=0") from None


def _logit(p: float) -> float:
    return math.log(p / (1 - p))


@dataclass(frozen=True)
class Finding:
    """What a counterfactual method found: `images`, and where it has them its `reconstruction` and the `path` there.

    `deviation` `(b, 1, *spatial)` says how far repeated draws differ there, as a share of the window. `cases` are facts
    about each image in plain words and numbers, such as how strongly it had to be pushed. `heatmap` `(b, 1, *spatial)`
    is where the change lies, of a method that cannot place it to the pixel; without it the change itself is the map.
    """

    images: Tensor
    reconstruction: Tensor | None = None
    path: Tensor | None = None
    cases: Sequence[Mapping[str, Any]] = ()
    deviation: Tensor | None = None
    heatmap: Tensor | None = None


@dataclass(frozen=True)
class Explanation:
    """What an explainer found for a batch, with all that is needed to judge it and to recompute it.

    `images`, `counterfactual` and `reconstruction` are `(b, c, *spatial)` in [-1, 1]; `heatmap` `(b, 1, *spatial)` is
    not negative: for a counterfactual the size of the change as a share of the window, as finely as the method places
    it. `before` and `after` are log-odds `(b, k)`, `found` `(b,)` says whether the counterfactual reached the target.
    `path` `(b, frames, c, *spatial)` is the way there, where it was asked for; `deviation` `(b, 1, *spatial)` how far
    repeated draws of the change differ, as a share of the window. `meta` holds the explainer's repr, seed, queries,
    seconds and version, and per image facts in `meta["cases"]` where there are any.
    """

    images: Tensor
    target: Target
    heatmap: Tensor
    before: Tensor
    found: Tensor
    counterfactual: Tensor | None = None
    reconstruction: Tensor | None = None
    after: Tensor | None = None
    path: Tensor | None = None
    deviation: Tensor | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def reference(self) -> Tensor:
        """What the counterfactual is compared with: the reconstruction where the method goes through a codec."""
        return self.images if self.reconstruction is None else self.reconstruction

    @property
    def difference(self) -> Tensor | None:
        """The signed change `(b, c, *spatial)`, counterfactual minus reference."""
        return None if self.counterfactual is None else self.counterfactual - self.reference

    def select(self, index: slice) -> Self:
        """The explanation of some of the images."""
        parts: dict[str, Any] = {name: value[index] for name, value in self._tensors().items()}
        if "cases" in self.meta:
            parts["meta"] = {**self.meta, "cases": self.meta["cases"][index]}
        return replace(self, **parts)

    def save(self, folder: str | Path) -> Path:
        """Write into `folder`; `explanation.json` comes last, so that a folder without it is not taken for whole."""
        from safetensors.torch import save

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: value.detach().cpu().contiguous() for name, value in self._tensors().items()}
        written = folder / "explanation.safetensors.part"
        written.write_bytes(save(tensors))  # save_file would make it readable to its owner only
        os.replace(written, folder / "explanation.safetensors")
        facts = {"target": self.target.wanted, "meta": dict(self.meta)}
        written = folder / "explanation.json.part"
        written.write_text(json.dumps(facts, indent=1))
        os.replace(written, folder / "explanation.json")
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote. Raises ScanError where it is not finished, or damaged."""
        from safetensors.torch import load_file

        folder = Path(folder)
        if not (folder / "explanation.json").exists():
            raise ScanError(f"{folder} holds no finished explanation; run counterscan explain again, it goes on there")
        facts = read_json(folder / "explanation.json")
        with as_kept(folder / "explanation.json"):
            target = Target(tuple((int(index), float(p)) for index, p in facts["target"]))
            meta = {**facts["meta"]}
        path = folder / "explanation.safetensors"
        with as_kept(path):
            return cls(target=target, meta=meta, **load_file(path))._checked()

    def _checked(self) -> Self:
        """Itself; ValueError where its tensors do not belong together."""
        b, c, *spatial = self.images.shape
        pictures = {"heatmap": 1, "counterfactual": c, "reconstruction": c, "deviation": 1}
        tensors = self._tensors()
        for name, channels in pictures.items():
            if name in tensors and tensors[name].shape != (b, channels, *spatial):
                raise ValueError(f"{name} is not of the size of the images")
        answers = [tensors[name] for name in ("before", "after") if name in tensors]
        if any(one.ndim != 2 or one.shape != self.before.shape or len(one) != b for one in answers):
            raise ValueError("the answers are not those of the images")
        if self.found.shape != (b,) or any(not 0 <= index < self.before.shape[1] for index, _ in self.target.wanted):
            raise ValueError("the target is not one of these answers")
        return self

    def plot(self, index: int = 0, *, classes: tuple[str, ...] = ()):
        """A figure of one case (a PIL image): image, counterfactual, signed difference, probabilities."""
        from counterscan.pictures import case_figure

        return case_figure(self.select(slice(index, index + 1)), classes=classes)

    def _tensors(self) -> dict[str, Tensor]:
        names = (
            "images",
            "heatmap",
            "before",
            "found",
            "counterfactual",
            "reconstruction",
            "after",
            "path",
            "deviation",
        )
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}
