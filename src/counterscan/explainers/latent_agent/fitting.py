"""Fitting an agent: ask a black box once about each image, distil its answers, and find out how faithful that is."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from counterscan.classifiers.wrappers import Fitted
from counterscan.core import Card, Classifier, Codec
from counterscan.explainers.base import check_images
from counterscan.explainers.latent_agent.agent import Agent
from counterscan.explainers.latent_agent.distillation import check_request, distil, fidelity, held_out, retaught
from counterscan.explainers.latent_agent.steps import Demand, Question, Way
from counterscan.progress import within

FAITHFUL = 0.9  # agreement, below which a fit warns
EDITED = 64  # held-out images whose edits are asked of the black box, too
ONE_IN, MOST = 8, 256  # of the others, so many, and no more, are edited for a network to learn from
BEYOND = 1.0  # log-odds by which those edits should pass one half
CHUNK = 64  # images encoded and asked at a time


class ImageCodec(Codec, Protocol):
    """Codes `(b, d)` of images `(b, c, h, w)`, z-scored, the noise that these leave open, and the way back.

    Images of another shape than its card's are a CounterscanError. `evaluations` of its network go into one way.
    """

    @property
    def evaluations(self) -> int: ...

    def invert(self, images: Tensor, latents: Tensor, /) -> Tensor: ...


def fit_agent(
    codec: ImageCodec, classifier: Classifier, images: Tensor, way: Way, kind: str, patients: Sequence[str]
) -> Agent:
    """An agent of `classifier` in the code of `codec`, from `images` `(n, c, h, w)`; see DiffusionAutoencoder.fit."""
    check_request(len(images), kind)
    held = held_out(len(images), patients)
    classifier = Fitted(classifier, codec.card.shape)
    latents, answers = _asked(codec, classifier, images)
    classes = classifier.card.classes
    known = {"codec": identity(codec.card), "classifier": classifier.card.name}
    whose = [name for name, out in zip(patients, held.tolist(), strict=True) if not out] if patients else ()
    agent = distil(latents[~held], answers[~held], classes, kind, maps_of(codec.card), whose, latents[held], **known)
    edited, more = torch.nonzero(held)[:EDITED, 0], torch.nonzero(~held)[: int((~held).sum()) // ONE_IN][:MOST, 0]
    if agent.reader is not None and agent.maps is not None and len(more):
        moved, said = _edits(codec, agent, classifier, images[more].float(), way)
        agent = retaught(agent, latents[~held], answers[~held], moved, said)
    else:
        more = more[:0]
    moved, said = _edits(codec, agent, classifier, images[edited].float(), way)
    told = {
        "real": fidelity(agent.log_odds(latents[held]), answers[held], classes).to_dict(),
        "edited": fidelity(agent.log_odds(moved), said, classes).to_dict(),
        "one_sided": [name for name, one in zip(classes, answers.T, strict=True) if (one > 0).unique().numel() < 2],
        "queries": len(images) + len(edited) + len(more),
    }
    agent = replace(agent, facts={**agent.facts, **told})
    warn_if_faithless(agent)
    return agent


def answers_of(classifier: Classifier, images: Tensor) -> Tensor:
    """What the black box says of images, log-odds `(b, k)`."""
    return classifier(images).detach().float()


def maps_of(card: Card) -> tuple[int, int] | None:
    """How many maps of how many places a side make up a row of the codec of `card`; None where it has no maps."""
    settings = card.settings
    return (settings["latents"], settings["places"]) if {"latents", "places"} <= settings.keys() else None


def identity(card: Card) -> list[str]:
    """What tells a codec from another."""
    return [card.name, card.sha256]


def _asked(codec: ImageCodec, classifier: Classifier, images: Tensor) -> tuple[Tensor, Tensor]:
    """Codes `(n, d)` of all images, and what the black box says of them `(n, k)`."""
    latents, answers = [], []
    for start, chunk in enumerate(part.float() for part in images.split(CHUNK)):
        check_images(chunk)
        latents.append(codec.encode(chunk))
        answers.append(answers_of(classifier, chunk))
        within(min((start + 1) * CHUNK, len(images)), len(images), "images asked")
    return torch.cat(latents), torch.cat(answers)


def _edits(codec: ImageCodec, agent: Agent, classifier: Classifier, images: Tensor, way: Way) -> tuple[Tensor, Tensor]:
    """Latents `(n, d)` of edits that should change one answer each, the classes in turn; what the black box says of
    them `(n, k)`."""
    latents = codec.encode(images)
    noise = codec.invert(images, latents)
    turn = (torch.arange(len(images)) % len(agent.classes))[:, None]
    rising = agent.log_odds(latents).gather(1, turn) <= 0
    demand = Demand(rising.float() * 2 - 1, torch.zeros(1), torch.tensor([False]))
    step, _ = way.smallest(Question(agent, turn, -BEYOND * demand.sign), demand, latents)
    moved = latents + step * agent.room(latents, step, way.plausible).clamp_max(1)[:, None]
    parts = zip(moved.split(CHUNK), noise.split(CHUNK), strict=True)
    return moved, torch.cat([answers_of(classifier, codec.decode(*part)) for part in parts])


def warn_if_faithless(agent: Agent) -> None:
    """Warn of an agent that agrees with less than `FAITHFUL` of the answers, and of classes that it saw one side of."""
    facts = agent.facts
    name, real, edited = facts["classifier"], facts["real"]["agreement"], facts["edited"]["agreement"]
    if min(real, edited) < FAITHFUL:
        warnings.warn(
            f"the agent agrees with {name} on {real:.0%} of real and {edited:.0%} of edited images that it was not "
            f"fitted to, less than {FAITHFUL:.0%}: what it points at may not be what counts; give more images",
            stacklevel=4,
        )
    if facts["one_sided"]:
        warnings.warn(
            f"{name} gives every image the same answer about {', '.join(facts['one_sided'])}; "
            "give images of both kinds, or ask for other classes",
            stacklevel=4,
        )
