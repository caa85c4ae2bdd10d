"""How weights are kept and loaded: `weights.safetensors` in half precision or less beside `card.json`, nothing else."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from counterscan.core import Card
from counterscan.errors import CounterscanError, WeightsError, did_you_mean
from counterscan.nets import build
from counterscan.nets.blocks import fast_layout, freeze
from counterscan.registry import SHIPPED, shipped_weights

WEIGHTS, CARD = "weights.safetensors", "card.json"
STEP = ".step"  # after a tensor's name: that of the size of one of its steps, where it is kept in whole numbers
PACKED = 4096  # numbers of a tensor, from which on packing pays
LARGEST = 16384  # of the numbers in a network's settings: widths, depths, sides


def save_weights(folder: str | Path, module: nn.Module, card: Card) -> Path:
    """Write `module`'s weights (floating point ones in half precision) and its card; the card comes last."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return _write(folder, {name: _half(value) for name, value in module.state_dict().items()}, card)


def _write(folder: Path, state: dict[str, torch.Tensor], card: Card) -> Path:
    part = folder / (WEIGHTS + ".part")
    part.write_bytes(save(state))  # save_file would make it readable to its owner only
    card = card.model_copy(update={"sha256": hashlib.sha256(part.read_bytes()).hexdigest()})
    (folder / CARD).unlink(missing_ok=True)
    os.replace(part, folder / WEIGHTS)
    text = json.dumps(card.model_dump(exclude_defaults=True), indent=1) + "\n"
    (folder / (CARD + ".part")).write_text(text)
    os.replace(folder / (CARD + ".part"), folder / CARD)
    return folder


def load_weights(name: str | Path, kind: str | None = None) -> tuple[nn.Module, Card]:
    """The network and the card of a shipped name (`chest/classifier`) or of a folder; in evaluation mode, frozen.

    Raises WeightsError where there is no card, where it is of another `kind`, where the weights are not those that the
    card was written for, or where they are a pickle.
    """
    folder = find_weights(name)
    card = load_card(folder)
    if kind is not None and card.kind != kind:
        raise WeightsError(f"{name} is of kind {card.kind}; {kind} is needed")
    path = folder / WEIGHTS
    if not path.exists():
        pickles = [p.name for p in folder.iterdir() if p.suffix in {".pt", ".pth", ".pkl", ".ckpt", ".bin"}]
        cure = f"; {pickles[0]} is a pickle, which could run code: save it as safetensors" if pickles else ""
        raise WeightsError(f"{folder} has no {WEIGHTS}{cure}")
    if hashlib.sha256(path.read_bytes()).hexdigest() != card.sha256:
        raise WeightsError(f"{path} is not what its card was written for (sha256 differs); copy both files again")
    module = _built(card, folder)
    try:
        module.load_state_dict({**_unpacked(load_file(path)), **_shared(card)})
    except (SafetensorError, RuntimeError) as error:
        raise WeightsError(f"{path} does not fit the network {card.network!r} of its card: {_line(error)}") from None
    return freeze(fast_layout(module)), card


def share_part(folder: Path, part: str, name: str) -> None:
    """Take `part` out of the weights in `folder`, which another's, `name`, are; from now on these are loaded for it."""
    card, theirs = load_card(folder), find_weights(name)
    known, shared = load_file(folder / WEIGHTS), _unpacked(load_file(theirs / WEIGHTS))
    if any(key not in shared or not torch.equal(value, _half(shared[key])) for key, value in _of(part, known).items()):
        raise WeightsError(f"{part} of {card.name} is not {name}; keep it, or train it with that one again")
    card = card.model_copy(update={"parts": {**card.parts, part: (name, load_card(theirs).sha256)}})
    rest = {key: value for key, value in known.items() if not key.startswith(f"{part}.")}
    _write(folder, rest, card)


def _shared(card: Card) -> dict[str, torch.Tensor]:
    """The tensors of the parts that other weights hold."""
    found: dict[str, torch.Tensor] = {}
    for part, (name, sha256) in card.parts.items():
        path = find_weights(name) / WEIGHTS
        if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            raise WeightsError(
                f"{card.name} needs the {name} that it was trained with, and this is another; train it again"
            )
        found |= {f"{part}.{key}": value for key, value in _unpacked(load_file(path)).items()}
    return found


def pack_weights(folder: Path) -> None:
    """Keep the large tensors of the weights in `folder` in a byte a number, which halves the file.

    Each row counts in steps of its own, a 127th of its largest entry; half a step is what a number is off at most.
    """
    card, state = load_card(folder), _unpacked(load_file(folder / WEIGHTS))
    packed: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        if value.ndim < 2 or value.numel() < PACKED:
            packed[name] = _half(value)
            continue
        step = _half(value.flatten(1).abs().amax(1) / 127).clamp_min(torch.finfo(torch.float16).tiny)
        packed[name] = (value / _wide(step, value)).round().clamp(-127, 127).to(torch.int8)
        packed[name + STEP] = step
    _write(folder, packed, card)


def _unpacked(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors in float32, those that are kept in whole numbers times their steps."""
    values = {name: value.float() for name, value in state.items() if not name.endswith(STEP)}
    for name in values:
        if name + STEP in state:
            values[name] = values[name] * _wide(state[name + STEP], values[name])
    return values


def _wide(step: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return step.float().view(-1, *[1] * (value.ndim - 1))


def _of(part: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key.removeprefix(f"{part}."): value for key, value in tensors.items() if key.startswith(f"{part}.")}


def _built(card: Card, folder: Path) -> nn.Module:
    """The card's network, before it is known whether the weights fit; so nothing that is larger than any is built."""
    largest = max(_numbers(card.settings), default=0)
    if largest > LARGEST:
        raise WeightsError(f"{folder / CARD} asks for a network with the setting {largest:g}; {LARGEST} is the largest")
    try:
        return build(card.network, card.settings)
    except CounterscanError:
        raise
    except Exception as error:  # networks know nothing of cards, and raise nearly anything
        raise WeightsError(
            f"{folder / CARD} has settings that the network {card.network!r} does not take: {_line(error)}"
        ) from None


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, int | float):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _numbers(one)


def load_card(folder: Path) -> Card:
    """The card in `folder`; weights without one do not load."""
    path = folder / CARD
    if not path.exists():
        raise WeightsError(f"{folder} has no {CARD}; weights without a card do not load")
    return parse_card(path.read_bytes(), str(path))


def parse_card(data: bytes, source: str) -> Card:
    """The card in JSON that came from `source`; WeightsError says in one short line what is wrong with it."""
    try:
        return Card.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))[:80] or "the file"
        raise WeightsError(f"{source} is no card: {where}: {_line(first['msg'])}") from None


def find_weights(name: str | Path) -> Path:
    """The folder of a shipped name or of a path; a mistyped name is answered with the nearest that exists."""
    for folder in (Path(name), SHIPPED / str(name)):
        if folder.is_dir():
            return folder
    raise WeightsError(
        f"no weights are called {str(name)!r}, nor is there such a folder{did_you_mean(str(name), shipped_weights())}"
    )


def _half(value: torch.Tensor) -> torch.Tensor:
    value = value.detach().cpu().contiguous()
    return value.half() if value.is_floating_point() else value


def _line(error: object) -> str:
    return " ".join(str(error).split())[:200]
