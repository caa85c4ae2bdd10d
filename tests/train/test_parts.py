"""Training, validation and test never share a patient."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from counterscan.data.archive import write_phantoms
from counterscan.data.manifest import Case, Manifest, read_manifest
from counterscan.errors import ManifestError
from counterscan.train.parts import parts


def manifest(cases):
    return Manifest(Path("data"), ("tumour",), tuple(cases))


def case(number, **facts):
    return Case(Path(f"{number}.png"), f"{number}", **facts)


@given(st.lists(st.integers(0, 40), min_size=60, max_size=120), st.booleans())
def test_no_patient_is_in_two_parts(patients, folded):
    cases = [case(i, patient=f"p{p}", fold=p % 5 if folded else None) for i, p in enumerate(patients)]
    try:
        split = parts(manifest(cases))
    except ManifestError:  # with few patients a part may be empty
        assume(False)
    train, validation, test = ({c.patient for c in part.cases} for part in split.values())
    assert train.isdisjoint(validation)
    assert test.isdisjoint(train | validation)
    assert sum(len(part.cases) for part in split.values()) == len(cases)


def test_the_split_column_decides():
    cases = [case(i, split=("train", "val", "test", "")[i % 4]) for i in range(40)]
    split = parts(manifest(cases))
    assert [len(part.cases) for part in split.values()] == [10, 10, 10]


def test_the_fold_asked_for_is_measured_on():
    cases = [case(i, patient=f"p{i}", fold=i % 5) for i in range(200)]
    split = parts(manifest(cases), fold=3)
    assert {c.fold for c in split["test"].cases} == {3}
    assert {c.fold for c in split["validation"].cases} == {4}
    assert {c.fold for c in split["train"].cases} == {0, 1, 2}


def test_the_halves_are_disjoint_and_together_all():
    cases = [case(i, patient=f"p{i // 2}") for i in range(400)]
    whole, first, second = (
        {c.name for c in parts(manifest(cases), share=share)["train"].cases} for share in ("all", "first", "second")
    )
    assert first | second == whole
    assert not first & second
    assert 0.3 < len(first) / len(whole) < 0.7


def test_an_empty_part_is_named():
    with pytest.raises(ManifestError, match="'validation'"):
        parts(manifest([case(i, split="train") for i in range(9)] + [case(10, split="test")]))
    with pytest.raises(ManifestError, match="share is one of"):
        parts(manifest([case(1)]), share="third")


@pytest.mark.parametrize("mirror", [True, False])
def test_images_are_flipped_only_where_the_manifest_allows_it(mirror):
    told = replace(manifest([case(i, split=("train", "val", "test")[i % 3]) for i in range(9)]), mirror=mirror)
    parts(told)
    if mirror:
        parts(told, flip=True)
        return
    with pytest.raises(ManifestError, match=r"mirror = false .* leave out --set flip=true"):
        parts(told, flip=True)


@pytest.mark.parametrize(("kind", "alike"), [("chest", False), ("abdomen", False), ("fundus", True), ("oct", True)])
def test_phantoms_say_whether_they_may_be_flipped(kind, alike, tmp_path):
    write_phantoms(kind, 2, tmp_path, size=64)
    assert read_manifest(tmp_path).mirror == alike
