"""A classifier of dark patches, for the tests of the suites: what it says can be read off an image."""

import pytest
from torch import Tensor, nn


class Dark(nn.Module):
    """A tumour where a patch of the image is dark; with a layer with a map, and a linear one, as suites ask for."""

    def __init__(self, bias: float = 0.0):
        super().__init__()
        self.patch = nn.Conv2d(1, 2, 5, padding=2, bias=False)
        nn.init.constant_(self.patch.weight, -1 / 25)
        self.head = nn.Linear(2, 1)
        nn.init.constant_(self.head.weight, 20.0)
        nn.init.constant_(self.head.bias, -18.0 + bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.patch(images).relu().amax((2, 3)))


@pytest.fixture
def dark():
    return Dark
