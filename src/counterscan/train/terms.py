"""The loss terms of COIN (Shvetsov et al., 2024, arXiv 2404.12832), each with the reduction that its authors' code has.

Images are `(b, c, h, w)` in [-1, 1], answers are log-odds `(b, k)`, scores are a discriminator's, of any shape.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

NEVER = 1e-6  # the probability that a finding is to have which the classifier sees
LEAST = 1e-5  # probabilities are compared within [LEAST, 1 - LEAST]
LEVELS = 255 / 2  # grey levels of an 8-bit picture in one unit of an image


def pleasing(scores: Tensor, *, hinge: bool = False) -> Tensor:
    """What the generator pays for `scores` of its images: cross-entropy with "real", or with `hinge` minus the mean."""
    return -scores.mean() if hinge else F.softplus(-scores).mean()


def telling(on_real: Tensor, on_fake: Tensor, *, hinge: bool = False) -> Tensor:
    """What the discriminator pays: half of the cross-entropy of both, or of both hinges."""
    if hinge:
        return (F.relu(1 - on_real).mean() + F.relu(1 + on_fake).mean()) / 2
    return (F.softplus(-on_real).mean() + F.softplus(on_fake).mean()) / 2


def divergence(p: Tensor, log_odds: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the answers `log_odds` from the probabilities `p`, both `(b, k)`."""
    own = torch.log(p) * p + torch.log1p(-p) * (1 - p)
    return own + F.binary_cross_entropy_with_logits(log_odds, p, reduction="none")


def desired(log_odds: Tensor) -> Tensor:
    """The probabilities `(b, k)` to ask for: `NEVER` where the classifier sees a finding, else what it says already."""
    p = log_odds.sigmoid()
    return torch.where(p >= 0.5, NEVER, p)


def answering(p: Tensor, log_odds: Tensor) -> Tensor:
    """Bernoulli divergence KL(p || q) of the answers q from the desired `p`: both clamped, summed over k, mean of b."""
    border = torch.tensor(LEAST).logit()
    clamped = divergence(p.clamp(LEAST, 1 - LEAST), log_odds.clamp(float(border), -float(border)))
    return clamped.sum(1).mean()


def closeness(images: Tensor, edited: Tensor) -> Tensor:
    """Mean absolute difference."""
    return (images - edited).abs().mean()


def variation(images: Tensor, edited: Tensor) -> Tensor:
    """Mean squares of the forward differences, across plus down, of the size of the change in 8-bit grey levels.

    Squares, so that it asks for a smooth change and not, as total variation does, for one with few borders.
    """
    change = (images - edited).abs() * LEVELS
    across, down = change[..., 1:] - change[..., :-1], change[..., 1:, :] - change[..., :-1, :]
    return across.square().mean() + down.square().mean()
