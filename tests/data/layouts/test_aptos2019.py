"""APTOS 2019: five grades, and a test part whose grades nobody knows."""

import pytest

from counterscan.data.layouts.base import GRADES


@pytest.fixture
def aptos(tree):
    tree.text("train.csv", "id_code,diagnosis", *(f"000c1434d8d{grade},{grade}" for grade in range(5)))
    tree.text("test.csv", "id_code", "0005cfc8afb6")
    tree.pictures(*(f"train_images/000c1434d8d{grade}.png" for grade in range(5)), colour=True)
    tree.pictures("test_images/0005cfc8afb6.png", colour=True)
    return tree


def test_grades_are_classes(aptos, taken):
    told, manifest, cases = taken("aptos2019")
    assert (told.images, told.unlabelled) == (6, 1)
    assert manifest.classes == GRADES
    assert [cases[f"000c1434d8d{grade}"].labels[name] for grade, name in enumerate(GRADES)] == [1] * 5


def test_the_test_part_has_no_grades(aptos, taken):
    _, _, cases = taken("aptos2019")
    assert cases["0005cfc8afb6"].split == "unlabelled"
    assert set(cases["0005cfc8afb6"].labels.values()) == {None}


def test_missing_and_unlisted_images_are_not_fatal(aptos, taken):
    (aptos.folder / "train_images/000c1434d8d3.png").unlink()
    aptos.pictures("train_images/ffff.png", colour=True)
    told, _, cases = taken("aptos2019")
    assert told.missing == ("data/train_images/000c1434d8d3.png",)
    assert (cases["ffff"].split, told.unlabelled) == ("unlabelled", 2)
