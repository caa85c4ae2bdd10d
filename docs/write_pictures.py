"""Write the pictures of README and docs from phantoms and the shipped weights: `python docs/write_pictures.py`."""

from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from counterscan.classifiers.load import load_classifier
from counterscan.core import Target
from counterscan.data.phantoms.base import KINDS, Phantom, module, stream
from counterscan.data.window import Window
from counterscan.explainers.build import build_explainer
from counterscan.metrics.masks import MaskRule
from counterscan.pictures import TRUE, case_figure, contact_sheet, grey, tint
from counterscan.priors.editor import load_editor
from counterscan.registry import shipped_weights

PICTURES = Path(__file__).with_name("pictures")
GUIDED = {"fundus": {"dr=0": True, "dr=1": False}, "oct": {"normal": True, "dme": False}}  # by whether it is diseased
SHOWN = {"chest": "effusion", "abdomen": "tumour"}  # the finding of the strip


def unit(kind: str, pixels: np.ndarray) -> Tensor:
    """A phantom's pixels `(h, w)` or `(3, h, w)` as an image `(channels, h, w)` in [-1, 1]."""
    return torch.from_numpy(Window(*module(kind).WINDOW).to_unit(pixels)).float().view(-1, *pixels.shape[-2:])


def sheet(kind: str, size: int = 256) -> None:
    """Eight phantoms with disease, what was wrong with them tinted, and their healthy twins."""
    diseased = list(islice((p for p in stream(kind, 100, seed=11, size=size) if p.mask.any()), 8))
    rows: list[list] = [[], [], []]
    for phantom in diseased:
        image = grey(unit(kind, phantom.image)).convert("RGBA")
        rows[0].append(image.convert("RGB"))
        image.alpha_composite(tint(torch.from_numpy(phantom.mask)[None], image.size, TRUE))
        rows[1].append(image.convert("RGB"))
        rows[2].append(grey(unit(kind, phantom.twin)))
    contact_sheet(rows, side=180).save(PICTURES / f"{kind}.png", optimize=True)


def strip(kind: str) -> None:
    """The figure of one explanation: image, counterfactual, signed difference, mask and truth."""
    classifier, editor = load_classifier(f"{kind}/classifier"), load_editor(f"{kind}/inpainting")
    phantom = one_with(SHOWN[kind], kind)
    target = Target.parse(f"{SHOWN[kind]}=0", classifier.card)
    explainer = build_explainer("inpainting", prior=editor)
    explanation = explainer(classifier, unit(kind, phantom.image)[None], target)
    mask = MaskRule.from_dict(editor.card.mask_rule)(explanation.heatmap)
    truth = torch.from_numpy(phantom.mask)[None, None]
    figure = case_figure(explanation, classifier.card.classes, mask=mask, truth=truth)
    figure.save(PICTURES / ("strip.png" if kind == "chest" else f"strip-{kind}.png"), optimize=True)


def guided(kind: str, count: int = 6) -> None:
    """What diffusion guidance makes: diseased images, counterfactuals, true twins; healthy images, counterfactuals."""
    rows = []
    for text, sick in GUIDED[kind].items():
        drawn = list(islice((p for p in stream(kind, 100, seed=13) if p.mask.any() == sick), count))
        images, twins = (
            torch.stack([unit(kind, one) for one in column]) for column in zip(*map(_pair, drawn), strict=True)
        )
        classifier = load_classifier(f"{kind}/classifier")
        explainer = build_explainer("diffusion-guidance", prior=f"{kind}/denoiser", robust=f"{kind}/robust")
        made = explainer(classifier, images, Target.parse(text, classifier.card)).counterfactual
        rows += [images, made, twins] if sick else [images, made]
    contact_sheet([[grey(image) for image in row] for row in rows], side=180).save(
        PICTURES / f"guidance-{kind}.png", optimize=True
    )


def _pair(phantom: Phantom) -> tuple[np.ndarray, np.ndarray]:
    return phantom.image, phantom.twin


def one_with(finding: str, kind: str) -> Phantom:
    """The first phantom of a fresh series that has this finding and no other, of at least moderate severity."""
    for phantom in stream(kind, 500, seed=12, findings=(finding,)):
        if phantom.labels[finding] and phantom.facts[f"{finding}_severity"] != "small":
            return phantom
    raise SystemExit(f"no {kind} phantom with {finding}")


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    for kind in KINDS:
        sheet(kind)
        if {f"{kind}/classifier", f"{kind}/inpainting"} <= set(shipped_weights()):
            strip(kind)
        if {f"{kind}/denoiser", f"{kind}/robust"} <= set(shipped_weights()):
            guided(kind)
