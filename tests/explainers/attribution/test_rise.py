import pytest
import torch
from torch.nn import functional as F

from counterscan.classifiers.function import FunctionClassifier
from counterscan.core import Card, Target
from counterscan.errors import CounterscanError
from counterscan.explainers.attribution.rise import BLOCK, RISE, axis_weights, mask_variance
from counterscan.explainers.attribution.substrate import border_median

SIDE = 24
CARD = Card(name="linear", shape=(1, SIDE, SIDE), classes=("lesion",), scale="probabilities")
TARGET = Target.parse("lesion=0", CARD)


def probability(weights: torch.Tensor, offset: float = 0.5) -> FunctionClassifier:
    """A black box whose probability is linear in the pixels."""
    return FunctionClassifier(lambda x: offset + (x * weights.numpy()).sum((1, 2, 3))[:, None], CARD)


@pytest.fixture
def weights():
    """Something in one corner speaks for the lesion, something in another against it."""
    weights = torch.zeros(1, SIDE, SIDE)
    weights[:, 4:9, 4:9] = 0.01
    weights[:, 15:20, 14:19] = -0.008
    return weights


def masks(s: int, p: float, n: int = 4000) -> torch.Tensor:
    torch.manual_seed(0)
    explainer = RISE(s=s, p=p)
    return torch.cat([m for _ in range(0, n, BLOCK) for m in explainer._block((SIDE, SIDE), BLOCK)])[:n]


@pytest.mark.parametrize(("s", "p"), [(4, 0.5), (7, 0.3)])
def test_masks_have_the_mean_and_variance_of_the_closed_form(s, p):
    drawn = masks(s, p)
    assert drawn.shape == (4000, 1, SIDE, SIDE)
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert (drawn.mean(0) - p).abs().max() < 0.035
    torch.testing.assert_close(drawn[:, 0].var(0), mask_variance((SIDE, SIDE), s, p), rtol=0.15, atol=0)


def test_masks_are_the_paper_s_stretched_and_shifted_grids():
    """Each mask is a crop of the bilinearly enlarged grid: the separable weights equal torch's interpolation."""
    s, cell = 5, 5  # ceil(24 / 5)
    grid = torch.rand(s, s, generator=torch.Generator().manual_seed(0))
    large = F.interpolate(grid[None, None], size=((s + 1) * cell,) * 2, mode="bilinear", align_corners=False)[0, 0]
    weights = axis_weights(SIDE, s)
    assert weights.shape == (cell, SIDE, s)
    for y, x in ((0, 0), (2, 4), (4, 1)):
        torch.testing.assert_close(weights[y] @ grid @ weights[x].T, large[y : y + SIDE, x : x + SIDE])


