"""What is asked for: contradictions are told, tables are read, and shares come out as asked."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterscan.core import Card, Target
from counterscan.errors import CounterscanError, ManifestError, TargetError
from counterscan.synthesis.specs import counted, evenly, order, parse, prevalent

MANY = Card(name="many", shape=(1, 8, 8), classes=("effusion", "nodule", "mass"))
ONE = Card(name="one", shape=(1, 8, 8), classes=("normal", "cnv", "dme"), output="softmax", normal="normal")


def table(tmp_path, text, name="asked.csv"):
    (tmp_path / name).write_text(text)
    return tmp_path / name


def test_classes_that_are_not_named_stay_open():
    assert parse("nodule=0, effusion", MANY).wanted == ((0, 1.0), (1, 0.0))
    assert parse("normal", MANY).wanted == ((0, 0.0), (1, 0.0), (2, 0.0))
    assert parse("effusion=1,effusion=1", MANY).wanted == ((0, 1.0),)


@pytest.mark.parametrize(
    ("card", "labels", "words"),
    [
        (MANY, "effusion=1,effusion=0", "effusion both present and absent"),
        (MANY, "normal,effusion=1", "normal has every finding absent"),
        (MANY, "efusion=1", "did you mean 'effusion'"),
        (MANY, "effusion=0.7", "present"),
        (ONE, "cnv=1,dme=1", "ask for one class"),
        (ONE, "normal=1,cnv=1", "ask for one class"),
        (ONE, "normal=0,cnv=0,dme=0", "ask for one class"),
        (MANY.model_copy(update={"classes": ("normal", "mass"), "normal": "normal"}), "normal=1,mass=1", "contradicts"),
        (Card(name="two", shape=(1, 8, 8), classes=("no", "yes"), output="binary"), "no=1,yes=1", "ask for one class"),
    ],
)
def test_what_contradicts_itself_is_told_in_one_line(card, labels, words):
    with pytest.raises(TargetError, match=words) as caught:
        parse(labels, card)
    assert "\n" not in str(caught.value)


def test_scans_are_shared_out_evenly_and_each_spec_counts_once():
    requests = evenly(["effusion=1", "nodule=1", "effusion=1"], 7, MANY)
    assert [(one.labels, one.count) for one in requests] == [("effusion=1", 4), ("nodule=1", 3)]
    with pytest.raises(CounterscanError, match="raise -n"):
        evenly(["effusion=1", "nodule=1"], 1, MANY)


@pytest.mark.parametrize(
    "text",
    [
        'labels,count\n"effusion=1,nodule=0",3\nnodule=1,2\n',
        "effusion,nodule,count\n1,0,3\n,1,2\n",
        'labels,n\n"effusion=1,nodule=0",1\nnodule=1,2\n"nodule=0,effusion=1",2\n',
    ],
)
def test_counts_come_from_a_table_in_either_form(tmp_path, text):
    found = {one.labels: one.count for one in counted(table(tmp_path, text), MANY)}
    assert found == {"effusion=1,nodule=0": 3, "nodule=1": 2}


def test_class_counts_are_a_row_a_class(tmp_path):
    found = counted(table(tmp_path, "class,count\neffusion,3\nmass,1\nnodule,0\n"), MANY)
    assert [(one.labels, one.count) for one in found] == [("effusion=1", 3), ("mass=1", 1)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("effusion,nodule\n1,0\n", "no column 'count'"),
        ("efusion,count\n1,3\n", "did you mean 'effusion'"),
        ("effusion,count\n1,2.5\n", "whole numbers"),
        ("effusion,count\n1,many\n", "row 2 has 'many'"),
        ("effusion,count\n1,-2\n", "not negative"),
        ("effusion,count\n1,nan\n", "not negative"),
        ("effusion,count\n,2\n", "row 2 names no class"),
        ("effusion,count\n1,0\n", "asks for nothing"),
        ('labels,count\n"effusion=1,effusion=0",2\n', "contradicts itself"),
    ],
)
def test_a_table_that_is_wrong_is_told_where(tmp_path, text, words):
    with pytest.raises((ManifestError, TargetError), match=words):
        counted(table(tmp_path, text), MANY)


def test_a_manifest_gives_its_combinations_and_blanks_stay_open(tmp_path):
    rows = ["1,1,0"] * 5 + ["0,0,0"] * 4 + ["1,,0"]
    text = "path,effusion,nodule,mass\n" + "".join(f"{row}.png,{line}\n" for row, line in enumerate(rows))
    found = {one.labels: one.count for one in prevalent(table(tmp_path, text, "labels.csv"), 20, MANY)}
    assert found == {"effusion=1,nodule=1,mass=0": 10, "effusion=0,nodule=0,mass=0": 8, "effusion=1,mass=0": 2}


def test_a_manifest_with_a_label_a_row_asks_for_one_class(tmp_path):
    text = "path,label\n" + "".join(f"{row}.png,{name}\n" for row, name in enumerate(["normal", "cnv", "cnv", "dme"]))
    found = prevalent(table(tmp_path, text), 8, ONE)
    assert sum(one.count for one in found) == 8
    assert {name for one in found for name, p in zip(ONE.classes, wanted(one, ONE), strict=True) if p} == set(
        ONE.classes
    )
    assert Counter({wanted(one, ONE).index(1.0): one.count for one in found}) == {0: 2, 1: 4, 2: 2}


def wanted(request, card):
    known = dict(request.target.wanted)
    return [known.get(index, 0.0) for index in range(len(card.classes))]


def test_single_prevalences_are_multiplied_out(tmp_path):
    requests = prevalent(table(tmp_path, "class,prevalence\neffusion,0.5\nnodule,0.2\n"), 1000, MANY)
    found = {one.labels: one.count for one in requests}
    assert found == {
        "effusion=1,nodule=1": 100,
        "effusion=1,nodule=0": 400,
        "effusion=0,nodule=1": 100,
        "effusion=0,nodule=0": 400,
    }


def test_single_prevalences_of_classes_that_exclude_each_other_are_shares(tmp_path):
    found = prevalent(table(tmp_path, "class,prevalence\nnormal,3\ncnv,1\n"), 8, ONE)
    assert [(one.labels, one.count) for one in found] == [("normal=1", 6), ("cnv=1", 2)]


def test_a_table_of_combinations_has_shares_of_its_own(tmp_path):
    found = prevalent(table(tmp_path, "effusion,nodule,share\n1,1,1\n0,0,3\n"), 8, MANY)
    assert [one.count for one in found] == [2, 6]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=6))
def test_any_first_part_of_the_order_has_about_the_shares_of_the_whole(counts):
    requests = [*map(_request, counts)]
    places = order(requests)
    assert Counter(places) == dict(enumerate(counts))
    for upto in range(1, len(places) + 1):
        seen = Counter(places[:upto])
        for place, count in enumerate(counts):
            assert abs(seen[place] - upto * count / len(places)) <= len(counts)


def _request(count):
    from counterscan.synthesis.specs import Request

    return Request("x", Target(((0, 1.0),)), count)
