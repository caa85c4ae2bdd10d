"""Text-to-image pipelines that diffusers saved, as priors: a folder laid out like Stable Diffusion's.

`model_index.json`, `unet/` (UNet2DConditionModel), `vae/` (AutoencoderKL), `text_encoder/` and `tokenizer/` (of
transformers, `pipelines_text.py`) and `scheduler/`. A `card.json` of ours tells what these do not: window, modality,
size, and that images are grey where the autoencoder takes colour. A `text_projection.safetensors` brings the tokens of
a text encoder that was swapped for another to the width that the U-Net takes.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from counterscan.core import Card, Denoiser
from counterscan.errors import MissingExtra, WeightsError
from counterscan.nets.blocks import channels_last, fast_layout
from counterscan.priors.checkpoints import (
    DIFFUSERS,
    Predicts,
    diffusers_schedule,
    one_line,
    predicts_of,
    pretrained,
    read_json,
)
from counterscan.priors.denoiser import TimestepDenoiser
from counterscan.priors.editor import BATCH
from counterscan.priors.loading import check_shape
from counterscan.priors.pipelines_text import PROJECTION, TextModel, open_projection, open_text
from counterscan.priors.schedules import DiscreteSchedule
from counterscan.priors.text import Prompted
from counterscan.weights.store import CARD, load_card

INDEX, HUB, UNSAFE = "model_index.json", "hub:", "unsafe:"
PARTS = {
    "unet": "a UNet2DConditionModel",
    "vae": "an AutoencoderKL",
    "text_encoder": "a text encoder of transformers",
    "tokenizer": "its tokenizer",
    "scheduler": "the scheduler that it was trained with",
}
FILES = {"tokenizer": "", "scheduler": "scheduler_config.json"}  # that a part cannot be without; others: config.json
FETCHED = [INDEX, CARD, PROJECTION, *(f"{part}/*.{end}" for part in PARTS for end in ("safetensors", "json", "txt"))]
MORE = ("class_embed_type", "num_class_embeds", "addition_embed_type")  # what a U-Net may want beside a text
PIXELS = BATCH * 128 * 128  # that the autoencoder gets at once: each pixel costs it about 10 kB


class PipelineCodec:
    """Encodes images `(b, c, H, W)` in [-1, 1] of its card's shape as latents `(b, *latents)`, and decodes them.

    The code is the mean of the posterior, shifted and scaled as the autoencoder's config says. Grey images become
    three equal channels where it takes colour, and the mean over channels comes back. In chunks and in float32: many of
    these autoencoders overflow in half precision, and it is a small part of the time.
    """

    def __init__(self, vae: Any, card: Card):
        self.vae, self.card = fast_layout(vae), card
        factor = reduction(vae.config)
        self.latents = (int(vae.config.latent_channels), card.shape[1] // factor, card.shape[2] // factor)
        self.scale, self.shift = float(vae.config.scaling_factor), float(vae.config.get("shift_factor") or 0)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Latents `(b, *latents)`, float32; CounterscanError where the images' shape is not the card's."""
        check_shape(images, self.card)
        return torch.cat([self._encode(chunk) for chunk in images.float().split(self._at_once)])

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Images `(b, c, H, W)` in [-1, 1], float32."""
        return torch.cat([self._decode(chunk) for chunk in latents.float().split(self._at_once)]).clamp(-1, 1)

    @property
    def _at_once(self) -> int:
        return max(1, PIXELS // (self.card.shape[1] * self.card.shape[2]))

    def _encode(self, images: Tensor) -> Tensor:
        told = (images - self._intensity(self.card.mean, images)) / self._intensity(self.card.std, images)
        colours = told.expand(-1, int(self.vae.config.in_channels), -1, -1)
        return (self.vae.encode(channels_last(colours)).latent_dist.mode() - self.shift) * self.scale

    def _decode(self, latents: Tensor) -> Tensor:
        images = self.vae.decode(channels_last(latents / self.scale + self.shift)).sample
        images = images.mean(1, keepdim=True) if self.card.shape[0] == 1 else images
        return images * self._intensity(self.card.std, images) + self._intensity(self.card.mean, images)

    @staticmethod
    def _intensity(values: tuple[float, ...], images: Tensor) -> Tensor:
        return torch.tensor(values).to(images).view(-1, 1, 1)


class PipelineUNet(nn.Module):
    """A conditional U-Net behind our convention: the clean estimate of latents, told a level, tokens and their mask."""

    def __init__(self, unet: Any, schedule: DiscreteSchedule, predicts: Predicts, card: Card):
        super().__init__()
        self.unet, self.schedule, self.predicts = fast_layout(unet), schedule, predicts
        self.card = card.model_copy(update={"mean": (0.0,), "std": (1.0,)})  # latents have none of the images'

    def forward(self, noisy: Tensor, sigma: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """The clean latents `(b, c, h, w)` of `noisy`, for tokens `(b, l, d)` and mask `(b, l)` bool."""
        seen = None if bool(mask.all()) else mask

        def model(scaled: Tensor, timesteps: Tensor) -> Tensor:
            return self.unet(channels_last(scaled), timesteps, tokens, encoder_attention_mask=seen).sample

        return TimestepDenoiser(model, self.card, self.schedule, self.predicts)(noisy, sigma)


@dataclass(frozen=True, eq=False)
class PipelinePrior:
    """A pipeline as a prior `priors/text.py`: its autoencoder, its text encoder, and its U-Net told a text."""

    card: Card
    codec: PipelineCodec
    text: TextModel
    unet: PipelineUNet

    def denoiser(self, tokens: Tensor, mask: Tensor) -> Denoiser:
        """The denoiser of latents that is told a text, one row of tokens for each image."""
        return Prompted(self.unet, tokens, mask)


def open_pipeline(folder: str | Path, *, fresh: bool = False) -> PipelinePrior | None:
    """The prior in a folder that diffusers saved a text-to-image pipeline in; None where there is no model_index.json.

    Nothing is fetched, unless `folder` is `hub:owner/name`: then that repository of the Hugging Face hub, its
    safetensors, JSON and text files only. `fresh` puts an untrained projection where one is needed and missing, to be
    trained and written with `save_projection`.

    `unsafe:FOLDER` also takes weights that are a pickle (.bin). THAT IS DANGEROUS: a pickle runs code as it is read.
    The libraries read it in a restricted way, which has been got round before; insist only where you trust its author.

    Raises WeightsError where a part is missing, a pickle, not finite, not what it should be or does not fit the others,
    and MissingExtra without diffusers or transformers.
    """
    name, pickles = str(folder).removeprefix(UNSAFE), str(folder).startswith(UNSAFE)
    place = _fetched(name) if name.startswith(HUB) else Path(name)
    if not (place / INDEX).is_file():
        return None
    try:
        from diffusers import AutoencoderKL, UNet2DConditionModel
    except ImportError:
        raise MissingExtra("diffusers", "diffusers") from None
    _whole(place)
    vae, unet = _config(AutoencoderKL, place / "vae"), _config(UNet2DConditionModel, place / "unet")
    wanted = _wanted(unet, vae, place)
    told = read_json(place / "scheduler" / "scheduler_config.json")
    schedule, predicts = diffusers_schedule(told), predicts_of(told)
    card = _card(place, name, vae, unet)
    text = open_text(place / "text_encoder", place / "tokenizer", masked=False, pickles=pickles)
    text.projection = open_projection(place, text.width, wanted, fresh=fresh)
    codec = PipelineCodec(pretrained(AutoencoderKL, place / "vae", DIFFUSERS, pickles=pickles), card)
    network = pretrained(UNet2DConditionModel, place / "unet", DIFFUSERS, pickles=pickles)
    return PipelinePrior(card, codec, text, PipelineUNet(network, schedule, predicts, card))


def _whole(place: Path) -> None:
    """Raise WeightsError where a part is missing."""
    for part, what in PARTS.items():
        path = place / part / FILES.get(part, "config.json")
        if not path.exists():
            raise WeightsError(f"{path} is missing; save {what} in {part}/")


def reduction(vae: Mapping[str, Any]) -> int:
    """How many pixels of an image's side become one of its latents', by the autoencoder's config."""
    return 2 ** (len(vae["block_out_channels"]) - 1)


