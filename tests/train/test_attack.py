import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from counterscan.core import Target
from counterscan.errors import CounterscanError
from counterscan.train.attack import PGD


def linear(weights):
    """A loss that is linear in the image: its highest point in a ball is known."""
    return lambda images: (images * weights).flatten(1).sum(1)


def network(outputs=3, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(1, 8, 3), nn.SiLU(), nn.Flatten(), nn.Linear(8 * 36, outputs)).eval()


def test_of_a_linear_loss_it_finds_the_highest_point_of_the_ball():
    weights = torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    images = torch.zeros(3, 2, 6, 6)
    change = PGD("l2", 0.5, steps=30, stride=30)(linear(weights), images)  # each long step halves what is left
    torch.testing.assert_close(change, (0.5 * weights / weights.norm()).expand(3, -1, -1, -1), atol=1e-5, rtol=0)
    change = PGD("linf", 0.1, steps=20)(linear(weights), images)
    torch.testing.assert_close(change, (0.1 * weights.sign()).expand(3, -1, -1, -1), atol=1e-6, rtol=0)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["l2", "linf"]), st.floats(0, 3), st.integers(1, 4), st.integers(1, 2), st.booleans())
def test_it_stays_in_the_ball_and_in_the_range(norm, radius, steps, restarts, scattered):
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    module, kept = network(), images.clone()
    found = PGD(norm, radius, steps, restarts, scattered=scattered)(lambda x: -module(x)[:, 0], images)
    change = (found - images).flatten(1)
    size = change.norm(dim=1) if norm == "l2" else change.abs().amax(1)
    assert size.max() <= radius + 1e-5
    assert found.abs().max() <= 1
    assert torch.equal(images, kept)
    assert not found.requires_grad
    assert all(parameter.grad is None for parameter in module.parameters())


def test_each_image_is_attacked_for_itself():
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    module, attack = network(), PGD("l2", 1.0, 5, scattered=False)
    together = attack(lambda x: -module(x)[:, 0], images)
    alone = attack(lambda x: -module(x)[:, 0], images[2:3])
    torch.testing.assert_close(together[2:3], alone, atol=1e-5, rtol=0)


def test_restarts_keep_the_worst_of_each_image():
    images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1

    def wavy(points):
        return (points * 9).sin().flatten(1).sum(1)

    torch.manual_seed(0)
    once = wavy(PGD("linf", 0.6, 3)(wavy, images))
    torch.manual_seed(0)
    often = wavy(PGD("linf", 0.6, 3, restarts=6)(wavy, images))
    assert (often >= once - 1e-4).all()
    assert (often > once + 0.1).any()


def test_a_target_is_a_loss_that_it_climbs_too():
    module, target = network(), Target(((1, 1.0),))
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    found = PGD("l2", 1.0, 5)(lambda x: target.loss(module(x)), images)
    assert (target.loss(module(found)) > target.loss(module(images))).all()


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_foolbox_takes_the_same_steps(norm):
    foolbox = pytest.importorskip("foolbox")
    module = network()
    images = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(2)) * 2 - 1
    labels = torch.tensor([0, 1, 2, 0, 1])
    radius, steps = {"l2": (1.5, 9), "linf": (0.2, 9)}[norm]
    kind = {
        "l2": foolbox.attacks.L2ProjectedGradientDescentAttack,
        "linf": foolbox.attacks.LinfProjectedGradientDescentAttack,
    }
    attack = kind[norm](abs_stepsize=2.5 * radius / steps, steps=steps, random_start=False)
    model = foolbox.PyTorchModel(module, bounds=(-1, 1), device="cpu")
    expected = attack.run(model, images, foolbox.criteria.Misclassification(labels), epsilon=radius)
    ours = PGD(norm, radius, steps, scattered=False)
    found = ours(lambda x: nn.functional.cross_entropy(module(x), labels, reduction="none"), images)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_settings_that_make_no_attack_are_refused():
    with pytest.raises(CounterscanError, match="norm is one of l2, linf"):
        PGD("l1")
    with pytest.raises(CounterscanError, match="steps >= 1"):
        PGD(steps=0)
    with pytest.raises(CounterscanError, match="radius >= 0"):
        PGD(radius=-1.0)
