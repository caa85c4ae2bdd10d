"""Progressive exaggeration (Singla et al., 2020, arXiv 1911.00483; 2021, arXiv 2101.04230): frames from p = 0 to 1.

A generator that is told a probability changes the image until the classifier answers with it. Asked for one after the
other, the probabilities make a film of what the classifier takes for less and for more of a finding.

Changes from the paper:
- one answer comes out of the film: the frame that reaches the target with the smallest change; where the answer jumps
  past a middling target between two frames, a mixture of the two;
- fusion is clamp(x + G(x)), with skips, as in COIN's version of this method (arXiv 2404.12832, table 3, rows B to G);
- several classes can be asked for at once, and go along the film together;
- training (`train/recipes/progressive.py`) says what else differs.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from counterscan.core import Classifier, Editor, Finding, Target
from counterscan.errors import CounterscanError
from counterscan.explainers.base import CounterfactualExplainer
from counterscan.registry import EXPLAINERS

HALVINGS = 6  # of the way between two frames


@EXPLAINERS.register("progressive")
@dataclass(frozen=True)
class Progressive(CounterfactualExplainer):
    """Counterfactuals from an editor that can be asked for any probability; a black box will do, no gradient is needed.

    `frames` probabilities from 0 to 1 are asked for, each with one query an image. With `path` the explanation keeps
    the frames `(b, frames, c, h, w)`, in which the target's first class goes from 0 to 1.
    """

    editor: Editor
    frames: int = 11
    path: bool = False

    def __post_init__(self) -> None:
        if self.frames < 2:
            raise CounterscanError(f"progressive needs two frames or more, not frames={self.frames}; leave it at 11")

    def run(self, classifier: Classifier, images: Tensor, target: Target) -> Finding:
        wanted = target.renamed(classifier.card, self.editor.card)
        asked = torch.linspace(0, 1, self.frames).tolist()
        path = torch.stack([self.editor(images, along(wanted, p)) for p in asked], 1)
        answers = torch.stack([classifier(frame).detach() for frame in path.unbind(1)], 1)
        found = nearest(images, path, answers, target)
        found = _between(classifier, path, answers, target, found)
        return Finding(found, path=path if self.path else None)

    def __repr__(self) -> str:
        return f"Progressive(editor={self.editor.card.name!r}, frames={self.frames}, path={self.path})"


def along(target: Target, p: float) -> Target:
    """The place `p` of the film towards `target`: its first class at `p`, and what should go the other way at 1 - p."""
    rising = target.wanted[0][1]
    return Target(tuple((index, p if abs(end - rising) <= 0.5 else 1 - p) for index, end in target.wanted))


def nearest(images: Tensor, path: Tensor, answers: Tensor, target: Target) -> Tensor:
    """Of each image's frames `(b, frames, c, h, w)` the one that reaches the target with the smallest mean change.

    `answers` `(b, frames, k)` are log-odds. Where no frame reaches the target it is the one that comes nearest.
    """
    scores = torch.stack([target.score(frame) for frame in answers.unbind(1)], 1)
    change = (path - images[:, None]).abs().flatten(2).mean(2)
    cheapest = torch.where(scores > 0, change, math.inf).argmin(1)
    best = torch.where((scores > 0).any(1), cheapest, scores.argmax(1))
    return path[torch.arange(len(path)), best]


def _between(classifier: Classifier, path: Tensor, answers: Tensor, target: Target, found: Tensor) -> Tensor:
    """`found`, where no frame reaches a target of one class halved towards the place where its answer is passed."""
    (index, p), *others = target.wanted
    reached = torch.stack([target.reached(frame) for frame in answers.unbind(1)], 1).any(1)
    above = answers[..., index].sigmoid() > p
    passes = above[:, 1:] != above[:, :-1]
    left = torch.nonzero(~reached & passes.any(1))[:, 0]
    if others or not len(left):
        return found
    first = passes[left].int().argmax(1)
    low, high = path[left, first], path[left, first + 1]
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        same = (classifier(middle).detach()[:, index].sigmoid() > p) == above[left, first]
        same = same.view(-1, *[1] * (low.ndim - 1))
        low, high = torch.where(same, middle, low), torch.where(same, high, middle)
    return found.index_copy(0, left, high)