def _config(kind: Any, place: Path) -> dict[str, Any]:
    """The config of a network of diffusers in `place`, with the library's defaults for what it does not tell."""
    told = read_json(place / "config.json")
    if told.get("_class_name") != kind.__name__:
        raise WeightsError(f"{place} holds a {told.get('_class_name')}; save a {kind.__name__} there")
    return {name: one.default for name, one in inspect.signature(kind.__init__).parameters.items()} | told


def _wanted(unet: Mapping[str, Any], vae: Mapping[str, Any], place: Path) -> int:
    """The width of the tokens that the U-Net takes; WeightsError where it wants other things, or other latents."""
    more = [key for key in MORE if unet[key]] + ["encoder_hid_dim_type"] * (
        unet["encoder_hid_dim_type"] not in (None, "text_proj")
    )
    if more:
        raise WeightsError(f"{place / 'unet'} wants more than a text ({more[0]}); give one that wants nothing else")
    if unet["in_channels"] != vae["latent_channels"] or vae["in_channels"] != vae["out_channels"]:
        raise WeightsError(
            f"in {place} unet takes {unet['in_channels']} channels and vae makes {vae['latent_channels']} of "
            f"{vae['in_channels']} and {vae['out_channels']} of these; give a text-to-image pipeline"
        )
    width = unet["encoder_hid_dim"] or unet["cross_attention_dim"]
    if not isinstance(width, int):
        raise WeightsError(f"{place / 'unet'} takes tokens of widths {width}; give one that takes tokens of one width")
    return width


