"""Samplers as plain functions of a denoiser and of falling noise levels, in noisy = clean + sigma * noise.

`denoiser(noisy, sigma)` takes images `(b, c, *spatial)` and levels `(b,)`; `levels` `(n + 1,)` fall from the noise in
`noisy` to where sampling stops, mostly 0 (`priors/schedules.py`). Each sampler asks the denoiser once a step (`heun`:
twice), clamps nothing, and keeps no gradient unless it is `differentiable`.
"""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from counterscan.core import Denoiser


class Noise:
    """Standard normal noise, drawn for each image from a generator of its own: no image's depends on the batch."""

    def __init__(self, seeds: Sequence[int]):
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    @classmethod
    def of(cls, images: Tensor, seed: int = 0) -> "Noise":
        """Generators seeded by `seed` and each image's own content, so that neither batch nor order matters."""
        return cls([_seed(image, seed) for image in images])

    def __call__(self, like: Tensor) -> Tensor:
        """The next noise, of the shape of the images `like` `(b, c, *spatial)`."""
        drawn = [torch.randn(one.shape, generator=g) for one, g in zip(like, self.generators, strict=True)]
        return torch.stack(drawn).to(like)


def _seed(image: Tensor, seed: int) -> int:
    content = image.detach().cpu().contiguous().half().numpy().tobytes()
    return int.from_bytes(hashlib.sha256(content + str(seed).encode()).digest()[:7], "big")


def posterior(clean: Tensor, noisy: Tensor, sigma: Tensor, below: Tensor) -> tuple[Tensor, Tensor]:
    """Mean, and variance `(b, 1, ...)`, of the image at the lower level `below`, given its clean estimate.

    It is DDPM's posterior with the smaller variance (beta tilde), where the clean image is not scaled.
    """
    upper, lower = _wide(sigma, noisy).square(), _wide(below, noisy).square()
    kept = lower / upper
    return clean + kept * (noisy - clean), lower * (1 - kept)


def ancestral(
    denoiser: Denoiser, noisy: Tensor, levels: Tensor, noise: Noise, *, differentiable: bool = False
) -> Tensor:
    """DDPM: each step draws from the posterior (Ho et al., 2020); `noise` is what it draws."""
    with torch.set_grad_enabled(differentiable):
        for sigma, below in _steps(levels, noisy):
            mean, variance = posterior(denoiser(noisy, sigma), noisy, sigma, below)
            noisy = mean + variance.sqrt() * noise(noisy) if below[0] else mean
    return noisy


def ddim(denoiser: Denoiser, noisy: Tensor, levels: Tensor, *, differentiable: bool = False) -> Tensor:
    """DDIM without noise (Song et al., 2021): Euler steps of the probability flow."""
    with torch.set_grad_enabled(differentiable):
        for sigma, below in _steps(levels, noisy):
            noisy = _moved(denoiser(noisy, sigma), noisy, sigma, below)
    return noisy


def invert(denoiser: Denoiser, images: Tensor, levels: Tensor, *, differentiable: bool = False) -> Tensor:
    """The noisy images from which `ddim` with the same `levels` leads back to `images`, nearly: DDIM backwards.

    At level 0 there is no noise to estimate; the step from there takes the estimate at the level that it leads to.
    """
    with torch.set_grad_enabled(differentiable):
        for sigma, above in _steps(levels.flip(0), images):
            if sigma[0]:
                images = _moved(denoiser(images, sigma), images, sigma, above)
            else:
                images = 2 * images - denoiser(images, above)
    return images


def heun(denoiser: Denoiser, noisy: Tensor, levels: Tensor, *, differentiable: bool = False) -> Tensor:
    """Heun's second-order steps of the probability flow (Karras et al., 2022, algorithm 1); a step to 0 is Euler's."""
    with torch.set_grad_enabled(differentiable):
        for sigma, below in _steps(levels, noisy):
            clean = denoiser(noisy, sigma)
            reached = _moved(clean, noisy, sigma, below)
            if below[0]:
                slope = (noisy - clean) / _wide(sigma, noisy)
                corrected = (reached - denoiser(reached, below)) / _wide(below, noisy)
                reached = noisy + _wide(below - sigma, noisy) * (slope + corrected) / 2
            noisy = reached
    return noisy


def dpm_solver(denoiser: Denoiser, noisy: Tensor, levels: Tensor, *, differentiable: bool = False) -> Tensor:
    """DPM-Solver++(2M) (Lu et al., 2022, arXiv 2211.01095): second order with one estimate a step.

    The first step, and one to 0, are of first order.
    """
    before: tuple[Tensor, Tensor] | None = None  # the last estimate, and the length of the last step in -ln(sigma)
    with torch.set_grad_enabled(differentiable):
        for sigma, below in _steps(levels, noisy):
            clean = denoiser(noisy, sigma)
            length = _wide(sigma.log() - below.log(), noisy)
            ahead = clean
            if before is not None and below[0]:
                ahead = clean + (clean - before[0]) * length / (2 * before[1])
            noisy, before = _moved(ahead, noisy, sigma, below), (clean, length)
    return noisy


def _moved(clean: Tensor, noisy: Tensor, sigma: Tensor, other: Tensor) -> Tensor:
    """`noisy` at another level, with the same clean estimate and the same noise."""
    return clean + _wide(other / sigma, noisy) * (noisy - clean)


def _steps(levels: Tensor, images: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Each level with the next one, for all images `(b,)`."""
    for one, following in pairwise(levels.to(images)):
        yield one.expand(len(images)), following.expand(len(images))


def _wide(values: Tensor, images: Tensor) -> Tensor:
    """`(b,)` as `(b, 1, ...)`, to be multiplied with images."""
    return values.view(-1, *[1] * (images.ndim - 1))
