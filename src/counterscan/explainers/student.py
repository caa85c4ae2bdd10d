"""A segmentation network taught by the masks of another explainer (pseudo-labels; Lee, 2013, ICML workshop).

What a counterfactual method finds image by image, by a difference and a threshold, a plain segmentation network learns
from all of its masks together: what they get wrong at random averages out, and one pass answers.

It asks no classifier where the lesion is, and so explains none: it says where a finding is, not why the classifier says
so. The classifier still decides whether there is anything to be segmented.
"""

from dataclasses import dataclass

from torch import Tensor

from counterscan.core import Classifier, Segmenter, Target
from counterscan.explainers.base import AttributionExplainer
from counterscan.registry import EXPLAINERS


@EXPLAINERS.register("student")
@dataclass(frozen=True)
class Student(AttributionExplainer):
    """The probability of each pixel to show a finding, by a network that other explainers' masks have taught."""

    segmenter: Segmenter

    def run(self, classifier: Classifier, images: Tensor, target: Target) -> Tensor:
        target.renamed(classifier.card, self.segmenter.card)  # a class that it was not taught is an error
        return self.segmenter(images)

    def __repr__(self) -> str:
        return f"Student(segmenter={self.segmenter.card.name!r})"
