import numpy as np

from counterscan.study.analysis.grid import grid_of
from counterscan.study.records import readings


def test_every_reading_is_in_its_place(study, answered):
    rows = [one for one in readings(study, answered) if one.part == 1 and one.role == "test"]
    grid = grid_of(rows[::-1])  # in whatever order they come
    one = rows[17]
    at = grid.readers.index(one.reader), grid.trials.index(one.trial)
    assert (grid.score[at], grid.correct[at], grid.seconds[at]) == (one.score, one.correct, one.rt_ms / 1000)
    assert grid.truth[at[1]] == one.truth
    assert grid.answers == len(rows)


def test_trials_of_one_case_have_one_number(study, answered):
    grid = grid_of([one for one in readings(study, answered) if one.part == 1 and one.role == "test"])
    assert grid.cases_read == 36
    assert len(grid.trials) == 72


def test_an_arm_is_its_own_pictures_and_those_that_serve_all(study, answered):
    grid = grid_of([one for one in readings(study, answered) if one.part == 1 and one.role == "test"])
    read = ~np.isnan(grid.arm("gan").score).all(0)
    assert set(grid.arms[read]) == {"", "gan"}
    assert grid.shown == ["gan", "inpainting", "latent"]
