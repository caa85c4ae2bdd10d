"""Where a reader is: numbers within a part, what may be fetched ahead, and the wait between two parts."""

from datetime import UTC, datetime, timedelta

import pytest

pytest.importorskip("sqlalchemy")

from counterscan.study.records import Study
from counterscan.study.store import Said
from counterscan.web.study_place import AHEAD, DONE, TRIAL, WAIT, place_of, reach, steps_of

NOW = datetime(2026, 1, 31, tzinfo=UTC)


@pytest.fixture
def steps(maker):
    """Practice that is told, four trials, and a timed part thirty days later."""
    maker.part("real-or-synthetic", feedback=True)
    maker.yes_no(1, "training")
    maker.yes_no(4)
    maker.part("real-or-synthetic", longest=2.0)
    maker.yes_no(2)
    study = Study.load(maker.save())
    order = [(trial.id, trial.pictures) for trial in study.trials]
    return steps_of(study, order, {1: 0, 2: 30})


def said(steps, n, when=NOW):
    return [Said(step.trial.id, f"n{at}", when.isoformat()) for at, step in enumerate(steps[:n])]


def test_trials_are_numbered_within_their_part_and_practice_apart(steps):
    assert [(step.sitting, step.practice, step.number, step.of) for step in steps] == [
        (1, True, 1, 1),
        *((1, False, at, 4) for at in (1, 2, 3, 4)),
        *((2, False, at, 2) for at in (1, 2)),
    ]


def test_what_may_be_fetched_stays_within_the_part_and_never_leaves_practice_or_time_behind(steps):
    ahead = [len(reach(steps, index)) for index in range(len(steps))]
    assert ahead == [1, 1 + AHEAD, 1 + AHEAD, 2, 1, 1, 1]


def test_the_next_part_waits_for_the_days_since_the_last_answer(steps):
    early, due = NOW + timedelta(days=29), NOW + timedelta(days=30)
    assert place_of(steps, said(steps, 4), early).phase == TRIAL
    waiting = place_of(steps, said(steps, 5), early)
    assert (waiting.phase, waiting.index, waiting.until) == (WAIT, 5, due.isoformat())
    assert place_of(steps, said(steps, 5), due).phase == TRIAL
    assert place_of(steps, said(steps, 6), early).phase == TRIAL  # once begun, a part goes on
    assert place_of(steps, said(steps, 7), early).phase == DONE
