"""Denoisers: priors that answer the clean estimate of a noisy image. One convention, and what brings others to it.

`denoiser(noisy, sigma) -> clean` with noisy = clean + sigma * noise: images `(b, c, h, w)`, where clean ones lie in
[-1, 1], and a level `(b,)` for each.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from counterscan.core import Card, Denoiser
from counterscan.nets.blocks import channels_last, fast_layout
from counterscan.nets.precision import reduced
from counterscan.priors.checkpoints import Predicts, check_finite, open_checkpoint
from counterscan.priors.editor import BATCH
from counterscan.priors.schedules import DiscreteSchedule
from counterscan.weights.store import find_weights, load_weights


class DenoiserPrior(Denoiser, Protocol):
    """A denoiser with a card: one that was trained, not one that wraps another."""

    card: Card


class NetworkDenoiser:
    """A network that follows the convention itself, `nets/denoiser.py`, in reduced precision and in chunks of `BATCH`.

    What else the network takes, a row for each image, comes after the level.
    """

    def __init__(self, module: nn.Module, card: Card):
        self.module = fast_layout(module)
        self.card = card

    def __call__(self, noisy: Tensor, sigma: Tensor, *rows: Tensor) -> Tensor:
        return _chunked(self._one, self.card, noisy, sigma, *rows)

    def _one(self, noisy: Tensor, sigma: Tensor, *rows: Tensor) -> Tensor:
        with reduced(noisy.device):
            return self.module(channels_last(noisy), sigma, *rows)


class TimestepDenoiser:
    """A DDPM's network behind the convention: `model(scaled, timesteps)` answers what it `predicts`.

    `model` gets images scaled as its schedule has them and timesteps `(b,)`: the nearest to the level, or with
    `interpolated` floats between two. Channels beyond the image's, a learned variance, are dropped.
    """

    def __init__(
        self,
        model: Callable[[Tensor, Tensor], Tensor],
        card: Card,
        schedule: DiscreteSchedule,
        predicts: Predicts = "noise",
        *,
        interpolated: bool = False,
    ):
        self.model, self.card, self.schedule = model, card, schedule
        self.predicts, self.interpolated = predicts, interpolated

    def __call__(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        return _chunked(self._one, self.card, noisy, sigma)

    def _one(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        level = sigma.view(-1, *[1] * (noisy.ndim - 1))
        scale = (1 + level.square()).rsqrt()  # the square root of alpha_bar
        timesteps = self.schedule.timestep(sigma, interpolated=self.interpolated)
        answer = self.model(noisy * scale, timesteps)[:, : noisy.shape[1]].to(noisy.dtype)
        if self.predicts == "clean":
            return answer
        if self.predicts == "velocity":
            return noisy * scale.square() - answer * level * scale
        return noisy - level * answer


def _chunked(one: Callable[..., Tensor], card: Card, noisy: Tensor, sigma: Tensor, *rows: Tensor) -> Tensor:
    """Ask `one` chunk after chunk, in the intensities that the card's mean and std say its network was trained on."""
    mean, std = torch.tensor(card.mean).to(noisy).view(-1, *[1] * (noisy.ndim - 2)), card.std[0]
    told, level = (noisy - mean) / std, sigma.to(noisy).expand(len(noisy)) / std
    parts = (part.split(BATCH) for part in (told, level, *rows))
    chunks = [one(*chunk) for chunk in zip(*parts, strict=True)]
    return torch.cat(chunks) * std + mean


def load_denoiser(name: str | Path, *, interpolated: bool = False) -> NetworkDenoiser | TimestepDenoiser:
    """The denoiser of a shipped name (`fundus/denoiser`), or of a folder of ours, of diffusers or a MONAI bundle.

    `interpolated` is for the latter two, see TimestepDenoiser. Raises WeightsError where the folder is none of these,
    where its weights are a pickle or not finite, and MissingExtra where the library is not installed.
    """
    folder = find_weights(name)
    checkpoint = open_checkpoint(folder)
    if checkpoint is None:
        module, card = load_weights(folder, kind="denoiser")
        check_finite(module, folder)
        return NetworkDenoiser(module, card)
    parts = (checkpoint.model, checkpoint.card, checkpoint.schedule, checkpoint.predicts)
    return TimestepDenoiser(*parts, interpolated=interpolated)