def test_a_linear_model_has_the_map_of_the_closed_form(weights):
    """f = 0.5 + sum w x M: a pixel's slope is sum_u w_u x_u Cov(M_u, M_x) / Var(M_x), the covariance in closed form."""
    s, p = 4, 0.5
    images = torch.rand(2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    explainer = RISE(masks=6000, s=s, p=p, fill=0.0, batch=250, converged=0)
    torch.manual_seed(0)
    slope = explainer.run(probability(weights), images, TARGET)[:, 0]

    axis = axis_weights(SIDE, s)
    along = torch.einsum("oyg,ozg->oyz", axis, axis).mean(0)  # E[sum_g W(y, g) W(z, g)] over shifts, one axis
    effect = (weights * images[:, 0]) * p * (1 - p)
    truth = torch.einsum("yu,buv,xv->byx", along, effect, along) / mask_variance((SIDE, SIDE), s, p)
    assert (slope - truth).abs().max() < 0.1 * truth.abs().max()
    assert torch.corrcoef(torch.stack([slope.flatten(), truth.flatten()]))[0, 1] > 0.99


def test_the_map_points_at_what_speaks_for_the_lesion_and_nowhere_else(weights):
    images = torch.ones(1, 1, SIDE, SIDE)
    heatmap = RISE(masks=1000, s=6, fill=0.0)(probability(weights, 0.4), images, TARGET).heatmap[0, 0]
    row, column = divmod(int(heatmap.argmax()), SIDE)
    assert 4 <= row < 9
    assert 4 <= column < 9
    assert heatmap[15:20, 14:19].max() < 0.3 * heatmap.max()
    # asked the other way round it points at what speaks against the lesion
    other = RISE(masks=1000, s=6, fill=0.0)(probability(weights, 0.4), images, Target.parse("lesion=1", CARD)).heatmap
    row, column = divmod(int(other.argmax()), SIDE)
    assert 15 <= row < 20
    assert 14 <= column < 19


def test_a_model_that_always_answers_the_same_has_an_empty_map():
    constant = probability(torch.zeros(1, SIDE, SIDE), 0.9)
    heatmap = RISE(masks=50)(constant, torch.rand(2, 1, SIDE, SIDE), TARGET).heatmap
    assert heatmap.abs().max() < 1e-5


def test_it_does_not_depend_on_the_batch_of_images_nor_of_masks(weights):
    images = torch.rand(3, 1, SIDE, SIDE)
    classifier = probability(weights)
    together = RISE(masks=40, batch=16)(classifier, images, TARGET, seed=3)
    alone = torch.cat([RISE(masks=40, batch=7)(classifier, x[None], TARGET, seed=3).heatmap for x in images])
    torch.testing.assert_close(together.heatmap, alone, rtol=1e-3, atol=1e-5)
    assert together.meta["queries"] == 3 + 3 * 40
    assert not torch.equal(together.heatmap, RISE(masks=40)(classifier, images, TARGET, seed=4).heatmap)


def test_it_asks_in_small_batches_whatever_the_number_of_masks():
    sizes = []
    seen = FunctionClassifier(lambda x: (sizes.append(len(x)), x.mean((1, 2, 3))[:, None] * 0)[1] + 0.5, CARD)
    RISE(masks=100, batch=8)(seen, torch.rand(2, 1, SIDE, SIDE), TARGET)
    assert max(sizes) == 8


def test_it_stops_when_the_map_has_converged_and_not_before(weights):
    """Two images: one with a strong finding, whose map is soon known, and one of which nothing is seen but chance."""
    images = torch.stack([torch.ones(1, SIDE, SIDE), torch.zeros(1, SIDE, SIDE)])
    generator = torch.Generator().manual_seed(0)

    def noisy(x):
        noise = 0.01 * torch.randn(len(x), 1, generator=generator).numpy()
        return 0.5 + (x * weights.numpy()).sum((1, 2, 3))[:, None] + noise

    classifier = FunctionClassifier(noisy, CARD)
    settings = {"masks": 2000, "s": 4, "fill": 0.0}
    strong, silent = (RISE(**settings)(classifier, x[None], TARGET) for x in images)
    assert strong.meta["queries"] < 1000
    assert (strong.meta["queries"] - 1) % (2 * BLOCK) == 0
    assert silent.meta["queries"] == 1 + 2000
    assert RISE(**settings, converged=0.01)(classifier, images[:1], TARGET).meta["queries"] > strong.meta["queries"]
    assert RISE(**settings, converged=0)(classifier, images[:1], TARGET).meta["queries"] == 1 + 2000


def test_a_map_that_stopped_is_as_near_to_the_full_one_as_it_says(weights):
    images = torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    full = RISE(masks=6000, s=4, fill=0.0, converged=0).run(probability(weights), images, TARGET)
    errors = []
    for seed in range(6):
        torch.manual_seed(seed)
        stopped = RISE(masks=6000, s=4, fill=0.0, converged=0.05).run(probability(weights), images, TARGET)
        errors.append(float((stopped - full).square().mean().sqrt() / (full.max() - full.min())))
    assert 0.02 < sum(errors) / 6 < 0.07


def test_an_image_stops_by_itself_whatever_is_explained_beside_it(weights):
    images = torch.stack([torch.ones(1, SIDE, SIDE), torch.rand(1, SIDE, SIDE) * 0.2])
    settings = {"masks": 1000, "s": 4, "fill": 0.0, "converged": 0.06}
    together = RISE(**settings)(probability(weights), images, TARGET)
    alone = [RISE(**settings)(probability(weights), x[None], TARGET) for x in images]
    torch.testing.assert_close(together.heatmap, torch.cat([one.heatmap for one in alone]), rtol=1e-3, atol=1e-5)
    assert together.meta["queries"] == sum(one.meta["queries"] for one in alone)


def test_hidden_pixels_take_the_border_s_median():
    images = torch.full((2, 1, SIDE, SIDE), 0.5)
    images[0, :, 0], images[0, :, -1], images[0, :, :, 0], images[0, :, :, -1] = (-1.0,) * 4
    images[0, :, 0, 3] = 1.0
    assert border_median(images).tolist() == [[-1.0], [0.5]]
    values = []
    seen = FunctionClassifier(
        lambda x: (values.append((x.min(), x.max())), x.mean((1, 2, 3))[:, None] * 0)[1] + 0.5, CARD
    )
    RISE(masks=20)(seen, images[1:], TARGET)
    assert all(low >= 0.4999 and high <= 0.5001 for low, high in values)


def test_volumes():
    card = CARD.model_copy(update={"shape": (1, 8, 10, 12)})
    w = torch.zeros(1, 8, 10, 12)
    w[:, :3, :3, 8:] = 0.01
    classifier = FunctionClassifier(lambda x: 0.3 + (x * w.numpy()).sum((1, 2, 3, 4))[:, None], card)
    explainer = RISE(masks=300, s=3, fill=0.0)
    heatmap = explainer(classifier, torch.ones(1, 1, 8, 10, 12), TARGET).heatmap
    assert heatmap.shape == (1, 1, 8, 10, 12)
    assert heatmap[0, 0, :3, :3, 8:].mean() > 3 * heatmap.mean()


@pytest.mark.parametrize("wrong", [{"p": 1.5}, {"p": 0.0}, {"s": 1}, {"masks": 1}, {"batch": 0}, {"converged": 1.0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(CounterscanError, match="rise needs masks >= 2"):
        RISE(**wrong)
