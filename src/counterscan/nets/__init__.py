"""Pure torch networks, one architecture a file; `build` makes one from what a card says."""

import importlib
from collections.abc import Mapping
from typing import Any

from torch import nn

from counterscan.errors import MissingExtra, WeightsError, did_you_mean

OURS = {
    "resnet": "counterscan.nets.resnet:ResNet",
    "vgg": "counterscan.nets.vgg:VGG",
    "unet": "counterscan.nets.unet:UNet",
    "discriminator": "counterscan.nets.discriminator:Discriminator",
    "autoencoder": "counterscan.nets.autoencoder:Autoencoder",
    "denoiser": "counterscan.nets.denoiser:DenoisingUNet",
    "diffusion-autoencoder": "counterscan.nets.semantic_encoder:DiffusionAutoencoder",
    "embedder": "counterscan.nets.embedder:Embedder",
    "text-denoiser": "counterscan.nets.text_denoiser:TextDenoiser",
    "growing-gan": "counterscan.nets.growing_gan:GrowingGAN",
}
MONAI = {"densenet121": "DenseNet121", "resnet18": "resnet18", "resnet50": "resnet50", "basic_unet": "BasicUNet"}
SEGMENTING = (16, 32, 64, 96, 128, 16)  # widths of `basic_unet`: a wide layer at full resolution is slow on CPUs


def build(network: str, settings: Mapping[str, Any]) -> nn.Module:
    """The network called `network`; those of MONAI take `channels` and `outputs` too and need the extra [monai]."""
    if network in OURS:
        module, name = OURS[network].split(":")
        return getattr(importlib.import_module(module), name)(**settings)
    if network in MONAI:
        return _monai(network, **settings)
    raise WeightsError(f"no network is called {network!r}{did_you_mean(network, [*OURS, *MONAI])}")


def _monai(network: str, channels: int = 1, outputs: int = 1) -> nn.Module:
    try:
        from monai.networks import nets
    except ImportError:
        raise MissingExtra("monai", "monai") from None
    if network in ("densenet121", "basic_unet"):
        more = {"features": SEGMENTING} if network == "basic_unet" else {}
        return getattr(nets, MONAI[network])(spatial_dims=2, in_channels=channels, out_channels=outputs, **more)
    return getattr(nets, network)(spatial_dims=2, n_input_channels=channels, num_classes=outputs)
