import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity as oracle

from counterscan.core import Explanation, Target
from counterscan.metrics.closeness import (
    SCALES,
    changed_share,
    l1,
    l2,
    ms_ssim,
    multiscale,
    ssim,
    structural_similarity,
)


def explain(images, counterfactual, before=1.0, reconstruction=None):
    n = len(images)
    return Explanation(
        images=images,
        target=Target(((0, 0.0),)),
        heatmap=images[:, :1].abs(),
        before=torch.full((n, 1), before),
        after=-torch.ones(n, 1),
        found=torch.ones(n, dtype=torch.bool),
        counterfactual=counterfactual,
        reconstruction=reconstruction,
    )


def pair(n=2, channels=1, side=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand(n, channels, side, side, generator=generator) * 2 - 1
    return first, (first + 0.3 * torch.randn(first.shape, generator=generator)).clamp(-1, 1)


def test_units_are_shares_of_the_window():
    image = torch.zeros(1, 1, 16, 16)
    changed = image.clone()
    changed[..., :8] = 0.2
    explanation = explain(image, changed)
    assert float(l1(explanation)) == pytest.approx(0.05)
    assert float(l2(explanation)) == pytest.approx(0.1 * 0.5**0.5)
    assert float(changed_share(explanation)) == pytest.approx(0.5)
    assert float(changed_share(explain(image, image + 0.039))) == 0


def test_change_is_measured_from_the_reconstruction_where_there_is_one():
    image = torch.zeros(1, 1, 16, 16)
    assert float(l1(explain(image, image + 0.5, reconstruction=image + 0.5))) == 0


def test_images_already_there_and_attributions_are_left_out():
    first, second = pair()
    for metric in (l1, l2, changed_share, ssim, ms_ssim):
        assert metric(explain(first, second, before=-1.0)).isnan().all()
        assert metric(explain(first, None)).isnan().all()
        assert not metric(explain(first, second)).isnan().any()


def reference(first, second):
    """scikit-image with the settings of Wang et al. 2004, on [0, 1]."""
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    first, second = (first.double().numpy() + 1) / 2, (second.double().numpy() + 1) / 2
    return [oracle(a, b, channel_axis=0, **settings) for a, b in zip(first, second, strict=True)]


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_equals_scikit_image(channels):
    first, second = pair(channels=channels)
    assert structural_similarity(first, second).tolist() == pytest.approx(reference(first, second), abs=1e-6)


def test_ssim_of_a_volume_is_the_mean_of_its_slices():
    first, second = pair(n=4, side=32)
    volumes = (first.permute(1, 2, 3, 0)[None], second.permute(1, 2, 3, 0)[None])
    expected = np.mean(reference(first, second))
    assert float(structural_similarity(*volumes)) == pytest.approx(expected, abs=1e-6)


def by_hand(first, second, depth):
    """MS-SSIM as in the paper's formula, with scipy."""
    a, b = (first.double().numpy() + 1) / 2, (second.double().numpy() + 1) / 2
    weights, result = np.array(SCALES[:depth]) / sum(SCALES[:depth]), 1.0
    for level in range(depth):
        blur = lambda x: gaussian_filter(x, 1.5, truncate=3.5)[5:-5, 5:-5]  # noqa: E731
        ma, mb = blur(a), blur(b)
        structure = (2 * (blur(a * b) - ma * mb) + 0.0009) / (blur(a * a) - ma**2 + blur(b * b) - mb**2 + 0.0009)
        luminance = (2 * ma * mb + 0.0001) / (ma**2 + mb**2 + 0.0001)
        result *= (structure * (luminance if level == depth - 1 else 1)).mean() ** weights[level]
        a, b = (x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2).mean((1, 3)) for x in (a, b))
    return result


@pytest.mark.parametrize(("side", "depth"), [(128, 4), (192, 5), (16, 1)])
def test_ms_ssim_equals_the_formula_with_as_many_scales_as_fit(side, depth):
    first, second = pair(n=1, side=side)
    assert float(multiscale(first, second)) == pytest.approx(by_hand(first[0, 0], second[0, 0], depth), abs=1e-6)


def test_identical_and_tiny_images():
    first, _ = pair()
    assert structural_similarity(first, first).tolist() == pytest.approx([1, 1])
    assert multiscale(first, first).tolist() == pytest.approx([1, 1])
    assert structural_similarity(first[..., :8, :8], first[..., :8, :8]).isnan().all()
    assert multiscale(first[..., :8, :8], first[..., :8, :8]).isnan().all()
