"""Projected gradient descent (Madry et al., 2018, 1706.06083): the small change that hurts a classifier most."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from counterscan.errors import CounterscanError, check_one_of

NORMS = ("l2", "linf")
Loss = Callable[[Tensor], Tensor]  # images (b, c, *spatial) -> (b,), larger is worse for the classifier


@dataclass(frozen=True)
class PGD:
    """Climbs a loss inside a ball around each image, and inside [-1, 1].

    `radius` is in image units, where the whole window is 2: of one value for `linf`, of the root of the sum over all
    values of an image for `l2` (half of it is the radius in the usual units of [0, 1]). Each of the `steps` is
    `stride` * radius / steps long, along the sign of the gradient (linf) or its direction (l2). It starts anywhere in
    the ball unless `scattered` is off, and of several `restarts` keeps for each image the one with the highest loss.
    """

    norm: str = "l2"
    radius: float = 1.0
    steps: int = 10
    restarts: int = 1
    stride: float = 2.5
    scattered: bool = True

    def __post_init__(self) -> None:
        check_one_of("norm", self.norm, NORMS)
        if not self.radius >= 0 or self.steps < 1 or self.restarts < 1:
            raise CounterscanError(
                f"an attack needs radius >= 0, steps >= 1 and restarts >= 1, "
                f"got {self.radius:g}, {self.steps} and {self.restarts}"
            )

    def __call__(self, loss: Loss, images: Tensor) -> Tensor:
        """Images `(b, c, *spatial)` near the given ones, for which `loss` is high; random starts come from torch's
        generator. Gradients reach the images and nothing else; the network's mode is the caller's to set."""
        found = self._climb(loss, images)
        if self.restarts == 1:
            return found
        highest = _value(loss, found)
        for _ in range(self.restarts - 1):
            other = self._climb(loss, images)
            value = _value(loss, other)
            found = torch.where(_spread(value > highest, images), other, found)
            highest = torch.maximum(value, highest)
        return found

    def _climb(self, loss: Loss, images: Tensor) -> Tensor:
        points = (images + self._start(images)).clamp(-1, 1) if self.scattered else images.clone()
        for _ in range(self.steps):
            with torch.enable_grad():
                points = points.detach().requires_grad_()
                (gradient,) = torch.autograd.grad(loss(points).sum(), points)
            step = self.stride * self.radius / self.steps * self._direction(gradient)
            points = (images + self._inside(points.detach() + step - images)).clamp(-1, 1)
        return points.detach()

    def _start(self, images: Tensor) -> Tensor:
        """A point drawn evenly from the ball."""
        if self.norm == "linf":
            return (torch.rand_like(images) * 2 - 1) * self.radius
        noise = torch.randn_like(images)
        share = torch.rand(len(images), device=images.device) ** (1 / images[0].numel())
        return noise / _length(noise) * _spread(share, images) * self.radius

    def _direction(self, gradient: Tensor) -> Tensor:
        return gradient.sign() if self.norm == "linf" else gradient / _length(gradient).clamp_min(1e-12)

    def _inside(self, change: Tensor) -> Tensor:
        if self.norm == "linf":
            return change.clamp(-self.radius, self.radius)
        return change * (self.radius / _length(change).clamp_min(1e-12)).clamp_max(1)


def _length(tensor: Tensor) -> Tensor:
    return _spread(tensor.flatten(1).norm(dim=1), tensor)


def _spread(values: Tensor, like: Tensor) -> Tensor:
    """`(b,)` as `(b, 1, ...)`."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


@torch.no_grad()
def _value(loss: Loss, images: Tensor) -> Tensor:
    return loss(images)
