"""How varied a set of images is: the likeness of pairs drawn from it (Odena et al., 2017, 1610.09585, section 4.2).

The mean multi-scale structural similarity of pairs rises where a generator draws the same image again. Changes: every
image is in one pair at most, so that the pairs are independent and their mean has an honest interval; a pair is never
of one patient; and the figure stands beside that of real pairs, because how alike scans are depends on their kind.
"""

import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from counterscan.metrics.closeness import multiscale
from counterscan.metrics.intervals import Estimate, bootstrap

PAIRS = 500
BATCH = 16  # pairs that are looked at at once


def drawn_pairs(patients: Sequence[str], most: int = PAIRS, seed: int = 0) -> list[tuple[int, int]]:
    """At most `most` pairs of images of different `patients` `(n,)`, each image in one of them at most.

    An image without a name is of a patient of its own.
    """
    order = list(range(len(patients)))
    random.Random(seed).shuffle(order)
    pairs: list[tuple[int, int]] = []
    waiting = None
    for index in order:
        if waiting is None:
            waiting = index
        elif not patients[waiting] or patients[waiting] != patients[index]:
            pairs.append((waiting, index))
            waiting = None
        if len(pairs) == most:
            break
    return pairs


def pair_likeness(
    load: Callable[[Sequence[int]], Tensor], pairs: Sequence[tuple[int, int]], seen: Callable[[int], None] | None = None
) -> Estimate:
    """The mean MS-SSIM of `pairs` of images, which `load` brings `(b, c, h, w)` in [-1, 1] by their indices.

    A few pairs are held at a time; `seen` is told how many were looked at. nan without a pair, and where a side is
    below the 11 pixels of SSIM's window.
    """
    values: list[Tensor] = []
    for start in range(0, len(pairs), BATCH):
        part = pairs[start : start + BATCH]
        first, second = (load([pair[side] for pair in part]) for side in (0, 1))
        values.append(multiscale(first, second))
        if seen is not None:
            seen(start + len(part))
    return bootstrap(torch.cat(values).numpy() if values else [])
