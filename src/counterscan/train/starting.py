"""What a training begins with: a card, and its network with fresh weights or those of one that was trained before."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from counterscan.core import Card
from counterscan.data.batches import Images, open_images
from counterscan.data.manifest import Manifest
from counterscan.errors import CounterscanError
from counterscan.nets import build
from counterscan.nets.blocks import fast_layout
from counterscan.weights.store import load_weights

FLOOR = 1e-3  # of the largest deviation: a map of a code that says nothing is not blown up


def first_card(name: str, manifest: Manifest, command: str, **known: Any) -> Card:
    """The card of what `command` trains on `manifest`, which says how its images are made; and what else is `known`."""
    return Card(
        name=name,
        window=manifest.window.as_tuple() if manifest.window else None,
        modality=manifest.modality,
        licence=manifest.licence,
        command=command,
        **known,
    )


def channels_of(manifest: Manifest) -> int:
    """How many channels its first image has."""
    return manifest.cases[0].read().pixels.shape[1]


def opened(split: Mapping[str, Manifest], shape: Sequence[int]) -> dict[str, Images]:
    """The images of each part of `split`, as a network of `shape` takes them."""
    return {name: open_images(part, tuple(shape)) for name, part in split.items()}


def first_network(card: Card, seed: int, start: str = "") -> nn.Module:
    """The network of `card`, its weights from `seed`, or from `start` as in `start_from`; no random state changes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = fast_layout(build(card.network, card.settings))
    if start:
        start_from(network, start, card)
    return network


def start_from(network: nn.Module, name: str, card: Card) -> None:
    """Give `network`, whose card is `card`, the weights of `name` (a shipped name or a folder).

    Where the classes are others, the last layer of a classifier keeps its own, and an editor is asked for each class as
    it was for the trained ones on average. A guide, which is the explained classifier, is kept as it is. Raises
    CounterscanError where `name` is a network of other settings.
    """
    trained, theirs = load_weights(name, card.kind)
    known, own = _reclassed(trained.state_dict(), card, theirs), network.state_dict()
    kept = tuple(key for key in own if key.startswith(_kept(network, card, theirs)))
    known = {key: value for key, value in known.items() if key not in kept}
    strange = sorted(
        key for key in {*known, *own}.difference(kept) if key not in known or _shape(own.get(key)) != known[key].shape
    )
    if strange:
        raise CounterscanError(
            f"{name} is another network, or has other settings ({strange[0]}); --set those of its card, or no start"
        )
    network.load_state_dict({**own, **known})


def with_statistics(card: Card, rows: Tensor) -> Card:
    """The card of a codec with the mean and the deviation of each map of `rows` `(n, d)`, in float32 and no rounder."""
    wide = rows.double().view(len(rows), card.settings["latents"], -1).transpose(1, 2).flatten(0, 1)
    scale = wide.std(0, correction=0)
    scale = scale.clamp_min(FLOOR * float(scale.max()) or 1.0)
    told = {"centre": wide.mean(0).float().tolist(), "scale": scale.float().tolist()}
    return card.model_copy(update={"settings": {**card.settings, **told}})


def rebuilt(network: nn.Module, card: Card) -> nn.Module:
    """The network as it will be loaded, with what its card says now."""
    anew = build(card.network, card.settings)
    anew.load_state_dict(network.state_dict())
    return fast_layout(anew).eval()


def _kept(network: nn.Module, card: Card, theirs: Card) -> str:
    """How the names of the weights begin that `network` does not take over."""
    linear = [name for name, part in network.named_modules() if isinstance(part, nn.Linear)]
    return f"{linear[-1]}." if card.kind == "classifier" and card.classes != theirs.classes else "guide."


def _reclassed(known: dict[str, Tensor], card: Card, theirs: Card) -> dict[str, Tensor]:
    """The weights of an editor with those that take the condition made for the classes of `card`."""
    if card.kind != "editor" or card.classes == theirs.classes:
        return known
    asked = [index for index, name in enumerate(theirs.classes) if name != theirs.normal]
    return {
        name: value.unflatten(1, (len(theirs.classes), -1))[:, asked].mean(1).repeat(1, len(card.classes))
        if name.endswith("modulate.weight")
        else value
        for name, value in known.items()
    }


def _shape(weights: Tensor | None) -> tuple[int, ...]:
    return () if weights is None else tuple(weights.shape)
