"""Editors: priors that edit an image towards a target in one pass, whatever the batch."""

from pathlib import Path

import torch
from torch import Tensor, nn

from counterscan.core import Card, Target
from counterscan.errors import TargetError
from counterscan.nets.blocks import channels_last, fast_layout
from counterscan.weights.store import load_weights

BATCH = 16  # larger ones leave the cache and are slower on CPUs


class InpaintingEditor:
    """Removes findings: image + change, clamped, where the change starts at nothing (see `explainers/inpainting.py`).

    `module` maps images and a condition `(b, k)`, 1 for each class to be removed, to the raw change.
    """

    def __init__(self, module: nn.Module, card: Card):
        self.module = fast_layout(module)
        self.card = card

    @torch.no_grad()
    def __call__(self, images: Tensor, target: Target) -> Tensor:
        condition = removal_condition(target, self.card)
        edited = []
        for chunk in images.split(BATCH):
            with torch.autocast(chunk.device.type, torch.bfloat16):
                edited.append(inpaint(self.module, chunk, condition.expand(len(chunk), -1)))
        return torch.cat(edited)


def removal_condition(target: Target, card: Card) -> Tensor:
    """A condition `(1, k)` with 1 for each class that the target wants absent; other targets are refused.

    In a one-of model the wish for the normal class is the wish for every other one to be absent.
    """
    condition = torch.zeros(1, len(card.classes))
    for index, p in target.wanted:
        if p < 0.5 and card.classes[index] != card.normal:
            condition[0, index] = 1
        elif p > 0.5 and card.classes[index] == card.normal:
            condition[0] = 1
            condition[0, index] = 0
        else:
            raise TargetError(
                f"inpainting removes findings, it cannot make {card.classes[index]}={p:g}; ask for finding=0 or normal"
            )
    return condition


def inpaint(module: nn.Module, images: Tensor, condition: Tensor) -> Tensor:
    """Images `(b, c, h, w)` plus the module's change, clamped to [-1, 1]."""
    return (images + module(channels_last(images), condition).float()).clamp(-1, 1)


def load_editor(name: str | Path) -> InpaintingEditor:
    """The editor of a shipped name (`chest/inpainting`) or of a folder with a card."""
    module, card = load_weights(name, kind="editor")
    return InpaintingEditor(module, card)
