"""Training by several processes, as `torchrun` starts them: each draws a batch of its own, all take the same step.

Gradients are averaged before every step, so that two processes with a batch of 16 learn as one with 32. What a network
keeps beside its weights (running means) is that of the first process, which alone validates and writes. A process that
is by itself does nothing here.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

T = TypeVar("T")
PATIENCE = timedelta(hours=12)  # the others wait while the first validates; torchrun ends them should it fail
APART = 0x9E3779B1  # between the seeds of two processes: no two multiples are near in the 32 bits that torch looks at


@contextmanager
def together() -> Iterator[None]:
    """Within, processes that were started by torchrun know of one another."""
    if distributed.is_initialized() or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield
        return
    distributed.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """The number of this process, from 0; it is the first that writes."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def alone() -> bool:
    """Does this process train by itself?"""
    return not distributed.is_initialized() or distributed.get_world_size() == 1


def shared(value: T) -> T:
    """The first process's value, in all of them."""
    if alone():
        return value
    box = [value]
    distributed.broadcast_object_list(box)
    return box[0]


def averaged(values: Mapping[str, float]) -> dict[str, float]:
    """The mean over the processes of each value; all have the same names."""
    if alone():
        return dict(values)
    names = sorted(values)
    sums = torch.tensor([values[name] for name in names], dtype=torch.float64)
    distributed.all_reduce(sums)
    means = dict(zip(names, (sums / distributed.get_world_size()).tolist(), strict=True))
    return {name: means[name] for name in values}


def share_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Put the mean over the processes in place of each gradient; where nobody has one there is none."""
    if alone():
        return
    known = list(parameters)
    there = torch.tensor([float(p.grad is not None) for p in known])
    flat = torch.cat([*(_gradient(p) for p in known), there])
    distributed.all_reduce(flat)
    *parts, there = flat.split([*(p.numel() for p in known), len(known)])
    for p, part, count in zip(known, parts, there.tolist(), strict=True):
        if count:
            mean = (part / distributed.get_world_size()).view(p.shape)
            p.grad = (torch.empty_like(p) if p.grad is None else p.grad).copy_(mean)


def share_buffers(modules: Mapping[str, nn.Module]) -> None:
    """Give every process what the first one's networks keep beside their weights."""
    if not alone():
        _share(buffer for module in modules.values() for buffer in module.buffers() if buffer.is_floating_point())


def share_weights(modules: Mapping[str, nn.Module]) -> None:
    """Let every process begin with the first one's weights."""
    if not alone():
        _share(parameter.data for module in modules.values() for parameter in module.parameters())
        share_buffers(modules)


def leave_to_the_first() -> None:
    """End every process but the first, once that one has come here: what follows a training is done once.

    Raises SystemExit (done) in the others.
    """
    if alone():
        return
    distributed.barrier()
    if rank():
        raise SystemExit(0)


def _share(tensors: Iterable[Tensor]) -> None:
    known = list(tensors)
    if not known:
        return
    flat = torch.cat([tensor.detach().flatten().float() for tensor in known])
    distributed.broadcast(flat, 0)
    for tensor, part in zip(known, flat.split([tensor.numel() for tensor in known]), strict=True):
        tensor.copy_(part.view(tensor.shape))


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros(parameter.numel()) if parameter.grad is None else parameter.grad.flatten().float()
