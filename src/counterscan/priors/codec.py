"""Codecs: priors that turn an image into a few numbers and back. Ours is a diffusion autoencoder (arXiv 2111.15640).

An image has two codes. The semantic one, a row `(d,)`, says what is seen; the stochastic one, noise of the image's own
size, holds the rest. The first is what an encoder answers; the second is where the probability flow leads when it is
followed from the image up to the highest level of noise. Followed down again it leads back; with another row, to the
image that has the same rest and shows something else.

Changes to the paper: both ways are DPM-Solver++(2M) over the same levels instead of DDIM over different ones, and
nothing is clamped on the way, so that the round trip is more exact in fewer evaluations; the way starts at a level
of `LOWEST` and not at 0, where there is no noise to estimate.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from counterscan.core import Card, Denoiser
from counterscan.errors import CounterscanError
from counterscan.nets.blocks import channels_last
from counterscan.nets.precision import reduced
from counterscan.priors.denoiser import NetworkDenoiser
from counterscan.priors.editor import BATCH
from counterscan.priors.loading import check_shape, load_own
from counterscan.priors.sampling import Noise, dpm_solver
from counterscan.priors.schedules import karras

NETWORK = "diffusion-autoencoder"
STEPS = 20
# levels that the ways start and end at. The image itself counts as of the lowest. The highest is that of training: with
# the 80 that samples without a code start at, the same steps lead back twice as far off
LOWEST, HIGHEST = 0.01, 20.0


class DiffusionCodec:
    """Encodes images `(b, c, h, w)` in [-1, 1] of its card's shape into rows `(b, d)` and noise, and decodes them.

    Rows are counted in deviations from the mean of the images it was trained on, by the float32 `centre` and `scale`
    of its card: a step of length one means the same in each direction. Both ways take `steps`, with one evaluation of
    the denoiser each. All in chunks, in reduced precision inside and float32 outside, and without gradients.
    """

    def __init__(self, module: nn.Module, card: Card, steps: int = STEPS):
        if steps < 1:
            raise CounterscanError(f"{steps} steps of {card.name} cannot be; ask for at least 1")
        self.network = NetworkDenoiser(module, card)
        self.card, self.steps = card, steps
        self.levels = karras(steps + 1, LOWEST, HIGHEST)[:-1]

    @property
    def evaluations(self) -> int:
        """Evaluations of the denoiser for an image on one way: one `invert`, or one `decode`."""
        return self.steps

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """The rows `(b, d)` of images, float32; CounterscanError where the images' shape is not the card's."""
        check_shape(images, self.card)
        return torch.cat([encoded(self.network, chunk) for chunk in images.split(BATCH)])

    def denoiser(self, rows: Tensor) -> Denoiser:
        """The denoiser that is told `rows`, one for each image, for samplers."""
        return Told(self.network, rows)

    def invert(self, images: Tensor, rows: Tensor) -> Tensor:
        """The noise `(b, c, h, w)`, about standard normal, from which `decode` with `rows` leads back to `images`."""
        check_shape(images, self.card)
        return dpm_solver(self.denoiser(rows), images, self.levels.flip(0)) / HIGHEST

    def decode(self, rows: Tensor, noise: Tensor | None = None) -> Tensor:
        """Images `(b, c, h, w)` in [-1, 1]; without noise all get one and the same, so that only `rows` tell them."""
        if noise is None:
            noise = Noise([0])(rows.new_zeros(1, *self.card.shape)).expand(len(rows), *self.card.shape)
        check_shape(noise, self.card)
        return dpm_solver(self.denoiser(rows), HIGHEST * noise, self.levels).clamp(-1, 1)

    def round_trip(self, images: Tensor) -> Tensor:
        """Images decoded from their own codes: what the codec changes before anybody asks for a change."""
        rows = self.encode(images)
        return self.decode(rows, self.invert(images, rows))


def encoded(network: NetworkDenoiser, images: Tensor) -> Tensor:
    """The rows `(b, d)` of images, as the network's encoder answers them in reduced precision."""
    mean, std = torch.tensor(network.card.mean).to(images).view(-1, 1, 1), network.card.std[0]
    encode: Callable[[Tensor], Tensor] = network.module.encode  # type: ignore[assignment]
    with reduced(images.device):
        return encode(channels_last((images - mean) / std))


@dataclass(frozen=True)
class Told:
    """The denoiser that is told `rows` `(b, d)` beside the level, one for each image."""

    network: NetworkDenoiser
    rows: Tensor

    def __call__(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        return self.network(noisy, sigma, self.rows)


def load_codec(name: str | Path, steps: int = STEPS) -> DiffusionCodec:
    """The codec of a shipped name (`chest/diffusion-autoencoder`) or of a folder with a card.

    Raises WeightsError where it is none, where its weights are not finite, and where its card lacks the mean and the
    deviation of its rows.
    """
    module, card = load_own(name, "codec", NETWORK, "centre", "scale")
    return DiffusionCodec(module, card, steps)
