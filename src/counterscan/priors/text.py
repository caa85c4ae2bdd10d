"""Latent diffusion with text as a prior: a codec, a text encoder, and a denoiser of latents that is told a text.

One convention for what we train (recipe `text-diffusion`) and for what others saved (`priors/pipelines.py`). What an
explainer needs is made of wrappers denoiser -> denoiser: `Prompted` closes over a text, `Against` guides from one text
to another (classifier-free guidance, Ho and Salimans, 2022, arXiv 2207.12598).
"""

import difflib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from counterscan.core import Card, Denoiser
from counterscan.errors import CounterscanError
from counterscan.nets.blocks import channels_last, fast_layout
from counterscan.nets.precision import reduced
from counterscan.nets.word_encoder import WordEncoder
from counterscan.priors.autoencoder import AutoencoderCodec
from counterscan.priors.editor import BATCH
from counterscan.priors.loading import load_own
from counterscan.prompts import tokens as words_of

NETWORK = "text-denoiser"


class LatentCodec(Protocol):
    """Turns images `(b, c, H, W)` of its card's shape into latents `(b, *latents)`, deviation about one, and back."""

    @property
    def card(self) -> Card: ...

    @property
    def latents(self) -> tuple[int, ...]: ...

    def encode(self, images: Tensor) -> Tensor: ...

    def decode(self, latents: Tensor) -> Tensor: ...


class TextEncoder(Protocol):
    """Turns sentences into tokens `(b, l, d)` with their mask `(b, l)` bool; more than `window` tokens are refused.

    Words that it does not know say nothing; a warning names them.
    """

    @property
    def window(self) -> int: ...

    def __call__(self, sentences: Sequence[str]) -> tuple[Tensor, Tensor]: ...


class TextPrior(Protocol):
    """A latent diffusion that is told a text."""

    @property
    def card(self) -> Card: ...

    @property
    def codec(self) -> LatentCodec: ...

    @property
    def text(self) -> TextEncoder: ...

    def denoiser(self, tokens: Tensor, mask: Tensor) -> Denoiser: ...


class Words:
    """The text encoder of a small network of ours: it knows the words of its `vocabulary` and says so of others."""

    def __init__(self, encoder: WordEncoder, vocabulary: Sequence[str]):
        self.encoder, self.window = encoder, encoder.window
        self.numbers = {word: number for number, word in enumerate(vocabulary, 1)}

    def unknown(self, sentence: str) -> dict[str, str]:
        """The words of a sentence that are not known, each with the nearest that is ("" where none is near)."""
        strange = [word for word in words_of(sentence) if word not in self.numbers and any(map(str.isalnum, word))]
        return {word: next(iter(difflib.get_close_matches(word, self.numbers, n=1)), "") for word in strange}

    def __call__(self, sentences: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Tokens `(b, l, d)` and mask `(b, l)`; words that are not known are left out, with a warning."""
        warn_of({word: near for sentence in sentences for word, near in self.unknown(sentence).items()})
        rows = [self._numbers(sentence) for sentence in sentences]
        longest = max(len(row) for row in rows)
        numbers = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        mask = torch.arange(longest)[None] < torch.tensor([len(row) for row in rows])[:, None]
        return self.encoder(numbers, mask), mask

    def _numbers(self, sentence: str) -> list[int]:
        known = [self.numbers[word] for word in words_of(sentence) if word in self.numbers]
        if len(known) >= self.window:
            raise CounterscanError(
                f"a prompt of {len(known)} words is longer than the {self.window - 1} that fit; shorten {sentence!r}"
            )
        return [0, *known]


def warn_of(unknown: Mapping[str, str]) -> None:
    """A warning of the words of a prompt that say nothing, each with the nearest known one, or ""."""
    for word, near in unknown.items():
        meant = f"; did you mean {near!r}?" * bool(near)
        warnings.warn(f"{word!r} is not known and says nothing{meant}", stacklevel=3)


@dataclass(frozen=True, eq=False)
class NetworkTextPrior:
    """A latent diffusion that the recipe `text-diffusion` trained."""

    module: nn.Module
    card: Card
    codec: LatentCodec
    text: TextEncoder

    @classmethod
    def of(cls, module: nn.Module, card: Card, text: TextEncoder | None = None) -> "NetworkTextPrior":
        """The prior of a network `nets/text_denoiser.py`; `text` where it has no words of its own."""
        codec = AutoencoderCodec(module.autoencoder, card)  # type: ignore[arg-type]
        own = Words(module.words, card.settings["vocabulary"]) if text is None else text  # type: ignore[arg-type]
        return cls(fast_layout(module), card, codec, own)

    def denoiser(self, tokens: Tensor, mask: Tensor) -> Denoiser:
        """The denoiser of latents that is told a text, one row of tokens for each image."""
        return Prompted(self.module, tokens, mask)


@dataclass(frozen=True, eq=False)
class Prompted:
    """A network of latents closed over `tokens` `(b, l, d)` and `mask`, in reduced precision and in chunks."""

    module: nn.Module
    tokens: Tensor
    mask: Tensor

    def __call__(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        parts = (noisy, sigma.to(noisy).expand(len(noisy)), self.tokens, self.mask)
        return torch.cat([self._one(*chunk) for chunk in zip(*(part.split(BATCH) for part in parts), strict=True)])

    def _one(self, noisy: Tensor, sigma: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        with reduced(noisy.device):
            return self.module(channels_last(noisy), sigma, tokens, mask)


@dataclass(frozen=True, eq=False)
class Against:
    """Classifier-free guidance: away from what is estimated under one text, `weight` times towards another.

    With a weight of 1 it is the estimate under the text asked for, with 0 that under the other; the other is empty, or
    a negative prompt. `both` is the denoiser that is told both texts, the other's rows first.
    """

    both: Denoiser
    weight: float

    def __call__(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        wide = sigma.to(noisy).expand(len(noisy))
        other, asked = self.both(torch.cat([noisy, noisy]), torch.cat([wide, wide])).chunk(2)
        return other + self.weight * (asked - other)


def told(prior: TextPrior, sentences: Sequence[str]) -> Denoiser:
    """The prior's denoiser that is told a sentence for each image."""
    with torch.no_grad():
        return prior.denoiser(*prior.text(sentences))


def guided(prior: TextPrior, asked: Sequence[str], against: Sequence[str], weight: float) -> Denoiser:
    """The prior's denoiser guided from the sentences `against` to those `asked` for, one of each for an image."""
    if weight == 1:
        return told(prior, asked)
    return Against(told(prior, [*against, *asked]), weight)


def load_text_prior(name: str | Path) -> TextPrior:
    """The prior of a shipped name (`chest/text-diffusion`), of a folder of ours, or of a pipeline of diffusers.

    `hub:owner/name` fetches such a pipeline; nothing else is ever fetched. `unsafe:FOLDER` takes a pipeline's weights
    even if they can run code as they are read. Raises WeightsError where it is none of these or not whole, MissingExtra
    where a library is not installed.
    """
    from counterscan.priors.pipelines import open_pipeline

    pipeline = open_pipeline(name)
    if pipeline is not None:
        return pipeline
    module, card = load_own(name, "denoiser", NETWORK)
    return NetworkTextPrior.of(module, card, brought(card))


def brought(card: Card) -> TextEncoder | None:
    """The text encoder from another library that a card names; None where the network has words of its own."""
    folder = card.settings.get("text", "")
    if not folder:
        return None
    from counterscan.priors.pipelines import open_text

    return open_text(Path(folder))