def _card(place: Path, name: str, vae: Mapping[str, Any], unet: Mapping[str, Any]) -> Card:
    """The card beside the pipeline; else one of the size that the U-Net, or the autoencoder, was made for."""
    channels, factor = vae["in_channels"], reduction(vae)
    if (place / CARD).exists():
        card = load_card(place)
        sides = len(card.shape) == 3 and not any(side % factor for side in card.shape[1:])
        if card.kind != "denoiser" or not sides or card.shape[0] not in (1, channels):
            raise WeightsError(
                f"{place / CARD} is of a {card.kind} of shape {card.shape}; here is a denoiser of {channels} channels "
                f"(or 1, repeated) and sides divisible by {factor}"
            )
        return card
    latents = unet["sample_size"]
    side = [one * factor for one in _pair(latents)] if latents else _pair(vae["sample_size"])
    name = name.removeprefix(HUB) if name.startswith(HUB) else place.resolve().name
    return Card(name=name, kind="denoiser", shape=(channels, *side), classes=(), source="diffusers")


def _pair(side: Any) -> list[int]:
    return list(side) if isinstance(side, list | tuple) else [side, side]


def _fetched(name: str) -> Path:
    """Where the hub's `owner/name` lies after it was fetched, or was before."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MissingExtra("huggingface_hub", "diffusers") from None
    try:
        place = Path(snapshot_download(name.removeprefix(HUB), allow_patterns=FETCHED))
    except Exception as error:  # no network, no such repository, no right to it: each a class of its own
        raise WeightsError(f"{name} could not be fetched: {one_line(error)}") from None
    if not (place / INDEX).is_file():
        raise WeightsError(f"{name} holds no {INDEX}; name a repository that a pipeline of diffusers was saved in")
    return place
