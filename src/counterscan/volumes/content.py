"""What is delivered of an explanation, one slice at a time: from memory, or from the file of a volume's tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from counterscan.core import Explanation
from counterscan.data.fitting import fit_images
from counterscan.data.lazy import Planes, Slices
from counterscan.data.scans import Scan
from counterscan.metrics.validity import attempted
from counterscan.volumes.tensors import some_slices


@dataclass(frozen=True, eq=False)
class Content:
    """The heat `maps` at the scan's size, and the signed `change`, of which slices `[start:end]` are asked for."""

    maps: Planes
    change: Any = None

    @classmethod
    def of(cls, kept: Explanation, scan: Scan) -> Self:
        """Of an explanation in memory."""
        height, width = scan.pixels.shape[2:]
        maps = Planes((len(kept), height, width), lambda index: _sized(kept.heatmap[index], height, width))
        return cls(maps, kept.difference)

    @classmethod
    def of_volume(cls, folder: Path, answers: Explanation, scan: Scan) -> Self:
        """Of a volume whose tensors are in `folder`; `answers` holds no images."""
        height, width = scan.pixels.shape[2:]

        def some(wanted: slice) -> Explanation:
            return delivered(some_slices(folder, answers, wanted))

        def heated(index: int) -> np.ndarray:
            return _sized(some(slice(index, index + 1)).heatmap[0], height, width)

        maps = Planes((len(answers), height, width), heated)
        if answers.counterfactual is None:
            return cls(maps)
        waiting = isinstance(scan.pixels, Slices)  # else the scan is in memory, and so may be what is made of it
        return cls(maps, Change(some) if waiting else some(slice(None)).difference)


@dataclass(frozen=True, eq=False)
class Change:
    """The signed change of a volume, read when it is asked for."""

    some: Callable[[slice], Explanation]

    def __getitem__(self, wanted: slice) -> Tensor | None:
        return self.some(wanted).difference


def delivered(explanation: Explanation) -> Explanation:
    """What is shown and written: images that were at the target already keep their picture and their answer."""
    if explanation.counterfactual is None or explanation.after is None:
        return explanation
    tried = attempted(explanation)

    def chosen(changed: Tensor, kept: Tensor) -> Tensor:
        return torch.where(tried.view(-1, *[1] * (changed.ndim - 1)), changed, kept)

    return replace(
        explanation,
        counterfactual=chosen(explanation.counterfactual, explanation.reference),
        after=chosen(explanation.after, explanation.before),
        heatmap=chosen(explanation.heatmap, torch.zeros_like(explanation.heatmap)),
    )


def _sized(heat: Tensor, height: int, width: int) -> np.ndarray:
    return fit_images(heat[None].float(), (1, height, width))[0, 0].cpu().numpy()
