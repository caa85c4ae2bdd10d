import numpy as np
import pytest

from counterscan.study.analysis.grid import grid_of
from counterscan.study.analysis.ratings import rated
from counterscan.study.records import readings


@pytest.fixture(scope="module")
def grid(study, answered):
    return grid_of([one for one in readings(study, answered) if one.part == 2])


def test_real_pictures_are_rated_above_poor_ones(grid):
    found = rated(grid, 0.05)
    rows = {(row["first"], row["second"]): row for row in found["comparisons"]}
    assert set(found["arms"]) == {"real", "gan", "inpainting", "latent"}
    assert rows["real", "gan"]["low"] > 0.5
    assert rows["real", "gan"]["p_holm"] < 0.05
    assert rows["real", "inpainting"]["p_holm"] > rows["real", "gan"]["p_holm"]


def test_the_share_is_that_of_all_pairs(grid):
    row = rated(grid, 0.05)["comparisons"][0]
    real, gan = grid.rating[:, grid.truth == 0], grid.rating[:, grid.arms == "gan"]
    wins = (real[:, :, None] > gan[:, None]) + 0.5 * (real[:, :, None] == gan[:, None])
    assert row["value"] == pytest.approx(wins.mean(), abs=1e-3)


def test_every_rating_is_counted(grid):
    levels = rated(grid, 0.05)["levels"]
    assert sum(map(sum, levels.values())) == grid.answers
    assert np.average(np.arange(1, 6), weights=levels["real"]) == pytest.approx(grid.rating[:, grid.truth == 0].mean())
