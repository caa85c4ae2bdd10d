"""COIN, counterfactual inpainting (Shvetsov et al., 2024, arXiv 2404.12832): abnormal to normal in one pass.

A generator that sees any image returns its normal version: what the classifier calls abnormal is inpainted, what it
calls normal comes back as it was. The difference segments the lesion, though no mask took part in training.

Changes from the paper:
- fusion is clamp(x + G(x)) with a head that starts at zero, not tanh(x + G(x)): the identity need not be learned;
- the condition names the classes to be removed, so one generator serves several findings;
- a second pass where the first did not convince the classifier, and a change that is confined to where it is strong,
  where that still convinces it; `passes=1`, `confined=False` is the paper's single pass;
- training (`train/recipes/inpainting.py`) adds a prior of healthy anatomy: healthy images are corrupted, and the
  generator restores them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from counterscan.core import Classifier, Editor, Target
from counterscan.explainers.base import CounterfactualExplainer
from counterscan.registry import EXPLAINERS

FAINT, CLEAR = 0.1, 0.2
LEAST = 0.02  # image units: a change that is nowhere larger is confined as if it were this large somewhere


@EXPLAINERS.register("inpainting")
@dataclass(frozen=True)
class Inpainting(CounterfactualExplainer):
    """Counterfactuals from an inpainting editor; a black box will do, no gradient is needed.

    `passes` is how often the editor may edit: again only what the classifier does not yet answer as asked. `confined`
    leaves the image as it was where little is changed, if the answer stays as asked. Each costs one query an image.
    """

    editor: Editor
    passes: int = 2
    confined: bool = True

    def run(self, classifier: Classifier, images: Tensor, target: Target) -> Tensor:
        wanted = target.renamed(classifier.card, self.editor.card)
        edited = self.editor(images, wanted)
        for _ in range(self.passes - 1):
            left = ~target.reached(classifier(edited))
            if left.any():
                edited[left] = self.editor(edited[left], wanted)
        if not self.confined:
            return edited
        calmer = confine(images, edited)
        stays = target.reached(classifier(calmer)).view(-1, *[1] * (images.ndim - 1))
        return torch.where(stays, calmer, edited)

    def __repr__(self) -> str:
        return f"Inpainting(editor={self.editor.card.name!r}, passes={self.passes}, confined={self.confined})"


def confine(images: Tensor, edited: Tensor) -> Tensor:
    """`edited` `(b, c, h, w)` where it differs much from `images`, and `images` where it hardly does.

    Much is measured by the change's mean over 5 x 5 pixels: from `FAINT` to `CLEAR` of its largest in the image the
    change fades in. What a generator repaints around a lesion is mostly an error, and no part of the answer.
    """
    change = edited - images
    size = F.avg_pool2d(change.abs().mean(1, keepdim=True), 5, 1, 2)
    share = size / size.amax((2, 3), keepdim=True).clamp_min(LEAST)
    return images + change * ((share - FAINT) / (CLEAR - FAINT)).clamp(0, 1)
