"""Kermany's OCT: the patient stands in the name, and one of the test part is not trained on."""

import pytest

CLASSES = ("CNV", "DME", "DRUSEN", "NORMAL")


@pytest.fixture
def oct_set(tree):
    for name in CLASSES:
        tree.pictures(f"train/{name}/{name}-1001-1.jpeg", f"train/{name}/{name}-1001-2.jpeg")
        tree.pictures(f"val/{name}/{name}-2002-1.jpeg", f"test/{name}/{name}-3003-1.jpeg")
    return tree


def test_classes_patients_and_splits(oct_set, taken):
    told, manifest, cases = taken("kermany-oct")
    assert (told.images, told.patients, told.withdrawn) == (16, 3, 0)
    assert manifest.classes == ("normal", "cnv", "drusen", "dme")
    assert manifest.licence == "CC BY 4.0"
    assert cases["DRUSEN-1001-2"].labels["drusen"] == 1
    assert {cases[f"{name}-{number}-1"].split for name in CLASSES for number in (2002,)} == {"validation"}
    assert cases["CNV-3003-1"].split == "test"
    assert cases["CNV-1001-1"].patient == "1001"


def test_training_images_of_a_test_patient_are_in_no_split(oct_set, taken):
    oct_set.pictures("train/CNV/CNV-3003-7.jpeg", "val/DME/DME-3003-8.jpeg")
    told, manifest, cases = taken("kermany-oct")
    assert told.withdrawn == 2
    assert (cases["CNV-3003-7"].split, cases["DME-3003-8"].split) == ("", "")
    assert sum(case.split == "test" for case in manifest.cases) == 4


def test_a_release_without_validation_draws_it(oct_set, taken):
    for name in CLASSES:
        (oct_set.folder / f"val/{name}/{name}-2002-1.jpeg").unlink()
        oct_set.pictures(*(f"train/{name}/{name}-{number}-1.jpeg" for number in range(40)))
    _, manifest, _ = taken("kermany-oct")
    drawn = {case.patient for case in manifest.cases if case.split == "validation"}
    assert drawn
    assert "3003" not in drawn
    assert sum(case.split == "test" for case in manifest.cases) == 4
