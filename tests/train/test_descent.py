"""One step down: who learns in it, and who does not."""

import torch
from torch import nn

from counterscan.train.descent import descend, learning


def test_descend_goes_down_the_sum_and_leaves_the_frozen_alone():
    module = nn.Linear(2, 1)
    module.bias.requires_grad_(False)
    before, optimiser = module.bias.clone(), torch.optim.SGD(learning(module), 0.1)
    losses = [
        descend(module, optimiser, {"one": module(torch.ones(1, 2)).square().sum(), "two": module.weight.abs().sum()})
        for _ in range(9)
    ]
    assert sum(losses[-1].values()) < sum(losses[0].values())
    assert torch.equal(module.bias, before)
    assert [p.shape for p in learning(module)] == [module.weight.shape]
