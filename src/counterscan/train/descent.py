"""One step of a network down its losses; what a recipe's `step` ends with."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def learning(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that are trained: not those of a frozen guide."""
    return [p for p in module.parameters() if p.requires_grad]


def descend(
    module: nn.Module, optimiser: torch.optim.Optimizer, losses: Mapping[str, Tensor], clip: float = 1.0
) -> dict[str, float]:
    """One step of `module` down the sum of `losses`, and their values; gradients are clipped at the norm `clip`."""
    optimiser.zero_grad(set_to_none=True)
    torch.stack(list(losses.values())).sum().backward()
    nn.utils.clip_grad_norm_(learning(module), clip)
    optimiser.step()
    return {name: float(value.detach()) for name, value in losses.items()}
