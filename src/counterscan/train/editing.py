"""What the recipes of editors share: findings, images, card, networks, and the adversarial step."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterscan.classifiers.load import load_classifier
from counterscan.classifiers.torch import torch_classifier
from counterscan.core import Card, Classifier
from counterscan.data.batches import Images, open_images
from counterscan.data.manifest import Manifest
from counterscan.data.window import Window
from counterscan.errors import CounterscanError, ManifestError
from counterscan.nets import build
from counterscan.nets.blocks import channels_last, fast_layout
from counterscan.nets.precision import reduced
from counterscan.train.descent import learning, step_down
from counterscan.train.parts import parts
from counterscan.train.starting import start_from


def editor_card(
    name: str, classifier: Card, manifest: Manifest, command: str, *, bins: int = 0, guided: bool = True
) -> Card:
    """The card of an editor that is to explain `classifier`; `bins` as in `priors/editor.py`.

    `guided` builds the classifier's features in, where it is a network `resnet` of ours.
    """
    return Card(
        name=name,
        kind="editor",
        shape=classifier.shape,
        classes=classifier.classes,
        output=classifier.output,
        normal=classifier.normal,
        window=classifier.window,
        modality=classifier.modality,
        network="unet",
        settings={
            "channels": classifier.shape[0],
            "outputs": classifier.shape[0],
            "conditions": len(classifier.classes) * (1 + bins),
            **({"guide": classifier.settings} if guided and classifier.network == "resnet" else {}),
        },
        command=command,
        licence=manifest.licence,
        source=f"explains {classifier.name}",
    )


def frozen(recipe: str, name: str) -> Classifier:
    """The classifier `name` that an editor is trained for; CounterscanError where none is named."""
    if not name:
        raise CounterscanError(f"the recipe {recipe} needs a frozen classifier; add --classifier")
    return load_classifier(name)


def open_parts(manifest: Manifest, card: Card, *, fold: int, flip: bool = False) -> dict[str, Images]:
    """The training and validation images as `card` wants them; ManifestError where its classes are others."""
    window = Window(*card.window) if card.window else None
    split = parts(manifest, fold=fold, flip=flip)
    if manifest.classes != card.classes:
        raise ManifestError(f"{manifest.root} has classes {manifest.classes}, the classifier has {card.classes}")
    return {name: open_images(split[name], card.shape, window) for name in ("train", "validation")}


def indices_of(findings: str, manifest: Manifest, card: Card) -> list[int]:
    """The positions of the comma-separated `findings`, or of every class that is a disease."""
    named = [name.strip() for name in findings.split(",") if name.strip()]
    return [card.index(name) for name in named or [name for name in card.classes if name not in manifest.benign]]


def editor_networks(card: Card, classifier: Classifier, start: str = "") -> tuple[nn.Module, nn.Module]:
    """A generator, with the classifier inside where its card has a guide, and a fresh discriminator.

    The generator has fresh weights, or those of the editor `start`.
    """
    generator = fast_layout(build("unet", card.settings))
    if "guide" in card.settings:
        known = torch_classifier(classifier).module.state_dict()
        generator.load_state_dict({f"guide.{name}": value for name, value in known.items()}, strict=False)
    if start:
        start_from(generator, start, card)
    settings = {"channels": card.shape[0], "conditions": card.settings["conditions"]}
    return generator, build("discriminator", settings)


def editor_optimisers(generator: nn.Module, discriminator: nn.Module, rate: float) -> dict[str, torch.optim.Optimizer]:
    """One for each network."""
    return {
        "generator": torch.optim.AdamW(learning(generator), rate, (0.5, 0.99), weight_decay=0.01),
        "discriminator": torch.optim.AdamW(discriminator.parameters(), rate, (0.5, 0.99)),
    }


def scored(discriminator: nn.Module, images: Tensor, condition: Tensor) -> Tensor:
    """The discriminator's scores of `images` in float32, computed in reduced precision."""
    with reduced(images.device):
        return discriminator(channels_last(images), condition).float()


def judged(discriminator: nn.Module, images: Tensor, condition: Tensor) -> Tensor:
    """The same scores, differentiable in the images and not in the discriminator."""
    discriminator.requires_grad_(False)
    scores = scored(discriminator, images, condition)
    discriminator.requires_grad_(True)
    return scores


def discriminate(
    discriminator: nn.Module,
    optimiser: torch.optim.Optimizer,
    real: tuple[Tensor, Tensor],
    fake: tuple[Tensor, Tensor],
) -> float:
    """One step of the discriminator by the hinge loss; `real` and `fake` are images with their conditions."""
    images, condition = (torch.cat(pair) for pair in zip(real, fake, strict=True))
    on_real, on_fake = scored(discriminator, images, condition).split([len(real[0]), len(fake[0])])
    loss = F.relu(1 - on_real).mean() + F.relu(1 + on_fake).mean()
    step_down(optimiser, loss, learning(discriminator))
    return float(loss.detach())


def jittered(images: Tensor) -> Tensor:
    """`images` shifted a little and with some noise, as a classifier is to see them: no pattern of pixels flips it."""
    shift = torch.randint(-2, 3, (2,)).tolist()
    noise = 0.15 * torch.rand(len(images), 1, 1, 1) * torch.randn_like(images)
    return images.roll(shift, (2, 3)) + noise
