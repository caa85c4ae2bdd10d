"""What drives a black box over many images, and several reasons for one: views of a fitted DiffusionAutoencoder.

Codes vary along their principal axes, of which no two vary together. So the variance of what a linear agent says falls
into shares, one an axis, that sum to 1; of one that is a network they leave what is not linear. An axis that explains
much, decoded, shows what it is that drives the answers.
"""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from counterscan.classifiers.wrappers import Fitted
from counterscan.core import Classifier, Explanation, Finding, Target
from counterscan.errors import CounterscanError
from counterscan.explainers.base import CounterfactualExplainer
from counterscan.explainers.diffusion_autoencoder import DiffusionAutoencoder
from counterscan.explainers.latent_agent.fitting import CHUNK, answers_of


@dataclass(frozen=True)
class Direction:
    """A direction of the code `(d,)`, of length 1, along which a class's log-odds rise.

    `share` is the part of the variance of the agent's log-odds that it explains, `deviation` how far codes vary along
    it. `strip` `(frames, c, h, w)` shows a typical image moved along it, at `places` `(frames,)` in deviations, with
    what the black box says of each `(frames,)`, in log-odds of the class.
    """

    vector: Tensor
    share: float
    deviation: float
    places: Tensor
    strip: Tensor
    answers: Tensor


@torch.no_grad()
def directions(
    explainer: DiffusionAutoencoder,
    classifier: Classifier,
    images: Tensor,
    name: str,
    *,
    n: int = 5,
    frames: int = 7,
    reach: float = 2.0,
) -> tuple[Direction, ...]:
    """The `n` directions that explain most of what the agent says of class `name` over `images` `(b, c, h, w)`.

    Each strip goes from -`reach` to `reach` deviations in `frames` images, each one query; the image moved is that
    whose code lies nearest to the mean. CounterscanError for fewer than three images, TargetError for a class that the
    agent or the classifier lacks.
    """
    if len(images) < 3:
        raise CounterscanError(f"directions are found over many images, got {len(images)}; give those of a manifest")
    index = classifier.card.index(name)
    (column,) = explainer.agent.columns(Target(((index, 1.0),)), classifier.card)
    latents = torch.cat([explainer.codec.encode(chunk.float()) for chunk in images.split(CHUNK)])
    vectors, shares, deviations = ranked(latents, explainer.agent.log_odds(latents)[:, column])
    centre = latents.mean(0)
    typical = int((latents - centre).norm(dim=1).argmin())
    image, code = images[typical : typical + 1].float(), latents[typical : typical + 1]
    noise, places = explainer.codec.invert(image, code), torch.linspace(-reach, reach, frames)
    asked, found = Fitted(classifier, explainer.codec.card.shape), []
    for vector, share, deviation in zip(vectors[:n], shares[:n], deviations[:n], strict=True):
        moved = code + (places * deviation - (code - centre) @ vector)[:, None] * vector
        strip = explainer.codec.decode(moved, noise.expand(frames, *noise.shape[1:]))
        answers = answers_of(asked, strip)[:, index]
        found.append(Direction(vector, float(share), float(deviation), places, strip, answers))
    return tuple(found)


def ranked(latents: Tensor, answers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Principal axes `(m, d)` of latents `(b, d)`, the share `(m,)` of the variance of `answers` `(b,)` that each
    explains, the largest first, and the latents' standard deviation `(m,)` along each.

    Axes point to where the answers rise.
    """
    centred, level = (latents - latents.mean(0)).double(), (answers - answers.mean()).double()
    u, s, v = torch.linalg.svd(centred, full_matrices=False)
    along = torch.where(s > 1e-6 * s[0], u.T @ level, 0)  # what has no variance explains none
    shares = along.square() / level.square().sum().clamp_min(1e-300)
    order = shares.argsort(descending=True)
    signs = torch.where(along < 0, -1.0, 1.0)
    deviations = s / (len(latents) - 1) ** 0.5
    return ((v * signs[:, None])[order]).float(), shares[order].float(), deviations[order].float()


@dataclass(frozen=True)
class Barred(CounterfactualExplainer):
    """`explainer` with sparse steps that leave the coordinates `barred` `(b, d)` of each image's code as they are."""

    explainer: DiffusionAutoencoder
    barred: Tensor = field(repr=False, compare=False)

    def run(self, classifier: Classifier, images: Tensor, target: Target) -> Finding:
        return self.explainer.search(classifier, images, target, self.barred)


def reasons(
    explainer: DiffusionAutoencoder, classifier: Classifier, images: Tensor, target: Target, *, n: int = 3
) -> tuple[Explanation, ...]:
    """Up to `n` counterfactuals of each image, no two of which move the same coordinate of its code.

    Each explanation is of the whole batch, with sparse steps of `explainer.entries`; `found` tells of which images this
    reason, too, reaches the target. It ends sooner where no image has one left.
    """
    sparse = replace(explainer, step="sparse")
    barred = torch.zeros(len(images), len(explainer.agent.centre), dtype=torch.bool)
    found: list[Explanation] = []
    while len(found) < n and not barred.all():
        one = Barred(sparse, barred)(classifier, images, target)
        if found and not one.found.any():
            break
        found.append(one)
        barred = barred | used(one, barred.shape[1])
    return tuple(found)


def used(explanation: Explanation, d: int) -> Tensor:
    """Which of `d` coordinates of the code a sparse step moved `(b, d)`."""
    moved = torch.zeros(len(explanation), d, dtype=torch.bool)
    for row, case in enumerate(explanation.meta["cases"]):
        moved[row, case["coordinates"]] = True
    return moved
