import numpy as np
import pytest

from counterscan.study.analysis.grid import grid_of
from counterscan.study.analysis.preference import bradley_terry, preferred
from counterscan.study.records import Reading

PAIRS = [("a", "b"), ("a", "c"), ("b", "c")]
TRUE = {"a": 1.0, "b": 0.0, "c": -1.0}

SAME = {"part": 1, "task": "side-by-side", "role": "test", "chance": 0.5, "rt_ms": 900}
SAME |= dict.fromkeys(("truth", "score", "correct", "rating"))


SAME = {"part": 1, "task": "side-by-side", "role": "test", "chance": 0.5, "rt_ms": 900}
SAME |= dict.fromkeys(("truth", "score", "correct", "rating"))


def grid(readers=6, cases=300, true=TRUE, seed=0, taste=0.0):
    """Answers to pairs by readers who each like "b" more or less than others do, with the deviation `taste`."""
    rng, rows = np.random.default_rng(seed), []
    liking = taste * rng.normal(size=readers)
    for n in range(cases):
        first, second = PAIRS[n % 3]
        for reader in range(readers):
            worth = {**true, "b": true["b"] + liking[reader]}
            won = first if rng.random() < 1 / (1 + np.exp(worth[second] - worth[first])) else second
            told = {
                "reader": f"r{reader}",
                "case": f"c{n}",
                "trial": f"t{n}",
                "arm": f"{first}|{second}",
                "method": won,
            }
            rows.append(Reading(**told, **SAME, choice=won))
    return grid_of(rows)


def test_strengths_are_those_the_answers_were_drawn_with():
    found = {one.method: one for one in bradley_terry(grid())}
    assert list(found) == ["a", "b", "c"]
    for name, true in TRUE.items():
        assert found[name].low < true < found[name].high
    assert sum(one.value for one in found.values()) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("taste", [0.0, 1.0])
def test_intervals_hold_the_truth(taste):
    drawn = [bradley_terry(grid(cases=60, readers=8, seed=seed, taste=taste)) for seed in range(30)]
    held = [next(one for one in found if one.method == "b") for found in drawn]
    assert np.mean([one.low <= 0 <= one.high for one in held]) >= 0.86


def test_one_that_always_wins_is_finite_and_few_readers_have_no_interval():
    found = bradley_terry(grid(readers=2, cases=30, true={"a": 60.0, "b": 0.0, "c": -60.0}))
    assert np.isfinite([one.value for one in found]).all()
    assert all(np.isnan(one.low) and one.over == "nothing" for one in found)


def test_each_pair_is_tested_against_one_half():
    rows = {(row["first"], row["second"]): row for row in preferred(grid())["comparisons"]}
    assert rows["a", "c"]["value"] == pytest.approx(1 / (1 + np.exp(-2)), abs=0.05)
    assert rows["a", "c"]["p"] <= rows["a", "c"]["p_holm"] < 0.001
