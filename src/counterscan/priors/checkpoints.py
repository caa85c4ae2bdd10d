"""Denoisers that other libraries saved: a folder of diffusers (UNet2DModel), a MONAI bundle (DiffusionModelUNet)."""

import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from counterscan.core import Card
from counterscan.errors import MissingExtra, WeightsError
from counterscan.nets.blocks import freeze
from counterscan.priors.loading import check_finite
from counterscan.priors.schedules import DiscreteSchedule
from counterscan.weights.store import CARD, load_card

Predicts = Literal["noise", "velocity", "clean"]
PREDICTS: Mapping[str, Predicts] = {"epsilon": "noise", "v_prediction": "velocity", "sample": "clean"}
DIFFUSERS, MONAI = "diffusion_pytorch_model.safetensors", "model.safetensors"
PICKLES = {".bin", ".pt", ".pth", ".ckpt"}
UNASKED = ("pooler.",)  # what a text encoder may lack: its answer for a whole sentence, which nobody asks for


@dataclass(frozen=True)
class Checkpoint:
    """A DDPM's network as `model(scaled, timesteps) -> answer`, with its schedule and what it predicts."""

    model: Callable[[Tensor, Tensor], Tensor]
    schedule: DiscreteSchedule
    predicts: Predicts
    card: Card


def open_checkpoint(folder: Path) -> Checkpoint | None:
    """What `folder` holds if it is of diffusers or MONAI; None if it is neither.

    A `card.json` of ours beside it tells what the library's own files do not: window, modality, and with mean and std
    the intensities that it was trained on; otherwise those are taken to be [-1, 1].
    """
    for place in (folder, folder / "unet"):
        if read_json(place / "config.json").get("_class_name") == "UNet2DModel":
            return _diffusers(folder, place)
    configs = [read_json(path) for path in sorted((folder / "configs").glob("*.json"))]
    if any(_part(config, ("DiffusionModelUNet",)) for config in configs):
        return _monai(folder, {key: value for config in configs for key, value in config.items()})
    return None


def _diffusers(folder: Path, place: Path) -> Checkpoint:
    try:
        from diffusers import UNet2DModel
    except ImportError:
        raise MissingExtra("diffusers", "diffusers") from None
    config = read_json(place / "config.json")
    if config.get("class_embed_type") or config.get("num_class_embeds"):
        raise WeightsError(f"{folder} holds a network that wants a class; give one that wants none")
    network = pretrained(UNet2DModel, place, DIFFUSERS)
    schedules = [read_json(path / "scheduler_config.json") for path in (folder, folder / "scheduler")]
    told = next((schedule for schedule in schedules if schedule), None)
    if told is None:
        raise WeightsError(f"{folder} has no scheduler_config.json; save the scheduler that it was trained with there")
    side = config["sample_size"]
    shape = (config["in_channels"], *(side if isinstance(side, list | tuple) else (side, side)))

    def model(scaled: Tensor, timesteps: Tensor) -> Tensor:
        return network(scaled, timesteps).sample

    return Checkpoint(model, diffusers_schedule(told), predicts_of(told), _card(folder, shape, "diffusers"))


def _monai(folder: Path, config: Mapping[str, Any]) -> Checkpoint:
    try:
        from monai.networks.nets import DiffusionModelUNet
        from monai.networks.schedulers import DDPMScheduler
    except ImportError:
        raise MissingExtra("monai", "monai") from None
    from safetensors.torch import load_file

    path = folder / "models" / MONAI
    no_pickle(path)
    settings = _part(config, ("DiffusionModelUNet",))
    told = _part(config, ("DDPMScheduler", "DDIMScheduler"))
    if not told:
        raise WeightsError(f"{folder}/configs name no DDPMScheduler or DDIMScheduler; add the one it was trained with")
    if settings.get("num_class_embeds") or settings.get("with_conditioning"):
        raise WeightsError(f"{folder} holds a network that wants a class or a text; give one that wants neither")
    network = DiffusionModelUNet(**settings)
    try:
        network.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise WeightsError(f"{path} does not fit the network of its configs: {one_line(error)}") from None
    known = ("num_train_timesteps", "schedule", "beta_start", "beta_end", "s", "sig_range")
    scheduler = DDPMScheduler(**{key: value for key, value in told.items() if key in known})
    shape = (settings["in_channels"], *_spatial(config))
    check_finite(network, folder)
    return Checkpoint(freeze(network), schedule_of(scheduler), predicts_of(told), _card(folder, shape, "MONAI"))


def pretrained(kind: Any, place: Path, name: str, *, pickles: bool | None = None, **more: Any) -> Any:
    """What `kind.from_pretrained`, told `more`, of diffusers or transformers reads from `place`: float32 and frozen.

    Its weights are `name`, whole or in parts, or half-precision ones beside which there are no others. If `pickles` is
    true a pickle is read where there are none of these, which is dangerous: it runs code; if false the error says that
    it could be. WeightsError where the weights are a pickle otherwise, do not fit, are not all there (a library fills
    what lacks with random numbers) or are not finite. Nothing is fetched.
    """
    options = _weights(place, name, pickles) | more
    try:
        with quiet(kind):
            module, told = kind.from_pretrained(place, local_files_only=True, output_loading_info=True, **options)
    except Exception as error:  # the libraries raise nearly anything, and over many lines
        raise WeightsError(f"{place} does not load as {kind.__name__}: {one_line(error)}") from None
    missing = sorted(key for key in told["missing_keys"] if not key.startswith(UNASKED))
    if missing:
        raise WeightsError(f"the weights in {place} lack {missing[0]} ({len(missing)} in all); save the whole network")
    check_finite(module, place)
    return freeze(module.float())


