"""How far two sets of images are from each other patch by patch, at every scale, with no network that sees for us.

The sliced Wasserstein distance (Karras et al., 2018, 1710.10196, section 5; Rabin et al., 2011): images are taken apart
into bands of detail (a Laplacian pyramid), patches of 7 x 7 are drawn from each band, brought to a mean of zero and a
deviation of one by the real ones, and compared along random directions, where the distance is that of sorted numbers.
Changes: both sets are scaled by the real set's mean and deviation, so that a wrong contrast is seen; bands are taken
by means of 2 x 2 pixels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from counterscan.errors import CounterscanError

PATCH, PATCHES, DIRECTIONS = 7, 64, 128
SMALLEST = 16  # pixels of the coarsest band


def patch_distances(real: Tensor, fake: Tensor, *, seed: int = 0) -> dict[int, float]:
    """The distance at each side in pixels (16, 32, ... up to the images'), times 1000; lower is nearer.

    `real` and `fake` are `(n, c, s, s)` in [-1, 1], of one shape. Two sets of one distribution come near zero, but not
    to it: compare with what other real images get. Raises CounterscanError where the shapes differ.
    """
    if real.shape != fake.shape:
        raise CounterscanError(f"patches of {tuple(real.shape)} and {tuple(fake.shape)} do not pair; give equal sets")
    generator = torch.Generator().manual_seed(seed)
    pairs = zip(bands(real), bands(fake), strict=True)
    return {one.shape[-1]: 1000 * _distance(one, other, generator) for one, other in pairs}


def bands(images: Tensor) -> Sequence[Tensor]:
    """The bands of detail `(n, c, side, side)`, the finest first; the last one is the small image itself."""
    found = []
    while images.shape[-1] >= 2 * SMALLEST:
        small = F.avg_pool2d(images, 2)
        found.append(images - F.interpolate(small, scale_factor=2, mode="nearest"))
        images = small
    return [*found, images]


def _distance(real: Tensor, fake: Tensor, generator: torch.Generator) -> float:
    places = torch.randint(real.shape[-1] - PATCH + 1, (2, len(real), PATCHES), generator=generator)
    first, second = _patches(real, places), _patches(fake, places)
    mean, deviation = first.mean((0, 2, 3), keepdim=True), first.std((0, 2, 3), keepdim=True) + 1e-8
    first, second = (((one - mean) / deviation).flatten(1) for one in (first, second))
    directions = F.normalize(torch.randn(first.shape[1], DIRECTIONS, generator=generator), dim=0)
    sorted_pair = [(one @ directions).sort(0).values for one in (first, second)]
    return float((sorted_pair[0] - sorted_pair[1]).abs().mean())


def _patches(images: Tensor, places: Tensor) -> Tensor:
    """`PATCHES` of each image `(n * PATCHES, c, 7, 7)`, with their upper left corners at `places` `(2, n, PATCHES)`."""
    steps = torch.arange(PATCH)
    rows, columns = (place.flatten()[:, None] + steps for place in places)
    owners = torch.arange(len(images)).repeat_interleave(places.shape[2])
    found = images.permute(0, 2, 3, 1)[owners[:, None, None], rows[:, :, None], columns[:, None, :]]
    return found.permute(0, 3, 1, 2)
