"""Did the answer change as asked? Every rate divides by all that were attempted, found or not."""

import torch
from torch import Tensor

from counterscan.classifiers.wrappers import Fitted
from counterscan.core import Card, Classifier, Explanation, Target
from counterscan.errors import TargetError, did_you_mean
from counterscan.metrics.truth import undefined, where
from counterscan.registry import METRICS


@METRICS.register("flip_rate")
def flip_rate(explanation: Explanation, *, classifier=None, judge=None, truth=None) -> Tensor:
    """1 where the counterfactual reaches the target, 0 where not `(b,)`; nan where the image already answered so."""
    if explanation.after is None:
        return undefined(explanation)
    return where(attempted(explanation), explanation.target.reached(explanation.after))


@METRICS.register("judge_flip_rate")
def judge_flip_rate(explanation: Explanation, *, classifier=None, judge: Classifier | None = None, truth=None):
    """1 where the judge, too, gives the counterfactual the answer asked for, else 0 `(b,)`.

    Over the same images as `flip_rate`: those that the *classifier* did not already answer so. What the judge said of
    the image before plays no part. The target's classes are found in the judge by name.
    """
    if explanation.counterfactual is None or judge is None:
        return undefined(explanation)
    return where(attempted(explanation), _reached(judge, explanation, explanation.counterfactual))


@METRICS.register("reconstruction_flip_rate")
def reconstruction_flip_rate(
    explanation: Explanation, *, classifier: Classifier | None = None, judge=None, truth=None
) -> Tensor:
    """1 where the reconstruction alone already reaches the target `(b,)`: what a flip rate owes to the codec.

    Over the same images as `flip_rate`, as the explainer has noted it, which asks nobody again; else as the classifier
    says. nan for methods without a reconstruction, and where neither is known.
    """
    if explanation.reconstruction is None:
        return undefined(explanation)
    noted = [case.get("reconstruction_flips") for case in explanation.meta.get("cases", ())]
    if noted and None not in noted:
        return where(attempted(explanation), torch.tensor(noted))
    if classifier is None:
        return undefined(explanation)
    return where(attempted(explanation), _reached(classifier, explanation, explanation.reconstruction))


@METRICS.register("already_there")
def already_there(explanation: Explanation, *, classifier=None, judge=None, truth=None) -> Tensor:
    """1 where the image answered as asked before anything was done, else 0 `(b,)`; over all images."""
    return (~attempted(explanation)).float()


@METRICS.register("already_there_change")
def already_there_change(explanation: Explanation, *, classifier=None, judge=None, truth=None) -> Tensor:
    """Mean absolute change `(b,)`, share of the window, of the images already there; nan for the others."""
    difference = explanation.difference
    if difference is None:
        return undefined(explanation)
    return where(~attempted(explanation), difference.abs().flatten(1).mean(1) / 2)


@METRICS.register("seconds")
def seconds(explanation: Explanation, *, classifier=None, judge=None, truth=None) -> Tensor:
    """Seconds an image `(b,)`: those of the call in `meta`, shared evenly among its images."""
    return _shared(explanation, "seconds")


@METRICS.register("queries")
def queries(explanation: Explanation, *, classifier=None, judge=None, truth=None) -> Tensor:
    """Images asked of the classifier per image explained `(b,)`, shared as for `seconds`."""
    return _shared(explanation, "queries")


def attempted(explanation: Explanation) -> Tensor:
    """Whether each image `(b,)` did not answer as asked before."""
    return ~explanation.target.reached(explanation.before)


def translate(target: Target, classes: tuple[str, ...], card: Card) -> Target:
    """The same target for another classifier: classes are matched by name, so their order may differ.

    Raises TargetError when the other does not know a class that is asked for.
    """
    for index, _ in target.wanted:
        if classes[index] not in card.classes:
            hint = did_you_mean(classes[index], card.classes)
            raise TargetError(f"{card.name} cannot judge {classes[index]!r}, it has no such class{hint}")
    return Target(tuple((card.index(classes[index]), p) for index, p in target.wanted))


@torch.no_grad()
def _reached(judge: Classifier, explanation: Explanation, images: Tensor) -> Tensor:
    classes = tuple(explanation.meta.get("classes", judge.card.classes))
    target = translate(explanation.target, classes, judge.card)
    return target.reached(Fitted(judge, tuple(images.shape[1:]))(images))


def _shared(explanation: Explanation, fact: str) -> Tensor:
    if fact not in explanation.meta:
        return undefined(explanation)
    share = float(explanation.meta[fact]) / max(len(explanation), 1)
    return torch.full((len(explanation),), share)
