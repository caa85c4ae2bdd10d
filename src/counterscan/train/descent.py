"""One step of a network down its losses; what a recipe's `step` ends with."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from counterscan.train.together import share_gradients


def learning(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that are trained: not those of a frozen guide."""
    return [p for p in module.parameters() if p.requires_grad]


def descend(
    module: nn.Module, optimiser: torch.optim.Optimizer, losses: Mapping[str, Tensor], clip: float = 1.0
) -> dict[str, float]:
    """One step of `module` down the sum of `losses`, and their values; gradients are clipped at the norm `clip`."""
    step_down(optimiser, torch.stack(list(losses.values())).sum(), learning(module), clip)
    return {name: float(value.detach()) for name, value in losses.items()}


def step_down(
    optimiser: torch.optim.Optimizer, loss: Tensor, parameters: Sequence[nn.Parameter], clip: float | None = None
) -> None:
    """One step of `parameters` down `loss`, by the mean gradient of all processes that train together."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    share_gradients(parameters)
    if clip is not None:
        nn.utils.clip_grad_norm_(parameters, clip)
    optimiser.step()
