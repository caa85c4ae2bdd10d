"""Any torch module as a classifier, and the way to the activations inside it that class activation maps need."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from counterscan.classifiers.answers import check_card, prepare, to_log_odds
from counterscan.core import Card, Classifier
from counterscan.errors import ClassifierError, CounterscanError, NeedsGradients, did_you_mean

FINE_ENOUGH = 14  # the smallest side of the default layer: the grid on which Grad-CAM's paper reads VGG-16
PER_RESOLUTION = 4  # so many candidates at one resolution at most, the last ones


class TorchClassifier:
    """Answers log-odds with `module`, as `card` says that it answers.

    The module runs in evaluation mode and its parameters get no gradients; after each call its modes, parameters and
    hooks are as they were. It may live on another device or in half precision: images go there, log-odds come back in
    float32. Not for several threads at once unless the module is frozen and in evaluation mode already.
    """

    differentiable = True

    def __init__(self, module: nn.Module, card: Card):
        check_card(card)
        self.module = module
        self.card = card
        self._layers: tuple[Layer, ...] | None = None

    def __call__(self, images: Tensor) -> Tensor:
        pixels = prepare(images, self.card)
        like = next(self.module.parameters(), images)
        with undisturbed(self.module):
            inputs = pixels.to(like.device, like.dtype)
            # a module may work in place on its input, which must not be the caller's
            answers = self._ask(inputs.clone() if inputs is images else inputs)
        return to_log_odds(answers, self.card, len(images)).to(images.device)

    def _ask(self, pixels: Tensor) -> Any:
        try:
            return self.module(pixels)
        except CounterscanError:
            raise
        except Exception as error:
            raise ClassifierError(
                f"{self.card.name} failed on images {tuple(pixels.shape)}: {one_line(error)}"
            ) from error


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, and parameters that need no gradient, inside the block; afterwards all as it was.

    Modes are set one by one, so that a layer which its owner keeps frozen in a training network stays frozen. What is
    computed inside stays differentiable in the images, and never in the parameters.
    """
    training = [part for part in module.modules() if getattr(part, "training", False)]  # frozen TorchScript has none
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    try:
        for part in training:
            part.training = False
        for parameter in learning:
            parameter.requires_grad = False
        yield
    finally:
        for part in training:
            part.training = True
        for parameter in learning:
            parameter.requires_grad = True


class Layer(NamedTuple):
    """A layer with a spatial map: the module's `name`, the number of `channels`, and the `spatial` size of its map."""

    name: str
    channels: int
    spatial: tuple[int, ...]

    @property
    def resolution(self) -> str:
        """`16x16`; a setting `layer` may also say `16` where the sides are equal."""
        return "x".join(map(str, self.spatial))


def candidate_layers(classifier: Classifier) -> tuple[Layer, ...]:
    """The layers worth a class activation map, in the order in which they run: the ends of blocks, by resolution.

    Tune over these on validation images: which layer is read changes the overlap with a lesion by 5 to 20 times.
    One blank image is run through the bare module to see the shapes; it counts as no query. Raises NeedsGradients for
    what is no torch module.
    """
    source = torch_classifier(classifier)
    if source._layers is None:
        source._layers = _thinned(_ends_of_blocks(source.module, _trace(source)))
    return source._layers


def find_layer(classifier: Classifier, layer: str = "") -> str:
    """The module's name for a setting `layer`: a module's name, a resolution (`16`, `16x20`), or `""` for the default.

    The default is the last layer whose map is at least 14 wide, else the finest there is. A name wins over a
    resolution; a mistyped one raises ClassifierError with the nearest that exists.
    """
    if layer and layer in dict(_open_parts(torch_classifier(classifier).module)):
        return layer
    known = candidate_layers(classifier)
    if not known:
        raise ClassifierError(f"{classifier.card.name} has no layer with a spatial map; use one that needs none: rise")
    if not layer:
        fine = [one for one in known if min(one.spatial) >= FINE_ENOUGH]
        return fine[-1].name if fine else max(enumerate(known), key=lambda it: (min(it[1].spatial), it[0]))[1].name
    fitting = [one.name for one in known if layer in (one.resolution, _short(one))]
    if not fitting:
        hint = did_you_mean(layer, {one.name for one in known} | {_short(one) for one in known})
        raise ClassifierError(f"{classifier.card.name} has no layer {layer!r}{hint}")
    return fitting[-1]


