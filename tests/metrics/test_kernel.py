import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import polynomial_kernel

from counterscan.errors import CounterscanError
from counterscan.metrics import kernel
from counterscan.metrics.kernel import KernelBlocks, kernel_distance, kernel_floor


def drawn(n, d, seed, mean=0.0, scale=1.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale + mean


def written_out(real, fake):
    """The U-statistic with scikit-learn's kernel, pair by pair."""
    first, second, across = (
        polynomial_kernel(a, b, degree=3, coef0=1) for a, b in ((real, real), (fake, fake), (real, fake))
    )
    n, m = len(real), len(fake)
    within = sum(first[i, j] for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    return within + sum(second[i, j] for i in range(m) for j in range(m) if i != j) / (m * (m - 1)) - 2 * across.mean()


def test_it_is_the_mean_over_all_pairs():
    real, fake = drawn(17, 5, 0), drawn(11, 5, 1, mean=0.3)
    found = kernel_distance(real, fake)
    assert found.value == pytest.approx(written_out(real.numpy(), fake.numpy()), rel=1e-10)
    assert (found.n_real, found.n) == (17, 11)


def test_on_average_it_is_the_closed_form_even_for_few_images():
    # with one feature k = (ab + 1)^3, so the distance is the sum over j of C(3, j) (E a^j - E b^j)^2
    mean, scale = 0.8, 0.5
    moments = np.array([mean, mean**2 + scale**2, mean**3 + 3 * mean * scale**2]) - np.array([0, 1, 0])
    expected = float(np.array([3, 3, 1]) @ moments**2)
    values = [kernel_distance(drawn(12, 1, seed), drawn(9, 1, 5000 + seed, mean, scale)).value for seed in range(500)]
    assert np.mean(values) == pytest.approx(expected, abs=4 * np.std(values) / math.sqrt(len(values)))


def test_torchmetrics_agrees_where_it_takes_all_images():
    pytest.importorskip("torchmetrics")
    from torchmetrics.image.kid import KernelInceptionDistance

    metric = KernelInceptionDistance(feature=torch.nn.Identity(), subsets=1, subset_size=40)
    real, fake = drawn(40, 6, 0).float(), drawn(40, 6, 1, mean=0.5).float()
    metric.update(real, real=True)
    metric.update(fake, real=False)
    assert kernel_distance(real, fake).value == pytest.approx(float(metric.compute()[0]), rel=1e-3)


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 24), st.integers(12, 60), st.integers(12, 60), st.integers(0, 1000))
def test_zero_is_in_the_interval_of_two_samples_of_one_distribution(d, n, m, seed):
    inside = 0
    for draw in range(20):
        found = kernel_distance(drawn(n, d, 40 * seed + draw).relu(), drawn(m, d, 90_001 + 40 * seed + draw).relu())
        inside += found.estimate.low <= 0 <= found.estimate.high
    assert inside >= 17  # of 20; the jackknife's interval is rather too wide, and holds 99 % of them


def test_the_error_is_that_of_repetitions_where_the_sets_differ():
    found = [kernel_distance(drawn(80, 4, seed), drawn(80, 4, 900 + seed, mean=0.7)) for seed in range(120)]
    spread = np.std([one.value for one in found])
    assert np.mean([one.error for one in found]) == pytest.approx(spread, rel=0.25)
    assert all(one.estimate.low > 0 for one in found)


def test_the_error_counts_patients_and_not_their_copies():
    real, fake = drawn(40, 3, 0), drawn(10, 3, 1, mean=0.5)
    copies = fake.repeat(4, 1)
    patients = [str(index % 10) for index in range(40)]
    told = kernel_distance(real, copies, fake_patients=patients).error
    assert told > 1.5 * kernel_distance(real, copies).error


def test_blocks_are_averaged_by_their_size_and_the_longer_set_waits():
    real, fake = drawn(50, 3, 0), drawn(25, 3, 1, mean=0.4)
    parts = [kernel_distance(real[:10], fake[:10]), kernel_distance(real[10:20], fake[10:20])]
    last = kernel_distance(real[20:30], fake[20:25])
    found = kernel_distance(real, fake, block=10)
    assert found.value == pytest.approx((10 * parts[0].value + 10 * parts[1].value + 5 * last.value) / 25)
    assert found.error == pytest.approx(
        math.sqrt((10 * parts[0].error) ** 2 + (10 * parts[1].error) ** 2 + (5 * last.error) ** 2) / 25
    )
    assert (found.n, found.n_real) == (25, 30)


def test_what_does_not_fit_is_refused():
    with pytest.raises(CounterscanError, match="two real and two made"):
        kernel_distance(drawn(9, 3, 0), drawn(1, 3, 1))
    with pytest.raises(CounterscanError, match=r"\(9, 3\) with \(9, 4\)"):
        kernel_distance(drawn(9, 3, 0), drawn(9, 4, 1))
    with pytest.raises(CounterscanError, match="NaN"):
        KernelBlocks().add(drawn(9, 3, 0), torch.full((9, 3), math.nan))


def test_the_floor_is_what_chance_gives_at_that_size_and_deals_whole_patients():
    real = drawn(300, 4, 0)
    floor = kernel_floor(real, (100, 200), deals=150)
    assert abs(floor.mean()) < 3 * floor.std() / 150**0.5
    assert floor.std() < kernel_floor(real, (20, 30), deals=150).std()
    made = kernel_distance(real[:200], drawn(100, 4, 1, mean=1.0)).value
    assert made > np.quantile(floor, 0.95)
    thrice, whose = real[:60].repeat(3, 1), [f"p{index % 60}" for index in range(180)]
    torn, whole = (kernel_floor(thrice, (90, 90), names, deals=100).std() for names in ((), whose))
    assert whole > 1.3 * torn, "images of one patient on both sides would make sets look alike"


def test_one_deal_of_the_floor_is_the_kernel_distance_of_its_sides(monkeypatch):
    real, sides = drawn(24, 3, 0), np.zeros((2, 24))
    sides[0, :10] = sides[1, 10:22] = 1
    monkeypatch.setattr(kernel, "_dealt", lambda groups, sizes, generator: sides)
    assert kernel_floor(real, (10, 12), deals=1)[0] == pytest.approx(kernel_distance(real[:10], real[10:22]).value)
