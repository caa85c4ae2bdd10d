"""How alike images are: random pairs in either archive, and made images with those that were trained on."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from counterscan import pictures
from counterscan.bench.synthesis.archives import Archive
from counterscan.bench.synthesis.setting import Setting
from counterscan.data.manifest import Case
from counterscan.metrics.diversity import PAIRS, drawn_pairs, pair_likeness
from counterscan.metrics.memorisation import Nearness, nearness, repeats
from counterscan.progress import progress

QUICK_PAIRS, LEAST = 60, 10  # pairs of a class, below which nothing is said
SHOWN, SIDE = 8, 150  # pairs in the picture, and pixels of each
BARS = 32  # of a histogram


def diversity(setting: Setting) -> list[dict[str, Any]]:
    """The mean MS-SSIM of random pairs, made and real, of all images and of each class; lower is more varied."""
    most = QUICK_PAIRS if setting.quick else PAIRS
    kinds = {archive.name: archive.kinds() for archive in (setting.made, setting.real)}
    lines = [_pairs(setting, "all images", dict.fromkeys(kinds), most)]
    for name in kinds[setting.made.name]:
        lines.append(_pairs(setting, name, {whose: found[name] for whose, found in kinds.items()}, most // 2))
    return lines


def _pairs(setting: Setting, name: str, shown: dict[str, np.ndarray | None], most: int) -> dict[str, Any]:
    line: dict[str, Any] = {"name": name}
    for archive in (setting.made, setting.real):
        mask = shown[archive.name]
        chosen = list(range(len(archive))) if mask is None else np.flatnonzero(mask).tolist()
        pairs = drawn_pairs([archive.patients[index] for index in chosen], most, setting.seed)
        if len(pairs) < LEAST:
            line[archive.name] = None
            continue
        with progress(f"pairs, {archive.name}, {name}", len(pairs), "pairs") as done:
            cases = [archive.cases[index] for index in chosen]
            found = pair_likeness(partial(_loaded, setting, cases), pairs, done)
        line[archive.name] = found.to_dict()
    return line


def _loaded(setting: Setting, cases: Sequence[Case], some: Sequence[int]) -> Tensor:
    return setting.images([cases[index] for index in some])


def copies(setting: Setting) -> dict[str, Any]:
    """How near made images come to real ones of the training part, and to one another, beside other real images.

    The `pairs` that are nearest are named, made and real ones; `histogram` holds both distributions.
    """
    trained, other = setting.parts["train"], setting.parts["validation"] + setting.parts["test"]
    made, real = setting.features(setting.made, setting.side), setting.features(setting.real, setting.side)
    whose = setting.real.patients
    found = nearness(made, real[other], real[trained], setting.made.patients, [whose[index] for index in other])
    n = min(len(made), len(real))
    order = np.random.default_rng(setting.seed)
    own, theirs = (np.sort(order.permutation(len(side))[:n]) for side in (made, real))
    among = repeats(made[own], real[theirs])
    return {
        "reference": {**found.to_dict(), "n_reference": len(trained)},
        "repeats": among.to_dict(),
        "histogram": {"reference": _histogram(found), "repeats": _histogram(among)},
        "pairs": {
            "made": _nearest_pairs(found.made, found.nearest, range(len(made)), trained, setting.made, setting.real),
            "real": _nearest_pairs(found.real, found.real_nearest, other, trained, setting.real, setting.real),
        },
    }


def sheet(setting: Setting, found: dict[str, Any]) -> Image.Image:
    """The nearest pairs, nearest first: a made image, what it is nearest to, their difference; beside it real ones."""
    lines = []
    for made, real in zip(found["pairs"]["made"], found["pairs"]["real"], strict=False):
        lines.append([*_pictured(setting, made, setting.made), *_pictured(setting, real, setting.real)])
    titles = ["synthetic", "trained on", "difference", "real, not trained", "trained on", "difference"]
    return pictures.contact_sheet(lines, titles, SIDE)


def _pictured(setting: Setting, pair: dict[str, Any], archive: Archive) -> list[Image.Image]:
    first = setting.images([archive.cases[pair["index"]]])[0]
    second = setting.images([setting.real.cases[pair["nearest"]]])[0]
    return [
        *(pictures.grey(image).convert("RGB") for image in (first, second)),
        pictures.difference_picture(first - second, 0.5),
    ]


def _nearest_pairs(
    distances: np.ndarray, nearest: np.ndarray, of: Sequence[int], to: Sequence[int], first: Archive, second: Archive
) -> list[dict[str, Any]]:
    order = np.argsort(distances, kind="stable")[:SHOWN]
    return [
        {
            "index": int(of[place]),
            "nearest": int(to[nearest[place]]),
            "name": first.cases[of[place]].name,
            "nearest_name": second.cases[to[nearest[place]]].name,
            "distance": float(f"{distances[place]:.4g}"),
        }
        for place in order
    ]


def _histogram(found: Nearness) -> dict[str, Any]:
    top = float(np.quantile(np.concatenate([found.made, found.real]), 0.995)) or 1.0
    bars = {
        name: (np.histogram(np.clip(values, 0, top), BARS, (0, top))[0] / len(values)).round(5).tolist()
        for name, values in (("made", found.made), ("real", found.real))
    }
    return {**bars, "top": top, "limits": found.limits}
