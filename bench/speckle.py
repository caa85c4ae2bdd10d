"""How near to an OCT phantom's true twin a counterfactual can come that is right in all but its speckle.

    python bench/speckle.py --n 200

Each phantom is drawn twice from its seed, the second time with its speckle and background noise shifted sideways: other
grain of the same strength, and everything else to the bit the same. The second twin is the best that a method can draw
which knows the healthy eye but not the noise; its twin ratio is the floor for such a method.
"""

import argparse
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from unittest.mock import patch

import numpy as np
import torch

from counterscan.data.phantoms import oct_scan
from counterscan.data.phantoms.base import stream
from counterscan.metrics.intervals import bootstrap
from counterscan.metrics.twin import twin_distance

SHIFT = 1 / 3  # of the width: further than any grain reaches


@contextmanager
def _other_grain():
    drawn = oct_scan.device

    def shifted(rng, eye):
        device = drawn(rng, eye)
        columns = round(SHIFT * eye.size)
        return replace(device, **{name: np.roll(getattr(device, name), columns, 1) for name in ("speckle", "floor")})

    with patch.object(oct_scan, "device", shifted):
        yield


def _twins(n: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    sick = (phantom for phantom in stream("oct", 4 * n, seed=seed) if phantom.masks)
    return [(phantom.image, phantom.twin) for phantom in islice(sick, n)]


def _unit(images: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)).float()[:, None] / 127.5 - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=200, help="phantoms with a lesion")
    parser.add_argument("--seed", type=int, default=20261)
    arguments = parser.parse_args()
    known = _twins(arguments.n, arguments.seed)
    with _other_grain():
        other = _twins(arguments.n, arguments.seed)
    images, twins, redrawn = (_unit(list(some)) for some in (*zip(*known, strict=True), [twin for _, twin in other]))
    ratios = twin_distance(redrawn, images, twins).numpy()
    print("twin ratio with other speckle:", bootstrap(ratios, [str(k) for k in range(len(ratios))]))


if __name__ == "__main__":
    main()
