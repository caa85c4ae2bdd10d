"""Segmenters: priors that answer where a finding is, in one pass."""

from pathlib import Path

import torch
from torch import Tensor, nn

from counterscan.core import Card
from counterscan.nets.blocks import channels_last, fast_layout
from counterscan.nets.precision import reduced
from counterscan.priors.editor import BATCH
from counterscan.weights.store import load_weights


class NetworkSegmenter:
    """Answers the probability of each pixel; `module` maps images `(b, c, h, w)` to log-odds `(b, 1, h, w)`."""

    def __init__(self, module: nn.Module, card: Card):
        self.module = fast_layout(module)
        self.card = card

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        with reduced(images.device):
            parts = [self.module(channels_last(chunk)).float().sigmoid() for chunk in images.split(BATCH)]
        return torch.cat(parts)


def load_segmenter(name: str | Path) -> NetworkSegmenter:
    """The segmenter of a folder with a card, such as `counterscan train student` writes."""
    module, card = load_weights(name, kind="segmenter")
    return NetworkSegmenter(module, card)
