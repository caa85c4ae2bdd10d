"""COVID-19 Radiography: the folder is the class, and lungs are no lesions."""

import pytest


@pytest.fixture
def covid(tree):
    for name in ("COVID", "Normal", "Lung_Opacity", "Viral Pneumonia"):
        tree.pictures(*(f"{name}/images/{name}-{number}.png" for number in (1, 2)))
        tree.pictures(*(f"{name}/masks/{name}-{number}.png" for number in (1, 2)))
    return tree


def test_each_class_is_there_and_healthy_comes_first(covid, taken):
    told, manifest, cases = taken("covid19-radiography")
    assert told.images == 8
    assert manifest.classes == ("normal", "covid", "lung_opacity", "viral_pneumonia")
    assert manifest.normal == "normal"
    assert cases["Viral_Pneumonia-2"].labels["viral_pneumonia"] == 1
    assert all(sum(case.labels.values()) == 1 for case in manifest.cases)


def test_lung_masks_are_a_fact(covid, taken):
    (covid.folder / "COVID/masks/COVID-2.png").unlink()
    _, manifest, cases = taken("covid19-radiography")
    assert all(case.mask_path is None for case in manifest.cases)
    assert cases["COVID-1"].facts["lung_mask"] == "data/COVID/masks/COVID-1.png"
    assert cases["COVID-2"].facts["lung_mask"] == ""


def test_a_part_of_it_names_what_is_missing(covid, taken):
    (covid.folder / "Normal").rename(covid.folder / "normal")
    with pytest.raises(Exception, match=r"missing: Normal/images/\*\.png"):
        taken("covid19-radiography")
