"""A latent diffusion that is told a text: the denoiser of latents, its word encoder, and the autoencoder under both.

Rombach et al., 2022, arXiv 2112.10752. The autoencoder stays as it was trained, and so does a text encoder that is
brought along; then there is no word encoder in here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from counterscan.nets.autoencoder import Autoencoder
from counterscan.nets.blocks import freeze
from counterscan.nets.denoiser import DenoisingUNet
from counterscan.nets.word_encoder import WordEncoder


class TextDenoiser(nn.Module):
    """Denoises latents `(b, c, h, w)` told tokens `(b, l, tokens)` with their mask.

    `vocabulary` are the words of the word encoder, whose numbers are their places in it plus one; 0 begins each
    sentence. Without any, tokens come from elsewhere. `autoencoder` are the settings of `nets/autoencoder.py`. `h` and
    `w` must be divisible by `2 ** (len(widths) - 1)`; places attend to words in all levels but the first.
    """

    def __init__(
        self,
        autoencoder: Mapping[str, Any],
        vocabulary: Sequence[str] = (),
        widths: Sequence[int] = (64, 96, 128),
        tokens: int = 96,
        predicts: str = "velocity",
    ):
        super().__init__()
        self.autoencoder = freeze(Autoencoder(**autoencoder))
        self.words = WordEncoder(len(vocabulary) + 1, tokens) if vocabulary else None
        self.denoiser = DenoisingUNet(
            self.autoencoder.latents, 1.0, widths, 1, tokens=tokens, attended=len(widths) - 1, predicts=predicts
        )

    def forward(self, noisy: Tensor, sigma: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """The clean estimate of latents, see `DenoisingUNet`."""
        return self.denoiser(noisy, sigma, None, (tokens, mask))

    def train(self, mode: bool = True) -> "TextDenoiser":
        """Set the mode of all but the autoencoder, which stays as it was trained."""
        super().train(mode)
        self.autoencoder.eval()
        return self
