"""Records: a study is frozen, changes are seen, and answers become rows beside the truth."""

import json

import pytest

from counterscan.errors import CounterscanError
from counterscan.study.records import Answer, Part, Picture, ReaderCard, Study, Trial, read_answers, readings

PICTURES = (
    Picture(id="r1", kind="real", case="one"),
    Picture(id="s1", kind="synthetic", method="ours", case="two"),
    Picture(id="s2", kind="synthetic", method="theirs", case="two"),
)


def study(*trials):
    facts = {"id": "1", "title": "S", "seed": 1, "created": "now", "pictures": PICTURES}
    parts = (Part(number=1, task="real-or-synthetic", title="P"),)
    return Study(**facts, parts=parts, trials=trials, readers=(ReaderCard(name="ann", token_hash="h"),))


def trial(task, pictures, answer=None, role="test", arm=""):
    return Trial(id="t", part=1, task=task, role=role, pictures=pictures, answer=answer, case="c", arm=arm)


def reading(one, **said):
    return readings(study(one), [Answer(reader="ann", trial="t", nonce="n", **said)])[0]


def test_a_study_comes_back_as_it_was_saved(tmp_path):
    made = study(trial("real-or-synthetic", ("r1",), "real"))
    made.save(tmp_path)
    assert Study.load(tmp_path) == made
    assert made.trial["t"].task == "real-or-synthetic"
    assert made.picture["s1"].file == "pictures/s1.png"


@pytest.mark.parametrize("change", [lambda told: told["trials"][0].update(answer="synthetic"), dict.clear])
def test_a_study_that_was_changed_is_refused(tmp_path, change):
    path = study(trial("real-or-synthetic", ("r1",), "real")).save(tmp_path)
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))
    with pytest.raises(CounterscanError, match="frozen once it is made"):
        Study.load(tmp_path)


def test_a_folder_without_a_study_names_the_command(tmp_path):
    with pytest.raises(CounterscanError, match="counterscan study new"):
        Study.load(tmp_path)


def test_a_confidence_gets_the_sign_of_the_answer():
    said_real = reading(trial("real-or-synthetic", ("s1",), "synthetic", arm="ours"), choice="real", confidence=4)
    assert (said_real.truth, said_real.score, said_real.correct, said_real.method) == (1, -4.0, False, "ours")
    said_there = reading(trial("lesion", ("r1",), "absent"), choice="present", confidence=2)
    assert (said_there.truth, said_there.score, said_there.chance) == (0, 2.0, 0.5)


def test_a_choice_is_right_or_wrong_and_has_the_chance_of_its_pictures():
    right = reading(trial("odd-one-out", ("s1", "r1", "s2"), "s1"), choice="s1")
    assert (right.correct, right.chance, right.score, right.truth) == (True, pytest.approx(1 / 3), None, None)


def test_side_by_side_tells_the_method_that_was_chosen():
    chosen = reading(trial("side-by-side", ("s1", "s2"), arm="ours|theirs"), choice="s2")
    assert (chosen.method, chosen.correct) == ("theirs", None)


@pytest.mark.parametrize(("role", "rating", "correct"), [("test", 1, None), ("check", 2, True), ("check", 3, False)])
def test_a_rating_is_judged_in_attention_checks_only(role, rating, correct):
    row = reading(trial("realism", ("s1",), role=role), rating=rating)
    assert (row.correct, row.truth, row.rating) == (correct, 1, rating)


def test_answers_to_another_study_are_refused():
    with pytest.raises(CounterscanError, match="give the answers of this study"):
        readings(study(), [Answer(reader="ann", trial="t", nonce="n")])


def test_saved_answers_are_read_back_and_a_bad_line_is_named(tmp_path):
    answers = [Answer(reader="ann", trial=name, nonce=name, choice="real", tools={"zoom": 2}) for name in "ab"]
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(one.model_dump_json() + "\n" for one in answers))
    assert read_answers(path) == answers
    path.write_text(path.read_text() + "{}\n")
    with pytest.raises(CounterscanError, match="line 3 is no answer"):
        read_answers(path)
