"""EyePACS: five grades, and both eyes of a patient in one split."""

import pytest

from counterscan.data.layouts.base import GRADES
from counterscan.errors import ManifestError


@pytest.fixture
def eyes(tree):
    """Forty patients; the grades go round."""
    names = [f"{patient}_{eye}" for patient in range(1, 41) for eye in ("left", "right")]
    tree.text("trainLabels.csv", "image,level", *(f"{name},{number % 5}" for number, name in enumerate(names)))
    tree.pictures(*(f"train/{name}.jpeg" for name in names), size=8, colour=True)
    return tree


def test_grades_are_classes_and_eyes_stay_together(eyes, taken):
    told, manifest, cases = taken("eyepacs")
    assert (told.images, told.patients) == (80, 40)
    assert manifest.classes == GRADES
    assert manifest.normal == "no_dr"
    assert cases["1_left"].labels["no_dr"] == 1
    assert cases["3_left"].labels["proliferative"] == 1
    assert (cases["3_left"].patient, cases["3_left"].facts["eye"]) == ("3", "left")
    assert all(cases[f"{one}_left"].split == cases[f"{one}_right"].split for one in range(1, 41))
    assert {case.split for case in manifest.cases} == {"train", "validation", "test"}


def test_without_the_published_grades_the_test_part_is_unlabelled(eyes, taken):
    eyes.pictures("test/77_left.jpeg", size=8, colour=True)
    told, _, cases = taken("eyepacs")
    assert (cases["77_left"].split, told.unlabelled) == ("unlabelled", 1)
    assert set(cases["77_left"].labels.values()) == {None}


def test_with_them_it_is_the_test_part(eyes, taken):
    eyes.pictures("test/77_left.jpeg", size=8, colour=True)
    eyes.text("retinopathy_solution.csv", "image,level,Usage", "77_left,4,Private")
    _, manifest, cases = taken("eyepacs")
    assert cases["77_left"].labels["proliferative"] == 1
    assert [case.name for case in manifest.cases if case.split == "test"] == ["77_left"]


def test_oddities(eyes, taken):
    (eyes.folder / "train/1_left.jpeg").unlink()
    told, _, cases = taken("eyepacs")
    assert told.missing == ("data/train/1_left.jpeg",)
    assert "1_right" in cases
    eyes.text("trainLabels.csv", "image,level", "1_right,7")
    with pytest.raises(ManifestError, match=r"trainLabels.csv has the grade '7'; those of the data set are 0 to 4"):
        taken("eyepacs")
