"""NIH ChestX-ray14: findings become columns, lists splits, boxes those of the pictures that are there."""

from pathlib import Path

import pytest

from counterscan.data.layouts.nih_chestxray14 import FINDINGS
from counterscan.errors import ManifestError

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)


def entry(name, findings, age="58", sex="M"):
    return f"{name}.png,{findings},0,{int(name[:8])},{age},{sex},PA,2682,2749,0.143,0.143,"


@pytest.fixture
def nih(tree):
    """Every finding once, a patient without any, one of two images, boxes, and both lists."""
    names = [f"{number:08d}_000" for number in range(1, 15)]
    entries = [entry(name, finding) for name, finding in zip(names, _own_names(), strict=True)]
    entries += [entry("00000020_000", "No Finding", age="003D", sex="F"), entry("00000020_001", "Mass|Nodule", "077Y")]
    tree.text("Data_Entry_2017.csv", HEADER, *entries)
    tree.pictures(*(f"images_001/images/{name}.png" for name in names), size=32)
    tree.pictures("images_012/images/00000020_000.png", "images_012/images/00000020_001.png", size=32)
    tree.text("train_val_list.txt", *(f"{name}.png" for name in names))
    tree.text("test_list.txt", "00000020_000.png", "00000020_001.png")
    tree.text(
        "BBox_List_2017.csv",
        "Image Index,Finding Label,Bbox [x,y,w,h],,,",
        "00000004_000.png,Infiltrate,256.0,512.0,128.0,64.0,,,",
        "00000020_001.png,Mass,0,32,64,96,,,",
        "00000020_001.png,Nodule,320,320,32,32,,,",
    )
    return tree


def _own_names():
    return [name.capitalize().replace("_t", "_T") for name in FINDINGS]


def test_findings_patients_and_facts(nih, taken):
    told, manifest, cases = taken("nih-chestxray14")
    assert (told.images, told.patients, told.missing, told.unlabelled) == (16, 15, (), 0)
    assert manifest.classes == FINDINGS
    assert [cases[f"{number:08d}_000"].labels[name] for number, name in enumerate(FINDINGS, 1)] == [1] * 14
    both = {name for name, value in cases["00000020_001"].labels.items() if value}
    assert both == {"mass", "nodule"}
    healthy = cases["00000020_000"]
    assert set(healthy.labels.values()) == {0}
    assert healthy.patient == cases["00000020_001"].patient != cases["00000001_000"].patient
    assert healthy.facts == {"age": "0", "sex": "F", "view": "PA"}
    assert cases["00000020_001"].facts["age"] == "77"
    assert not manifest.mirror


def test_the_lists_are_the_splits_and_validation_is_drawn_from_training(nih, taken):
    _, manifest, cases = taken("nih-chestxray14")
    assert {cases["00000020_000"].split, cases["00000020_001"].split} == {"test"}
    assert {case.split for case in manifest.cases} == {"train", "validation", "test"}
    assert sum(case.split == "test" for case in manifest.cases) == 2


def test_boxes_are_in_pixels_of_the_picture(nih, taken):
    _, _, cases = taken("nih-chestxray14")  # 32 pixels of 1024
    assert cases["00000004_000"].box == (("infiltration", 8, 16, 4, 2),)
    assert cases["00000020_001"].box == (("mass", 0, 1, 2, 3), ("nodule", 10, 10, 1, 1))
    assert cases["00000001_000"].box == ()


def test_what_is_not_there_is_listed_and_what_no_table_knows_is_unknown(nih, taken):
    (nih.folder / "images_001/images/00000003_000.png").unlink()
    nih.pictures("images_012/images/00000077_004.png")
    told, _, cases = taken("nih-chestxray14")
    assert told.missing == ("data/images/00000003_000.png",)
    assert "00000003_000.png" in Path(told.table).with_name("missing.csv").read_text()
    stranger = cases["00000077_004"]
    assert set(stranger.labels.values()) == {None}
    assert (stranger.split, stranger.patient, told.unlabelled) == ("unlabelled", "00000077", 1)


def test_a_box_that_is_none_is_one_line(nih, taken):
    nih.text("BBox_List_2017.csv", "Image Index,Finding Label,Bbox [x,y,w,h],,,", "00000004_000.png,Mass,one,2,3,4,,,")
    with pytest.raises(ManifestError, match=r"BBox_List_2017.csv has a box with 'one'; copy it again"):
        taken("nih-chestxray14")


def test_the_corrected_table_is_preferred(nih, taken):
    nih.text("Data_Entry_2017_v2020.csv", HEADER, entry("00000001_000", "Hernia"))
    _, _, cases = taken("nih-chestxray14")
    assert cases["00000001_000"].labels["hernia"] == 1
    assert cases["00000002_000"].labels["cardiomegaly"] is None
