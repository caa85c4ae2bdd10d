"""COIN, counterfactual inpainting (Shvetsov et al., 2024, arXiv 2404.12832): abnormal to normal in one pass.

A generator that sees any image returns its normal version: what the classifier calls abnormal is inpainted, what it
calls normal comes back as it was. The difference segments the lesion, though no mask took part in training.

Changes from the paper:
- fusion is clamp(x + G(x)) with a head that starts at zero, not tanh(x + G(x)): the identity need not be learned;
- the condition names the classes to be removed, so one generator serves several findings;
- training (`train/recipes/inpainting.py`) adds a prior of healthy anatomy: healthy images are corrupted, and the
  generator restores them.
"""

from dataclasses import dataclass

from torch import Tensor

from counterscan.core import Classifier, Editor, Target
from counterscan.explainers.base import CounterfactualExplainer
from counterscan.registry import EXPLAINERS


@EXPLAINERS.register("inpainting")
@dataclass(frozen=True)
class Inpainting(CounterfactualExplainer):
    """Counterfactuals from an inpainting editor; a black box will do, no gradient and no query is needed."""

    editor: Editor

    def run(self, classifier: Classifier, images: Tensor, target: Target) -> Tensor:
        return self.editor(images, target.renamed(classifier.card, self.editor.card))

    def __repr__(self) -> str:
        return f"Inpainting(editor={self.editor.card.name!r})"
