import pytest

from counterscan.study.analysis import conduct
from counterscan.study.analysis.grid import grid_of
from counterscan.study.records import readings


def of(study, answers, part, role="test"):
    return [one for one in readings(study, answers) if one.part == part and one.role == role]


def test_a_reader_who_misses_checks_is_named(study, answered):
    checks = of(study, answered, 1, "check")
    assert conduct.attention(checks)["ada"] == {"n": 2, "right": 2, "attentive": True}
    careless = [one.model_copy(update={"correct": False}) if one.reader == "ben" else one for one in checks]
    assert conduct.attention(careless)["ben"] == {"n": 2, "right": 0, "attentive": False}


def test_repeats_are_compared_with_their_originals(study, answered):
    tests, repeats = of(study, answered, 1), of(study, answered, 1, "repeat")
    first = {(one.reader, one.trial): one.choice for one in tests}
    same = [one.choice == first[one.reader, one.repeat_of] for one in repeats]
    found = conduct.repeated(tests, repeats)
    assert found["all"]["same"] == pytest.approx(sum(same) / len(same), abs=1e-4)
    copied = [one.model_copy(update={"choice": first[one.reader, one.repeat_of]}) for one in repeats]
    assert conduct.repeated(tests, copied)["all"]["value"] == 1
    assert conduct.repeated(tests, []) == {}


def test_repeats_of_pictures_to_choose_from_are_compared_by_whether_they_are_right(study, answered):
    tests = of(study, answered, 6)
    repeats = [one.model_copy(update={"trial": f"again {one.trial}", "repeat_of": one.trial}) for one in tests]
    assert conduct.repeated(tests, repeats)["all"]["value"] == 1
    swapped = [one.model_copy(update={"correct": not one.correct}) for one in repeats]
    assert conduct.repeated(tests, swapped)["all"]["value"] < 0


def test_readers_who_see_the_same_agree_and_guessers_do_not(study, answered):
    grid = grid_of(of(study, answered, 1))
    found = conduct.agreement(grid)
    assert found["fleiss_kappa"]["low"] > 0
    assert found["krippendorff_alpha"]["value"] == pytest.approx(found["fleiss_kappa"]["value"], abs=0.02)
    assert len(conduct.pairwise(grid)) == 10
    assert conduct.agreement(grid_of([one for one in of(study, answered, 1) if one.reader == "ada"])) == {}


def test_confidence_that_is_worth_something_rises(study, answered):
    rows = conduct.calibration(grid_of(of(study, answered, 5)))
    assert [row["confidence"] for row in rows] == [1, 2, 3, 4, 5]
    assert rows[0]["value"] < rows[-1]["value"]
    assert sum(row["answers"] for row in rows) == 36 * 5


def test_slow_wrong_answers_are_seen(study, answered):
    slow = [one.model_copy(update={"rt_ms": 3000 if one.correct else 6000}) for one in of(study, answered, 1)]
    assert conduct.times(grid_of(slow))["ratio"]["value"] == pytest.approx(2)
    assert conduct.times(grid_of(of(study, answered, 2))) == {}
