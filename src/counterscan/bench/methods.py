"""The methods that a suite compares, each with what it is given so that the comparison is fair."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from counterscan.errors import UnknownName, did_you_mean
from counterscan.explainers.build import needs_prior, prior_name
from counterscan.registry import EXPLAINERS

HALF = {name: {"bfloat16": True} for name in ("rise", "score-cam", "occlusion")}  # they ask most, and answer alike
ROUGH: dict[str, dict[str, Any]] = {  # what makes a method cheap, where figures need not be good
    "diffusion-autoencoder": {"queries": 8},
    "diffusion-guidance": {"steps": 3, "guidance": (1.0,)},
    "integrated-gradients": {"steps": 12},
    "latent-optimisation": {"draws": 16, "inversion": 4, "steps": 4},
    "latent-text": {"draws": 1, "steps": 4},
    "occlusion": {"window": 32, "stride": 16},
    "rise": {"masks": 48},
    "smooth-grad": {"samples": 8},
    "sparse": {"steps": 5, "ladder": (1.0, 4.0)},
}


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
    rough = ROUGH if quick else {}
    return (
        Method("inpainting", "inpainting", "inpainting"),
        Method("progressive", "progressive", "progressive"),
        Method("student", "student", "student", published=False),
        Method("supervised", "student", "supervised", published=False),
        Method("rise", "rise", settings={**HALF["rise"], "masks": masks}),
        Method("score-cam", "score-cam", settings=HALF["score-cam"], layers=dear),
        Method("layer-cam", "layer-cam", layers=cams),
        Method("grad-cam", "grad-cam", layers=cams),
        Method("integrated-gradients", "integrated-gradients", settings=rough.get("integrated-gradients", {})),
        Method("gradient", "gradient"),
        Method("smooth-grad", "smooth-grad", settings=rough.get("smooth-grad", {})),
        Method("occlusion", "occlusion", settings=HALF["occlusion"]),
    )


def registered(*, quick: bool = False) -> tuple[Method, ...]:
    """Every explainer there is, with the settings that a user gets; `quick` makes each cheap and rough."""
    return tuple(
        Method(
            name,
            name,
            prior_name(name) if needs_prior(name) else "",
            HALF.get(name, {}) | (ROUGH.get(name, {}) if quick else {}),
        )
        for name in EXPLAINERS
    )
