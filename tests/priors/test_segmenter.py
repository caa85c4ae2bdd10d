"""A segmenter loads from its folder, answers probabilities, and does not mix the images of a batch."""

import pytest
import torch

from counterscan.core import Card
from counterscan.errors import WeightsError
from counterscan.nets import build
from counterscan.priors.segmenter import NetworkSegmenter, load_segmenter
from counterscan.weights.store import save_weights

CARD = Card(name="s", kind="segmenter", shape=(1, 32, 32), classes=("tumour",), network="basic_unet")


def test_a_segmenter_loads_and_answers_image_by_image(tmp_path):
    pytest.importorskip("monai")
    torch.manual_seed(0)
    segmenter = NetworkSegmenter(build("basic_unet", {}).eval(), CARD)
    images = torch.rand(18, 1, 32, 32) * 2 - 1
    answer = load_segmenter(save_weights(tmp_path, segmenter.module, CARD))(images)
    assert answer.shape == (18, 1, 32, 32)
    assert 0 <= answer.min() < answer.max() <= 1
    torch.testing.assert_close(answer[17:], segmenter(images[17:]), atol=2e-2, rtol=0)


def test_an_editor_is_no_segmenter(tmp_path):
    card = CARD.model_copy(update={"kind": "editor", "network": "unet", "settings": {"widths": [16, 16]}})
    save_weights(tmp_path, build("unet", card.settings), card)
    with pytest.raises(WeightsError, match="segmenter is needed"):
        load_segmenter(tmp_path)
