"""Where on a frontal chest film a change lies, in a radiologist's words: side, zone and size.

The words mean what `prompts/places.py` says.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from counterscan.prompts import Mention
from counterscan.prompts.places import zone_at

ONE_SIDED = 0.7  # of the change that lies on one side, for it to be said to be there
CORE = 0.28  # of its largest value: what of a change counts as its place, as the phantoms' masks have it


@dataclass(frozen=True)
class Placement:
    """`side` is left, right or both, `zone` upper, middle or lower (empty: no change at all).

    `left` is the share of the change on the patient's left, `height` the middle of its core from 0 (top) to 1, `area`
    the core's share of the film, and `size` the mean absolute change, as a share of the window.
    """

    side: str
    zone: str
    left: float
    height: float
    area: float
    size: float

    def agrees(self, mention: Mention) -> bool:
        """Whether it lies where a sentence says; what that leaves open is not asked for."""
        return self.zone != "" and mention.side in ("", self.side) and mention.zone in ("", self.zone)


def placements(change: Tensor) -> list[Placement]:
    """The places of changes `(b, c, h, w)` in [-2, 2], signed or not."""
    size = change.abs().mean(1, keepdim=True) / 2
    near = F.avg_pool2d(F.avg_pool2d(size, 3, 1, 1), 3, 1, 1)
    return [_placed(whole[0], core[0]) for whole, core in zip(size, near, strict=True)]


def _placed(size: Tensor, near: Tensor) -> Placement:
    highest = float(near.max())
    if highest < 1e-4:
        return Placement("", "", 0.5, 0.5, 0.0, float(size.mean()))
    core = near * (near > CORE * highest)
    left = float(core[:, core.shape[1] // 2 :].sum() / core.sum())
    rows = (torch.arange(len(core), device=core.device) + 0.5) / len(core)
    height = float((core.sum(1) * rows).sum() / core.sum())
    side = "left" if left >= ONE_SIDED else "right" if left <= 1 - ONE_SIDED else "both"
    return Placement(side, zone_at(height), left, height, float((core > 0).float().mean()), float(size.mean()))
