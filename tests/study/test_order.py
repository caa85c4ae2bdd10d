"""Order: every trial once, balanced sides, readers counterbalanced, repeats apart, the same from the same seed."""

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterscan.errors import CounterscanError
from counterscan.study.design import _repeats
from counterscan.study.order import gap, order_for, parts_for, washout_for, williams
from counterscan.study.records import Part, Picture, ReaderCard, Study, Trial

TASKS = st.sampled_from(["real-or-synthetic", "forced-choice", "odd-one-out", "side-by-side"])
FEW = settings(max_examples=25, deadline=None)


def study(tasks=("real-or-synthetic",), n=20, seed=1, readers=4, repeats=0.1, checks=2, training=3, pairs=()):
    """A study without pictures: `n` test trials of each task, as many of either truth; `pairs` of parts."""
    parts, trials, pictures = [], [], []

    def picture(kind):
        one = Picture(id=f"{len(pictures):016x}", kind=kind, method="" if kind == "real" else "ours")
        pictures.append(one)
        return one.id

    for number, task in enumerate(tasks, 1):
        parts.append(Part(number=number, task=task, title=task, pair="pair" if number in pairs else "", washout_days=9))
        made = []
        for role, count in (("training", training), ("test", n), ("check", checks)):
            for turn in range(count):
                kinds = {"forced-choice": "sr", "odd-one-out": ("srr", "rss")[turn % 2], "side-by-side": "ss"}
                kinds = kinds.get(task, "sr"[turn % 2])
                shown = tuple(picture({"s": "synthetic", "r": "real"}[kind]) for kind in kinds)
                truth = ("synthetic", "real")[turn % 2] if len(shown) == 1 else shown[0]
                truth = None if task == "side-by-side" else truth
                name = f"{number}-{role}-{turn}"
                made.append(Trial(id=name, part=number, task=task, role=role, pictures=shown, answer=truth, case=name))
        trials += made + _repeats(seed, number, number, repeats, made)
    cards = tuple(ReaderCard(name=f"reader {one}", token_hash="") for one in range(readers))
    facts = {"id": "s", "title": "S", "seed": seed, "created": ""}
    return Study(**facts, parts=tuple(parts), trials=tuple(trials), pictures=tuple(pictures), readers=cards)


def shown(made, reader=0, part=1):
    """The trials of a part in a reader's order, with their pictures."""
    return [(made.trial[t], p) for t, p in order_for(made, f"reader {reader}") if made.trial[t].part == part]


@FEW
@given(TASKS, st.integers(1, 40), st.integers(0, 99), st.sampled_from([0, 0.1, 0.25]), st.integers(0, 5))
def test_an_order_is_a_permutation_with_training_first_and_repeats_far_from_their_originals(task, n, seed, share, c):
    made = study((task,), n, seed, repeats=share, checks=c)
    for reader in range(3):
        order = shown(made, reader)
        assert sorted(trial.id for trial, _ in order) == sorted(made.trial)
        assert all(sorted(pictures) == sorted(trial.pictures) for trial, pictures in order)
        roles = [trial.role for trial, _ in order]
        assert "training" not in roles[3:]
        places = {trial.id: place for place, (trial, _) in enumerate(order)}
        for trial, _ in order:
            if trial.role == "repeat":
                assert places[trial.id] - places[trial.repeat_of] > gap(n)


@FEW
@given(st.integers(8, 60), st.integers(0, 99))
def test_what_one_reader_sees_first_the_other_of_two_sees_last(n, seed):
    made = study(n=2 * (n // 2), seed=seed)

    def halves(reader):
        tests = [trial for trial, _ in shown(made, reader) if trial.role == "test"]
        return tests[: len(tests) // 2], tests[len(tests) // 2 :]

    (first, second), (other, _) = halves(0), halves(1)
    assert {trial.id for trial in other} == {trial.id for trial in second}
    truths = Counter(trial.answer for trial in first)
    assert abs(truths["real"] - truths["synthetic"]) <= 2


@FEW
@given(st.sampled_from([("forced-choice", 2), ("odd-one-out", 3)]), st.integers(1, 30), st.integers(0, 99))
def test_the_right_picture_stands_in_each_place_equally_often(task_k, n, seed):
    task, k = task_k
    made = study((task,), n, seed, repeats=0)
    for reader in range(4):
        places = Counter(p.index(trial.answer) for trial, p in shown(made, reader) if trial.role == "test")
        assert max(places[place] for place in range(k)) - min(places[place] for place in range(k)) <= 1


def test_the_other_of_two_readers_and_who_sees_a_repeat_see_the_other_side():
    made = study(("forced-choice",), 12, repeats=0.25)
    left, right = ({trial.id: pictures for trial, pictures in shown(made, reader)} for reader in (0, 1))
    assert all(left[one] == right[one][::-1] for one in left)
    repeats = [trial for trial in made.trials if trial.role == "repeat"]
    assert len(repeats) == 3
    assert all(left[trial.id] == left[trial.repeat_of][::-1] for trial in repeats)


def test_checks_are_spread_and_none_comes_first():
    made = study(n=40, checks=4, training=0)
    for reader in range(4):
        places = [place for place, (trial, _) in enumerate(shown(made, reader)) if trial.role == "check"]
        assert places[0] > 0
        assert all(sum(low <= place < low + 24 for place in places) >= 1 for low in (0, 12, 24))


def test_orders_differ_between_readers_and_are_the_same_from_the_same_seed():
    made = study(n=30)
    orders = [tuple(trial.id for trial, _ in shown(made, reader)) for reader in range(4)]
    assert len(set(orders)) == 4
    assert order_for(study(n=30), "reader 2") == order_for(made, "reader 2")
    assert order_for(study(n=30, seed=2), "reader 2") != order_for(made, "reader 2")


@given(st.integers(1, 9))
def test_a_williams_design_is_a_latin_square_in_which_each_follows_each_equally_often(n):
    rows = williams(n)
    for place in range(n):
        assert set(Counter(row[place] for row in rows).values()) == {len(rows) // n}
    follows = Counter(pair for row in rows for pair in itertools.pairwise(row))
    assert len(follows) == n * (n - 1)
    assert len(set(follows.values())) <= 1


def test_parts_are_counterbalanced_and_pairs_stay_together_either_way_round():
    made = study(("lesion", "lesion", "realism"), 4, readers=8, pairs=(1, 2), repeats=0)
    orders = [tuple(part.number for part in parts_for(made, f"reader {one}")) for one in range(8)]
    assert Counter(orders) == {(1, 2, 3): 2, (2, 1, 3): 2, (3, 1, 2): 2, (3, 2, 1): 2}
    assert washout_for(made, "reader 0", 2) == 9
    assert washout_for(made, "reader 1", 2) == 0
    assert washout_for(made, "reader 2", 1) == 0  # after another part: the pair waits for itself only
    assert washout_for(made, "reader 0", 3) == 9


def test_a_stranger_is_refused_with_the_nearest_name():
    with pytest.raises(CounterscanError, match="did you mean 'reader 1'"):
        order_for(study(), "readr 1")
