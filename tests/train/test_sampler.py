"""What a sampler calls abnormal shows a finding of the condition, and what it calls healthy is known to show none."""

import pytest
import torch

from counterscan.errors import ManifestError
from counterscan.train.sampler import Sampler


class Store:
    """Images whose pixels say what their labels are, so that a batch can be checked."""

    def __init__(self, labels):
        self.labels = torch.tensor(labels)

    def batch(self, indices):
        images = torch.zeros(len(indices), self.labels.shape[1], 4, 4)
        return images + self.labels[indices].nan_to_num(9.0)[:, :, None, None]


UNKNOWN = float("nan")
LABELS = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [UNKNOWN, 0.0], [0.0, UNKNOWN]]


def test_every_draw_is_what_it_says():
    torch.manual_seed(0)
    sampler = Sampler(Store(LABELS), [0, 1])
    for _ in range(50):
        abnormal, healthy, condition = sampler(8, 6)
        asked = condition[0].bool()
        assert (abnormal[:, asked, 0, 0] == 1).any(1).all()
        assert (healthy[:, asked, 0, 0] == 0).all()
        assert (condition == condition[0]).all()


def test_a_rare_finding_is_seen_as_often_as_a_common_one():
    torch.manual_seed(0)
    sampler = Sampler(Store([[1.0, 0.0]] * 98 + [[0.0, 1.0], [0.0, 0.0]]), [0, 1])
    shown = torch.cat([sampler(16, 1)[0] for _ in range(40)])
    assert 0.35 < float((shown[:, 1, 0, 0] == 1).float().mean()) < 0.65


def test_a_confounder_is_not_asked_away():
    torch.manual_seed(0)
    sampler = Sampler(Store(LABELS), [0])
    assert all(sampler(4, 4)[2][:, 1].sum() == 0 for _ in range(20))


@pytest.mark.parametrize(
    ("labels", "words"),
    [([[0.0, 0.0], [1.0, 0.0]], "class number 1"), ([[1.0, 1.0], [1.0, UNKNOWN]], "known to be healthy")],
)
def test_what_is_missing_is_said_before_training(labels, words):
    with pytest.raises(ManifestError, match=words):
        Sampler(Store(labels), [0, 1])
