"""Batches to restore: healthy images with grafts, holes and invented lesions, and what they were before."""

from typing import NamedTuple

import torch
from torch import Tensor

from counterscan.core import Classifier
from counterscan.nets.precision import reduced
from counterscan.train.corruption import anywhere, blobs, corrupt, erase, graft, where_it_looks

# shares of the healthy images; the others get an invented lesion, or nothing
GRAFTED, ERASED, HARMLESS = 0.4, 0.25, 0.15


class Spoilt(NamedTuple):
    """`images` `(b, c, h, w)`, `where` they are spoilt `(b, 1, h, w)` in [0, 1], and `whole`, as they should be."""

    images: Tensor
    where: Tensor
    whole: Tensor


class Spoiler:
    """Spoils healthy images, with the help of abnormal ones and of where a classifier sees the finding in them."""

    def __init__(self, classifier: Classifier):
        self.classifier = classifier

    def __call__(self, abnormal: Tensor, seen: Tensor, healthy: Tensor, n: int, condition: Tensor) -> Spoilt:
        """`n` of the `healthy` images spoilt; the more there are, the better do grafts fit.

        `seen` `(b, 1, h, w)` is about `abnormal`, `condition` `(k,)` names the findings.
        """
        grafted, erased, harmless = (max(round(share * n), 1) for share in (GRAFTED, ERASED, HARMLESS))
        pick = torch.arange(grafted + erased) % len(abnormal)
        spoilt, where, whole = graft(abnormal[pick], seen[pick], healthy)
        holes = erase(whole[grafted:], where[grafted:] > 0.3)
        # a graft of healthy tissue is to be left alone: else the borders of grafts would be learned, and not disease
        kept, _, _ = graft(healthy[-harmless:], seen[pick[:harmless]], healthy[:-harmless])
        rest = healthy[: n - grafted - erased - harmless]
        invented, where_invented = self._invent(rest, condition)
        return Spoilt(
            torch.cat([spoilt[:grafted], holes, kept, invented]),
            torch.cat([where, torch.zeros_like(where[:harmless]), where_invented]),
            torch.cat([whole, kept, rest]),
        )

    def _invent(self, healthy: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        size = (healthy.shape[2], healthy.shape[3])
        shape = blobs(self._places(healthy, condition), size)
        more = blobs(anywhere(len(healthy)), size) * (torch.rand(len(healthy), 1, 1, 1) < 0.3)
        spoilt = corrupt(corrupt(healthy, shape), more)
        where = torch.maximum(shape, more)
        keep = torch.rand(len(healthy), 1, 1, 1) < 0.3
        return torch.where(keep, healthy, spoilt), torch.where(keep, 0.0, where)

    def _places(self, healthy: Tensor, condition: Tensor) -> Tensor:
        """Where to spoil: one half of the images where the classifier looks for the findings, the other anywhere."""
        half = (len(healthy) + 1) // 2
        images = healthy[:half].detach().requires_grad_(True)
        with reduced(images.device):
            log_odds = self.classifier(images)
        (gradient,) = torch.autograd.grad((log_odds * condition).sum(), images)
        looked_at = where_it_looks(gradient.abs().mean(1, keepdim=True))
        return torch.cat([looked_at, anywhere(len(healthy) - half)])
