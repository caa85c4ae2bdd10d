import numpy as np
import pytest

from counterscan.study.analysis.grid import grid_of
from counterscan.study.analysis.indices import area
from counterscan.study.analysis.judgements import choosing, roc, seconds_of, yes_no
from counterscan.study.records import readings


def grid(study, answered, part, *more):
    return grid_of([one for one in readings(study, answered) if one.part in (part, *more) and one.role == "test"])


def test_each_method_is_judged_against_all_real_pictures(study, answered):
    one = grid(study, answered, 1)
    found = yes_no(one, "real-or-synthetic", 0.05)
    mine = (one.arms == "gan") | (one.truth == 0)
    alone = area(one.score[:, mine], one.truth[mine] == 1).values
    assert found["arms"]["gan"]["auc"]["values"] == pytest.approx(alone, abs=1e-3)
    assert found["arms"]["gan"]["auc"]["value"] > found["arms"]["inpainting"]["auc"]["value"]


def test_comparisons_are_differences_with_adjusted_p(study, answered):
    found = yes_no(grid(study, answered, 1), "real-or-synthetic", 0.05)
    rows = {(row["figure"], row["first"], row["second"]): row for row in found["comparisons"]}
    row = rows["auc", "gan", "inpainting"]
    difference = found["arms"]["gan"]["auc"]["value"] - found["arms"]["inpainting"]["auc"]["value"]
    assert row["value"] == pytest.approx(difference, abs=1e-3)
    assert row["p"] <= row["p_holm"] < 0.05


def test_the_curve_has_the_area(study, answered):
    one = grid(study, answered, 1)
    x, y = np.array(roc(one)).T
    assert (x[-1], y[-1]) == (1, 1)
    assert np.trapezoid(y, x) == pytest.approx(area(one.score, one.truth == 1).values.mean(), abs=0.01)


def test_an_explanation_that_helps_is_found_to_help(study, answered):
    found = yes_no(grid(study, answered, 4, 3 + 2), "lesion", 0.05)  # the parts without and with
    assert "equivalence" not in found
    row = found["comparisons"][0]
    assert (row["first"], row["second"]) == ("with", "without")
    assert row["low"] > 0
    ratio = next(row for row in found["comparisons"] if "ratio" in row["figure"])
    assert ratio["low"] < ratio["value"] < ratio["high"]
    assert 0.8 < ratio["value"] < 1.25


def test_choices_are_told_with_the_sensitivity_that_gives_them(study, answered):
    found = choosing(grid(study, answered, 6), "forced-choice", 2, 0.05)
    right, d = found["figures"]["accuracy"], found["figures"]["d_prime"]
    assert right["chance"] == 0.5
    assert d["low"] < d["value"] < d["high"]
    triple = choosing(grid(study, answered, 7), "odd-one-out", 3, 0.05)
    assert triple["figures"]["accuracy"]["chance"] == pytest.approx(1 / 3, abs=1e-4)
    assert {row["of"] for row in triple["equivalence"]} == {"all", "gan", "inpainting", "latent"}


def test_times_are_geometric_means(study, answered):
    one = grid(study, answered, 1)
    found = seconds_of(one)
    assert found.value == pytest.approx(np.exp(np.log(one.seconds).mean()))
    assert found.low < found.value < found.high
