"""TotalSegmentator: its table with semicolons and a byte order mark, pathology as the class, anatomy as a fact."""

import pytest

HEADER = (
    "\ufeffimage_id;age;gender;institute;study_type;split;manufacturer;scanner_model;kvp;pathology;pathology_location"
)


@pytest.fixture
def total(tree):
    values = ["no_pathology", "tumor", "trauma", "unclear"]
    splits = ["train", "val", "test", "train"]
    lines = [
        f"s{number:04d};{60 + number};f;C;ct thorax;{split};siemens;x;120;{value};lung"
        for number, (value, split) in enumerate(zip(values, splits, strict=True))
    ]
    tree.text("meta.csv", HEADER, *lines)
    for number in range(4):
        tree.volume(f"s{number:04d}/ct.nii.gz")
        tree.volume(f"s{number:04d}/segmentations/liver.nii.gz")
    return tree


def by_patient(cases):
    return {case.patient: case for case in cases.values()}


def test_pathology_is_the_class_and_splits_are_its_own(total, taken):
    told, manifest, cases = taken("totalsegmentator")
    cases = by_patient(cases)
    assert told.images == 4
    assert manifest.classes == ("no_pathology", "trauma", "tumor")
    assert manifest.normal == "no_pathology"
    assert [cases[f"s000{number}"].split for number in range(4)] == ["train", "validation", "test", "train"]
    assert cases["s0001"].labels["tumor"] == 1
    assert set(cases["s0003"].labels.values()) == {None}
    assert cases["s0002"].facts == {
        "sex": "F",
        "age": "62",
        "institute": "C",
        "study_type": "ct thorax",
        "pathology_location": "lung",
        "segmentations": "data/s0002/segmentations",
    }


def test_the_first_release_has_no_classes(total, taken):
    total.text("meta.csv", "image_id;age;gender;institute;study_type;split", "s0000;60;m;C;ct thorax;train")
    told, manifest, cases = taken("totalsegmentator")
    assert manifest.classes == ()
    assert by_patient(cases)["s0000"].facts["sex"] == "M"
    assert told.unlabelled == 3


def test_a_case_that_is_not_there_is_listed(total, taken):
    (total.folder / "s0001/ct.nii.gz").unlink()
    told, _, _ = taken("totalsegmentator")
    assert told.missing == ("data/s0001/ct.nii.gz",)
