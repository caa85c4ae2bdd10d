"""The student answers where a finding is, knows what it was taught, and is gated by the classifier."""

import pytest
import torch

from counterscan.classifiers.function import FunctionClassifier
from counterscan.core import Card, Target
from counterscan.errors import TargetError
from counterscan.explainers.build import build_explainer
from counterscan.metrics.masks import mask_of

CARD = Card(name="bright", shape=(1, 16, 16), classes=("tumour", "cyst"))


class Lit:
    """What is bright shows a tumour."""

    card = Card(name="lit", kind="segmenter", shape=(1, 16, 16), classes=("tumour",))

    def __call__(self, images):
        return (images > 0).float()


def explain(text):
    images = torch.full((2, 1, 16, 16), -1.0)
    images[0, :, 3:8, 4:9] = 1
    classifier = FunctionClassifier(lambda x: x.max(axis=(1, 2, 3))[:, None].repeat(2, 1) * 5, CARD)
    return build_explainer("student", prior=Lit())(classifier, images, Target.parse(text, CARD))


def test_it_answers_with_the_segmenter_s_map():
    answer = explain("tumour=0")
    assert answer.heatmap[0].sum() == 25
    assert not answer.found.any()
    assert answer.counterfactual is None
    assert repr(build_explainer("student", prior=Lit())) == "Student(segmenter='lit')"


def test_where_the_classifier_sees_nothing_there_is_no_mask():
    assert mask_of(explain("tumour=0")).flatten(1).sum(1).tolist() == [25, 0]


def test_a_class_that_it_was_not_taught():
    with pytest.raises(TargetError, match="no class 'cyst'"):
        explain("cyst=0")
