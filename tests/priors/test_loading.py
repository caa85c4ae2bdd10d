"""What a prior is asked for before it is used."""

import pytest
import torch
from torch import nn

from counterscan.core import Card
from counterscan.errors import CounterscanError, WeightsError
from counterscan.nets import build
from counterscan.priors.loading import check_finite, check_shape, load_own
from counterscan.weights.store import save_weights

SETTINGS = {"channels": 1, "widths": [16, 16]}
CARD = Card(name="d", kind="denoiser", shape=(1, 32, 32), classes=(), network="denoiser", settings=SETTINGS)


def test_only_the_prior_meant_is_loaded(tmp_path):
    folder = save_weights(tmp_path / "d", build("denoiser", SETTINGS), CARD)
    module, card = load_own(folder, "denoiser", "denoiser", "widths")
    assert card.settings == SETTINGS
    assert not any(parameter.requires_grad for parameter in module.parameters())
    with pytest.raises(WeightsError, match="denoiser with the network 'denoiser'; 'text-denoiser' is needed"):
        load_own(folder, "denoiser", "text-denoiser")
    with pytest.raises(WeightsError, match="lacks the setting 'centre'; train it with denoiser again"):
        load_own(folder, "denoiser", "denoiser", "widths", "centre")


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    network = nn.Linear(2, 2)
    check_finite(network, tmp_path)
    nn.init.constant_(network.bias, float("inf"))
    with pytest.raises(WeightsError, match="not finite"):
        check_finite(network, tmp_path)


def test_images_of_another_shape_are_refused():
    check_shape(torch.zeros(5, 1, 32, 32), CARD)
    with pytest.raises(CounterscanError, match=r"d scores images of shape \(1, 32, 32\), these are \(1, 32, 16\)"):
        check_shape(torch.zeros(5, 1, 32, 16), CARD, "scores")