def forward_with_layers(classifier: Classifier, images: Tensor, layers: Sequence[str]) -> tuple[list[Tensor], Tensor]:
    """The activations `(b, channels, *spatial)` of `layers` and the log-odds `(b, k)` that were computed from them.

    The first layer that runs is a leaf of the graph: `torch.autograd.grad(some log-odds, activations)` reaches it and
    nothing before it, so that the layers below cost no memory. Wrappers around the classifier stay in force (queries
    are counted, sizes fitted). It works with frozen parameters and inside a caller's `no_grad`. Raises NeedsGradients
    for a black box and ClassifierError for a layer without a map.
    """
    module = torch_classifier(classifier).module
    names = [find_layer(classifier, layer) for layer in layers]
    caught: dict[str, Tensor] = {}

    def catcher(name: str) -> Callable:
        def catch(_module: nn.Module, _inputs: Any, output: Any) -> Tensor:
            if not _is_map(output, images.ndim):
                raise ClassifierError(f"layer {name!r} of {classifier.card.name} has no map (b, channels, *spatial)")
            caught[name] = output if output.requires_grad else output.detach().requires_grad_()
            return caught[name].clone()  # not the leaf itself: the next layer may work in place

        return catch

    hooks = [(module.get_submodule(name), catcher(name)) for name in names]
    with _hooked(hooks), torch.inference_mode(False), torch.enable_grad():
        log_odds = classifier(images.detach())
    for name in names:
        if name not in caught or len(caught[name]) != len(images):
            raise ClassifierError(
                f"layer {name!r} of {classifier.card.name} does not run once for each image: "
                "take the classifier out of Averaged or a fixed batch, or use rise"
            )
    return [caught[name] for name in names], log_odds


def torch_classifier(classifier: Any) -> TorchClassifier:
    """The TorchClassifier inside the wrappers; NeedsGradients where there is none, or where one cuts gradients."""
    inner = classifier
    while inner.differentiable and not isinstance(inner, TorchClassifier) and hasattr(inner, "classifier"):
        inner = inner.classifier
    if not isinstance(inner, TorchClassifier):
        raise NeedsGradients(
            f"{classifier.card.name} is a black box, without layers to look into; use rise or inpainting instead"
        )
    return inner


def one_line(error: Exception) -> str:
    """The first line of what another library said; the last of TorchScript, which begins with its stack."""
    lines = str(error).strip().splitlines() or [""]
    line = lines[-1] if "TorchScript" in lines[0] else lines[0]
    return f"{type(error).__name__}: {line.removeprefix('RuntimeError: ')}"


@contextmanager
def _hooked(hooks: list[tuple[nn.Module, Callable]]) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module, hook in hooks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _trace(source: TorchClassifier) -> dict[str, tuple[int, ...]]:
    """The shapes of all maps in the module, by name, in the order in which they are finished."""
    shapes: dict[str, tuple[int, ...]] = {}
    dims = len(source.card.shape) + 1

    def recorder(name: str) -> Callable:
        def record(_module: nn.Module, _inputs: Any, output: Any) -> None:
            shapes.pop(name, None)
            if _is_map(output, dims):
                shapes[name] = tuple(output.shape)

        return record

    hooks = [(part, recorder(name)) for name, part in _open_parts(source.module)]
    with _hooked(hooks), torch.no_grad():
        source(torch.zeros(1, *source.card.shape))
    return shapes


def _open_parts(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """The named modules inside `module` that take hooks: what TorchScript has compiled does not."""
    return [it for it in module.named_modules() if it[0] and not isinstance(it[1], torch.jit.ScriptModule)]


def _is_map(output: Any, dims: int) -> bool:
    return isinstance(output, Tensor) and output.ndim == dims and min(output.shape[2:]) > 1


def _ends_of_blocks(module: nn.Module, shapes: dict[str, tuple[int, ...]]) -> list[Layer]:
    """Each block's output, a norm after it, and of loose layers the last before the next convolution."""
    ends: list[Layer] = []
    growing = False  # whether the last end may still be replaced by the norm or activation that follows it
    for name, shape in shapes.items():
        part = module.get_submodule(name)
        if _is_chain(part) or _inside_a_block(name, module, shapes):
            continue
        layer = Layer(name, shape[1], shape[2:])
        is_block, is_convolution = _has(part.children()), _is_convolution(part)
        if growing and not is_block and not is_convolution and ends[-1][1:] == layer[1:]:
            ends[-1] = layer
        elif _has(part.parameters()):
            ends.append(layer)
        growing = bool(ends) and ends[-1] is layer and not is_block
    return ends


def _thinned(layers: list[Layer]) -> tuple[Layer, ...]:
    """At most so many of each resolution, the last ones."""
    later = [[other.spatial for other in layers[place + 1 :]] for place in range(len(layers))]
    return tuple(one for one, after in zip(layers, later, strict=True) if after.count(one.spatial) < PER_RESOLUTION)


def _is_chain(part: nn.Module) -> bool:
    """A plain Sequential is looked through: what its last child answers is its own answer."""
    return isinstance(part, nn.Sequential) and type(part).forward is nn.Sequential.forward and len(part) > 0


def _inside_a_block(name: str, module: nn.Module, shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether a module around `name` answers with a map of the same size, so that it stands for what is inside."""
    parts = name.split(".")
    around = [".".join(parts[:depth]) for depth in range(1, len(parts))]
    return any(
        outer in shapes and shapes[outer][2:] == shapes[name][2:] and not _is_chain(module.get_submodule(outer))
        for outer in around
    )


def _is_convolution(part: nn.Module) -> bool:
    return any(parameter.ndim >= 3 for parameter in part.parameters(recurse=False))


def _has(things: Iterator) -> bool:
    return next(things, None) is not None


def _short(layer: Layer) -> str:
    return str(layer.spatial[0]) if len(set(layer.spatial)) == 1 else layer.resolution
