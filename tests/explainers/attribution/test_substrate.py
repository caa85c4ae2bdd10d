import pytest
import torch

from counterscan.errors import CounterscanError
from counterscan.explainers.attribution.substrate import blurred, check_fill, substrate

IMAGES = torch.rand(2, 3, 20, 30, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_numbers_means_and_borders_are_the_same_everywhere():
    for fill in (0.25, "mean", "border", None):
        values = substrate(IMAGES, fill)
        assert values.shape == IMAGES.shape
        assert torch.equal(values, values[:, :, :1, :1].expand_as(values))
    assert substrate(IMAGES, 0.25).unique().tolist() == [0.25]
    torch.testing.assert_close(substrate(IMAGES, "mean")[:, :, 0, 0], IMAGES.mean((2, 3)))
    assert torch.equal(substrate(IMAGES, "border"), substrate(IMAGES, None))


@pytest.mark.parametrize("shape", [(1, 1, 40, 40), (1, 1, 20, 20, 20)])
def test_a_blur_keeps_what_is_flat_and_takes_away_a_spot(shape):
    flat = torch.full(shape, 0.3)
    torch.testing.assert_close(substrate(flat, "blur"), flat)
    spot = torch.full(shape, -1.0)
    spot[(..., *[slice(9, 11)] * (len(shape) - 2))] = 1
    assert substrate(spot, "blur").max() < -0.8


@pytest.mark.parametrize(("wrong", "said"), [("blurr", "did you mean 'blur'"), (3.0, "in .-1, 1., got 3.0")])
def test_what_is_no_substrate_is_refused(wrong, said):
    with pytest.raises(CounterscanError, match=f"gradient: fill.*{said}"):
        check_fill(wrong, "gradient: fill")


def test_a_blur_keeps_a_constant_to_its_edge_and_spreads_a_point_by_its_share_of_the_side():
    torch.testing.assert_close(blurred(torch.ones(1, 2, 9, 12), 0.1), torch.ones(1, 2, 9, 12))
    point = torch.zeros(1, 1, 65, 65)
    point[0, 0, 32, 32] = 1
    spread = blurred(point, 0.04)[0, 0]
    place = torch.arange(65) - 32.0
    assert float((spread.sum(0) * place**2).sum().sqrt()) == pytest.approx(0.04 * 65, rel=1e-3)