def _weights(place: Path, name: str, pickles: bool | None) -> dict[str, Any]:
    """How a library is told which of the weights in `place` to read."""
    half = name.replace(".safetensors", ".fp16.safetensors")
    for index in place.glob(f"{name}.index*.json"):  # the libraries unpickle what a list of safetensors calls otherwise
        if not all(str(part).endswith(".safetensors") for part in read_json(index).get("weight_map", {}).values()):
            raise WeightsError(f"{index} lists parts that are no safetensors; save the network again")
    if (place / name).exists() or (place / f"{name}.index.json").exists():
        return {"use_safetensors": True}
    if (place / half).exists():
        return {"use_safetensors": True, "variant": "fp16"}
    if pickles and _pickles(place):
        return {"use_safetensors": False}
    no_pickle(place / name, "" if pickles is None else ", or insist with --prior unsafe:FOLDER if you trust it")
    return {}


@contextmanager
def quiet(kind: Any) -> Iterator[None]:
    """Without the bars and warnings that the library of `kind` prints as it loads; what matters in them is raised."""
    library = importlib.import_module(kind.__module__.partition(".")[0]).utils.logging
    level, bars = library.get_verbosity(), library.is_progress_bar_enabled()
    library.set_verbosity_error()
    library.disable_progress_bar()
    try:
        yield
    finally:
        library.set_verbosity(level)
        if bars:
            library.enable_progress_bar()


def diffusers_schedule(told: Mapping[str, Any]) -> DiscreteSchedule:
    """The schedule of a scheduler_config.json; WeightsError where it is of a kind that has no alpha_bar."""
    from diffusers import DDPMScheduler

    if "beta_schedule" not in told:
        raise WeightsError(f"a {told.get('_class_name', 'scheduler')} has no beta_schedule; save a DDPM's or a DDIM's")
    return schedule_of(DDPMScheduler.from_config({key: told[key] for key in told if not key.startswith("_")}))


def schedule_of(scheduler: Any) -> DiscreteSchedule:
    """The library's own schedule; its last steps may hold no image at all, which is no level."""
    alpha_bar = scheduler.alphas_cumprod.double()
    return DiscreteSchedule(alpha_bar[alpha_bar > 1e-8])


def predicts_of(told: Mapping[str, Any]) -> Predicts:
    """What the network of a scheduler's config predicts."""
    kind = told.get("prediction_type", "epsilon")
    if kind not in PREDICTS:
        raise WeightsError(f"a scheduler predicts {kind!r}, which is none of {', '.join(PREDICTS)}")
    return PREDICTS[kind]


def _card(folder: Path, shape: tuple[int, ...], source: str) -> Card:
    if (folder / CARD).exists():
        card = load_card(folder)
        if card.kind != "denoiser" or (shape and card.shape[:1] != shape[:1]):
            raise WeightsError(f"{folder / CARD} is of a {card.kind} of shape {card.shape}; a denoiser {shape} is here")
        return card
    if len(shape) < 3 or None in shape:
        raise WeightsError(f"{folder} does not tell the size of its images; add a {CARD} with kind and shape")
    return Card(name=folder.name, kind="denoiser", shape=shape, classes=(), source=source)


def no_pickle(path: Path, otherwise: str = "") -> None:
    """Raise WeightsError where there are no weights `path`, and say so where there is a pickle in their place."""
    if path.exists():
        return
    pickles = _pickles(path.parent)
    cure = f"; {pickles[0]} is a pickle, which runs code as it is read: save it as safetensors{otherwise}"
    raise WeightsError(f"{path.parent} has no {path.name}{cure if pickles else ''}")


def _pickles(folder: Path) -> list[str]:
    return sorted(other.name for other in folder.glob("*") if other.suffix in PICKLES)


def one_line(error: object) -> str:
    """What a library says, in one short line."""
    return " ".join(str(error).split())[:200]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; nothing where there is no such file, or where it holds no object."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise WeightsError(f"{path} is no JSON: {error}") from None
    return content if isinstance(content, dict) else {}


def _part(config: Mapping[str, Any], classes: tuple[str, ...]) -> dict[str, Any]:
    """The arguments of the part of a bundle's config that is one of `classes`, references resolved."""
    for value in config.values():
        if isinstance(value, dict) and str(value.get("_target_", "")).rpartition(".")[2] in classes:
            return {key: _resolved(one, config) for key, one in value.items() if not key.startswith("_")}
    return {}


def _resolved(value: Any, config: Mapping[str, Any]) -> Any:
    """`@name` as what the config says of it; `$...` is code, which is not run."""
    if isinstance(value, str) and value.startswith("$"):
        raise WeightsError(f"a bundle's config asks to run {value!r}; write the value that it gives instead")
    if isinstance(value, str) and value.startswith("@"):
        if value[1:] not in config:
            raise WeightsError(f"a bundle's config refers to {value!r}, which it does not hold; add it")
        return _resolved(config[value[1:]], config)
    return value


def _spatial(config: Mapping[str, Any]) -> tuple[int, ...]:
    """The size of the images by the bundle's metadata."""
    inputs: dict[str, dict[str, Any]] = config.get("network_data_format", {}).get("inputs", {})
    shape = next((told.get("spatial_shape", ()) for told in inputs.values()), ())
    return tuple(shape) if all(isinstance(side, int) for side in shape) else ()
