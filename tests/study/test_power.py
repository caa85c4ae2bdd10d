"""Sizes of studies: against published figures, and against simulated studies of the very model."""

import numpy as np
import pytest

from counterscan.errors import CounterscanError
from counterscan.study import power
from counterscan.study.power import Spread
from counterscan.study.sizing import Wish, sized


@pytest.mark.parametrize(("share", "trials"), [(0.55, 810), (0.6, 210), (0.65, 92), (0.7, 54), (0.75, 35)])
def test_trials_of_the_exact_binomial_test(share, trials):
    found = power.trials_for_share(share)
    assert found == pytest.approx(trials, rel=0.06)  # the power goes up and down: neighbours are a matter of the rule
    assert power.binomial_power(trials, share) >= 0.8
    assert all(power.binomial_power(n, share) >= 0.8 for n in range(found, found + found // 10))


def test_the_exact_test_keeps_its_size():
    sizes = [power.binomial_power(n, 0.5) for n in range(6, 60)]
    assert max(sizes) <= 0.05
    assert power.binomial_power(10, 0.5) == pytest.approx(22 / 1024)  # rejects at 0, 1, 9 and 10 of 10


@pytest.mark.parametrize(("margin", "trials"), [(0.05, 857), (0.1, 215), (0.15, 96)])
def test_trials_of_two_one_sided_tests(margin, trials):
    assert power.trials_for_equivalence(margin) == trials


@pytest.mark.parametrize(("trials", "half"), [(50, 0.134), (100, 0.096), (200, 0.069), (300, 0.056)])
def test_wilson_half_widths(trials, half):
    assert power.wilson_half_width(trials) == pytest.approx(half, abs=5e-4)


@pytest.mark.parametrize(("dprime", "shares"), [(1, (0.691, 0.76, 0.552, 0.418)), (0.5, (0.599, 0.638, 0.393, 0.356))])
def test_one_sensitivity_gives_other_shares_in_other_tasks(dprime, shares):
    tasks = (("lesion", 2), ("forced-choice", 2), ("forced-choice", 4), ("odd-one-out", 3))
    assert [power.share_correct(dprime, *task) for task in tasks] == pytest.approx(shares, abs=5e-4)


def test_the_variance_of_an_auc_of_half_is_that_of_the_rank_test():
    assert power.auc_variance(0.5, 30, 50) == pytest.approx(81 / (12 * 30 * 50))


def simulated(readers, variance, spread, mean, studies=4000):
    """Means and standard errors of simulated studies: readers, cases that they share, and the rest."""
    random = np.random.default_rng(1)
    shared = random.normal(0, np.sqrt(spread.same_method * variance), (studies, 1))
    own = np.sqrt(spread.reader_sd**2 + (1 - spread.same_method) * variance)
    index = mean + shared + random.normal(0, own, (studies, readers))
    between = index.var(1, ddof=1)
    error2 = between / readers + spread.same_method * variance
    return index.mean(1), np.sqrt(error2), error2**2 / ((between / readers) ** 2 / (readers - 1))


@pytest.mark.parametrize(("readers", "cases"), [(4, 100), (8, 60)])
def test_the_power_for_many_readers_is_that_of_simulated_studies(readers, cases):
    from scipy.stats import t

    spread, variance = Spread(reader_sd=0.04), power.auc_variance(0.6, cases // 2, cases // 2)
    mean, error, df = simulated(readers, variance, spread, 0.1)
    assert (np.abs(mean) > error * t.isf(0.025, df)).mean() == pytest.approx(
        power.mean_power(0.1, readers, variance, spread), abs=0.04
    )
    null, error, df = simulated(readers, variance, spread, 0)
    within = (np.abs(null) + error * t.isf(0.05, df) < 0.2).mean()
    assert within == pytest.approx(power.mean_equivalence_power(0.2, readers, variance, spread), abs=0.04)


def test_the_power_for_two_methods_is_the_size_without_a_difference_and_grows_with_all():
    spread, variance = Spread(), power.auc_variance(0.75, 50, 50)
    assert power.difference_power(0, 5, variance, spread) == pytest.approx(0.05, abs=1e-6)
    base = power.difference_power(0.05, 5, variance, spread)
    assert base < power.difference_power(0.05, 10, variance, spread)
    assert base < power.difference_power(0.05, 5, variance / 2, spread)
    assert base < power.difference_power(0.08, 5, variance, spread) < power.difference_power(0.9, 5, variance, spread)


def test_cases_are_the_fewest_that_are_enough_and_none_where_readers_are_too_few():
    enough = power.cases_for(lambda n: n / 1000, 0.8)
    assert enough == 800
    assert power.cases_for(lambda n: min(n / 1000, 0.7), 0.8) is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({}, "give one of --share"),
        ({"share": 0.6, "margin": 0.1}, "give one of --share"),
        ({"share": 0.5}, "cannot be told from chance"),
        ({"margin": 0.6}, "a margin lies between"),
        ({"share": 0.6, "power": 1.2}, "between 0 and 1"),
    ],
)
def test_what_cannot_be_sized_is_refused(words, message):
    with pytest.raises(CounterscanError, match=message):
        sized(Wish("real-or-synthetic", **words), Spread(), [5], [100])


def test_the_table_names_more_readers_where_cases_alone_do_not_help():
    lines = sized(Wish("forced-choice", share=0.55), Spread(reader_sd=0.1), [3, 40], [100])
    assert lines[5].endswith("more readers")
    assert not lines[6].endswith("more readers")
