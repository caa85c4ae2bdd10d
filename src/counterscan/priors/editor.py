"""Editors: priors that edit an image towards a target in one pass, whatever the batch."""

from pathlib import Path

import torch
from torch import Tensor, nn

from counterscan.core import Card, Target
from counterscan.errors import TargetError
from counterscan.nets.blocks import channels_last, fast_layout
from counterscan.nets.precision import reduced
from counterscan.weights.store import load_weights

BATCH = 16  # larger ones leave the cache and are slower on CPUs


class ConditionedEditor:
    """Edits as its network was trained to: image + change, clamped, where the change starts at nothing.

    `module` maps images and a condition (see `conditions`) to the raw change. One whose card leaves no room for
    probabilities removes findings (`explainers/inpainting.py`); one with `bins` also makes them, and anything between
    (`explainers/progressive.py`).
    """

    def __init__(self, module: nn.Module, card: Card):
        self.module = fast_layout(module)
        self.card = card
        self.bins = card.settings.get("conditions", len(card.classes)) // len(card.classes) - 1

    @torch.no_grad()
    def __call__(self, images: Tensor, target: Target) -> Tensor:
        condition = condition_of(target, self.card, self.bins)
        edited = []
        for chunk in images.split(BATCH):
            with reduced(chunk.device):
                edited.append(inpaint(self.module, chunk, condition.expand(len(chunk), -1)))
        return torch.cat(edited)


def conditions(asked: Tensor, p: Tensor, bins: int) -> Tensor:
    """What a network is told `(b, k * (1 + bins))`: for each class if it is `asked` for, then a scale of `bins` steps.

    `asked` `(b, k)` holds 0 and 1, `p` `(b, k)` the probabilities asked for: the steps below `p` are 1, those above it
    0, the one that it lies in something between. Without steps the condition is `asked`, and asks for 0.
    """
    steps = (p[..., None] * bins - torch.arange(bins, device=p.device)).clamp(0, 1)
    return (asked[..., None] * torch.cat([torch.ones_like(p)[..., None], steps], 2)).flatten(1)


def condition_of(target: Target, card: Card, bins: int) -> Tensor:
    """The condition `(1, k * (1 + bins))` that `target` means; TargetError for what such an editor cannot do.

    In a one-of model the wish for the normal class is the wish for every other one to be absent.
    """
    asked, wanted = torch.zeros(1, len(card.classes)), torch.zeros(1, len(card.classes))
    for index, p in target.wanted:
        if p > 0.5 and card.classes[index] == card.normal:
            asked[0] = 1
            asked[0, index] = 0
        elif card.classes[index] != card.normal and (bins or p < 0.5):
            asked[0, index], wanted[0, index] = 1, p
        else:
            _refuse(card, index, p, bins)
    return conditions(asked, wanted, bins)


def _refuse(card: Card, index: int, p: float, bins: int) -> None:
    request = f"{card.name} cannot make {card.classes[index]}={p:g}"
    if bins:
        raise TargetError(f"{request}; say which finding is to come instead, as finding=1")
    raise TargetError(
        f"{request}: it removes findings and makes none; ask for finding=0 or normal, "
        "or take an editor that `counterscan train progressive` wrote"
    )


def inpaint(module: nn.Module, images: Tensor, condition: Tensor) -> Tensor:
    """Images `(b, c, h, w)` plus the module's change, clamped to [-1, 1]."""
    return (images + module(channels_last(images), condition).float()).clamp(-1, 1)


def load_editor(name: str | Path) -> ConditionedEditor:
    """The editor of a shipped name (`chest/inpainting`) or of a folder with a card."""
    module, card = load_weights(name, kind="editor")
    return ConditionedEditor(module, card)
