"""The methods that a suite compares, each with what it is given so that the comparison is fair."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from counterscan.errors import UnknownName, did_you_mean


@dataclass(frozen=True)
class Method:
    """A method of the table: the explainer behind it, the model it needs, and the settings it is given.

    `layers` is the number of validation images that its layer is chosen on, 0 for a method without layers.
    `published` says whether the paper compared with has a mask rule for maps of its kind.
    """

    name: str
    explainer: str
    prior: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    layers: int = 0
    published: bool = True


def named(every: Sequence[Method], names: Sequence[str]) -> list[Method]:
    """Those of `every` that are called `names`, or all where none is named. UnknownName for others."""
    known = [method.name for method in every]
    for name in names:
        if name not in known:
            raise UnknownName(f"no method is called {name!r}{did_you_mean(name, known)}")
    return [method for method in every if not names or method.name in names]


def segmenting(masks: int, *, quick: bool = False) -> tuple[Method, ...]:
    """The methods that mask a lesion, `masks` those of RISE; `quick` makes each cheap and rough."""
    cams, dear = (16, 4) if quick else (160, 48)  # Score-CAM asks the classifier once a channel
    samples, steps = ({"samples": 8}, {"steps": 12}) if quick else ({}, {})
    return (
        Method("inpainting", "inpainting", "inpainting"),
        Method("progressive", "progressive", "progressive"),
        Method("student", "student", "student", published=False),
        Method("supervised", "student", "supervised", published=False),
        Method("rise", "rise", settings={"masks": masks, "bfloat16": True}),
        Method("score-cam", "score-cam", settings={"bfloat16": True}, layers=dear),
        Method("layer-cam", "layer-cam", layers=cams),
        Method("grad-cam", "grad-cam", layers=cams),
        Method("integrated-gradients", "integrated-gradients", settings=steps),
        Method("gradient", "gradient"),
        Method("smooth-grad", "smooth-grad", settings=samples),
        Method("occlusion", "occlusion", settings={"bfloat16": True}),
    )
