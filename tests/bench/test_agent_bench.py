"""What bench/diffusion_autoencoder.py counts as close, and as lying in the lesion."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from counterscan.core import Explanation, Target
from counterscan.metrics.truth import Truth

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("agent_bench", ROOT / "bench" / "diffusion_autoencoder.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def explained(target, after, heat=None):
    image = torch.zeros(1, 1, 4, 4)
    heat = image if heat is None else heat
    odds = torch.logit(torch.tensor([after]))
    before, found = torch.logit(torch.tensor([[0.9, 0.9]])), torch.tensor([True])
    return Explanation(image, target, heat, before, found, counterfactual=image, after=odds)


@pytest.mark.parametrize(
    ("wanted", "after", "far"),
    [
        (((0, 0.0),), [0.05, 0.9], 0.02),  # 0.95 sure that it is gone, of the 0.97 asked for
        (((0, 0.0), (1, 0.0)), [0.03, 0.08], 0.05),  # the class that is nearest to being missed
        (((0, 0.2),), [0.25, 0.9], 0.05),
        (((0, 0.2), (1, 0.7)), [0.2, 0.4], 0.3),
    ],
)
def test_an_answer_is_close_to_the_probability_asked_for_or_to_surely_gone(bench, wanted, after, far):
    assert bench.distance(explained(Target(wanted), after)) == pytest.approx(far, abs=0.011)


def test_a_map_counts_in_parts_of_its_own_maximum(bench, monkeypatch):
    mask = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    mask[..., 0, 0] = True
    maps = [torch.where(mask, 8.0, 2.0), torch.where(mask, 0.8, 0.2)]
    told = [("x", explained(Target(((0, 0.0),)), [0.4, 0.9], heat), Truth(mask=mask)) for heat in maps]
    monkeypatch.setattr(bench, "with_truth", lambda *_: told)
    found = bench.inside_outside(SimpleNamespace(out=None, manifest=None))
    assert found == {"inside_outside_ratio": pytest.approx(4), "inside_outside_median": pytest.approx(4)}
