"""Steering a denoiser: wrappers denoiser -> denoiser, and the gradients that they are made of, as plain functions.

A sampler that gets a steered denoiser is a steered sampler. Formulas and defaults are those of diffusion visual
counterfactuals (Augustin et al., 2022, arXiv 2210.11841; retinal images: Ilanchezian et al., 2025, PLOS Digital Health
4(5) e0000853), carried over to noisy = clean + sigma * noise.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from counterscan.core import Denoiser
from counterscan.errors import CounterscanError
from counterscan.priors.sampling import posterior

Objective = Callable[[Tensor], Tensor]  # clean images (b, c, ...) to what is to grow (b,)
Gradients = Callable[..., tuple[Tensor, tuple[Tensor, ...]]]  # `through_network` or `at_estimate`


def through_network(
    denoiser: Denoiser, noisy: Tensor, sigma: Tensor, objectives: Sequence[Objective]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The clean estimate, and the gradient of each objective of it with respect to `noisy`: one network evaluation.

    One pass back through the network for each objective; none computes gradients of parameters.
    """
    with torch.enable_grad():
        given = noisy.detach().requires_grad_()
        clean = denoiser(given, sigma)
        return clean.detach(), _gradients(clean, given, objectives)


def at_estimate(
    denoiser: Denoiser, noisy: Tensor, sigma: Tensor, objectives: Sequence[Objective]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The same with gradients with respect to the clean estimate: no pass back through the network, and not the same.

    It takes the network's derivative to be a multiple of the identity.
    """
    with torch.no_grad():
        clean = denoiser(noisy, sigma)
    with torch.enable_grad():
        given = clean.detach().requires_grad_()
        return clean, _gradients(given, given, objectives)


def _gradients(clean: Tensor, given: Tensor, objectives: Sequence[Objective]) -> tuple[Tensor, ...]:
    found = []
    for number, objective in enumerate(objectives, 1):
        value = objective(clean).sum()  # images of a batch do not mix
        found.append(torch.autograd.grad(value, given, retain_graph=number < len(objectives))[0])
    return tuple(found)


def unit(gradient: Tensor) -> Tensor:
    """Each image's gradient at length one; one that is nothing stays nothing."""
    # the largest entry first, because squares of very small gradients vanish
    scaled = gradient / _largest(gradient).clamp_min(torch.finfo(gradient.dtype).tiny)
    return scaled / length(scaled).clamp_min(torch.finfo(gradient.dtype).tiny)


def length(images: Tensor) -> Tensor:
    """The l2 norm of each image `(b, 1, ...)`."""
    return images.flatten(1).norm(dim=1).view(-1, *[1] * (images.ndim - 1))


def cone(gradient: Tensor, around: Tensor, degrees: float, *, inside: Literal["axis", "kept"] = "axis") -> Tensor:
    """`gradient` pulled into the cone of `degrees` around `around`: directions `(b, c, ...)` of length one.

    Outside the cone it is the ray of the cone's border that is nearest in angle. Inside it is the axis itself, as
    published code has it, or with `kept` the gradient, as a projection would have it. Both inputs count by direction
    only. Where `gradient` is nothing, or points straight along or against the axis, the axis is the answer; where
    `around` is nothing, so is the answer.
    """
    if not 0 <= degrees < 90:
        raise CounterscanError(f"a cone of {degrees} degrees does not climb; choose at least 0 and less than 90")
    axis, along = unit(around.double()), unit(gradient.double())
    cosine = _dot(along, axis)
    across = along - cosine * axis
    across = across - _dot(across, axis) * axis  # once more: the first difference of near-parallel vectors is rounding
    sine = length(across)
    border = unit(axis + math.tan(math.radians(degrees)) * unit(across))
    outside = torch.atan2(sine, cosine) > math.radians(degrees)
    # a border needs a direction across; nearly parallel vectors have none that means anything
    border = torch.where(sine > 1e-6, border, axis)
    within = along if inside == "kept" else axis
    answer = torch.where(outside, border, torch.where(length(along) > 0, within, axis))
    return torch.where(length(axis) > 0, answer, torch.zeros_like(axis)).to(gradient.dtype)


def distance(images: Tensor, p: float) -> Objective:
    """How far clean estimates are from `images`: the mean of |difference| ** p over each image."""
    return lambda clean: (clean - images).abs().pow(p).flatten(1).mean(1)


@dataclass(frozen=True)
class Term:
    """One direction to be pushed in: the gradient of `objective`, of length one, times `weight` (negative: away).

    With `around` the gradient of `objective` is first pulled into the cone of `degrees` around that of `around`.
    """

    weight: float
    objective: Objective
    around: Objective | None = None
    degrees: float = 30.0


@dataclass(frozen=True, eq=False)
class Guided:
    """The denoiser, its clean estimates moved so that a sampler's next step is pushed by `terms`.

    In the coordinates of DDPM an ancestral step then ends at mean + variance * R * sum of the terms' directions, plus
    noise, where R is the l2 norm of the `mean` (of the retinal paper) or of the estimated `noise` (of DVCE). `levels`
    are those that the sampler takes: the push depends on where the step leads to, and a step to 0 has none.
    """

    denoiser: Denoiser
    terms: Sequence[Term]
    levels: Tensor
    norm: Literal["mean", "noise"] = "mean"
    gradients: Gradients = through_network

    def __call__(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        below = _below(self.levels, sigma)
        if not below.any():
            return self.denoiser(noisy, sigma)
        objectives = [one for term in self.terms for one in (term.objective, term.around) if one is not None]
        clean, found = self.gradients(self.denoiser, noisy, sigma, objectives)
        scale = norm_of_mean(clean, noisy, sigma, below) if self.norm == "mean" else norm_of_noise(clean, noisy, sigma)
        lower = below.view(-1, *[1] * (noisy.ndim - 1))
        # a sampler keeps 1 - lower ** 2 / upper ** 2 of a change of the estimate, and DDPM's images are smaller
        reach = lower.square() / (1 + lower.square()).sqrt()
        return clean + reach * scale * self._direction(found)

    def _direction(self, found: Sequence[Tensor]) -> Tensor:
        rest, total = iter(found), torch.zeros_like(found[0])
        for term in self.terms:
            gradient = next(rest)
            pulled = unit(gradient) if term.around is None else cone(gradient, next(rest), term.degrees)
            total = total + term.weight * pulled
        return total


def norm_of_mean(clean: Tensor, noisy: Tensor, sigma: Tensor, below: Tensor) -> Tensor:
    """The l2 norm `(b, 1, ...)` of the posterior mean at the level `below`, in the coordinates of DDPM."""
    mean, _ = posterior(clean, noisy, sigma, below)
    return length(mean) / (1 + below.view(-1, *[1] * (noisy.ndim - 1)).square()).sqrt()


def norm_of_noise(clean: Tensor, noisy: Tensor, sigma: Tensor) -> Tensor:
    """The l2 norm `(b, 1, ...)` of the estimated noise; about the square root of the number of values."""
    return length(noisy - clean) / sigma.view(-1, *[1] * (noisy.ndim - 1))


@dataclass(frozen=True, eq=False)
class Kept:
    """The denoiser, its estimates replaced by `images` where `mask` `(b, 1, ...)` bool is not: only inside may change.

    A sampler that ends at level 0 gives `images` bit for bit outside the mask.
    """

    denoiser: Denoiser
    images: Tensor
    mask: Tensor

    def __call__(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        return torch.where(self.mask, self.denoiser(noisy, sigma), self.images)


def _below(levels: Tensor, sigma: Tensor) -> Tensor:
    """For each level of `sigma` `(b,)` the next lower one of `levels`, 0 below the lowest."""
    rising = torch.cat([levels.new_zeros(1), levels.sort().values]).to(sigma)
    # a level that was rounded on the way here is still the same level
    return rising[(torch.searchsorted(rising, sigma * (1 - 1e-5)) - 1).clamp_min(0)]


def _largest(images: Tensor) -> Tensor:
    return images.flatten(1).abs().amax(1).view(-1, *[1] * (images.ndim - 1))


def _dot(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).flatten(1).sum(1).view(-1, *[1] * (first.ndim - 1))
