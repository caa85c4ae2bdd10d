"""CheXpert: uncertain and not mentioned are unknown, a report without finding says that the others are absent."""

import pytest

NAMES = (
    "No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,"
    "Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices"
)
HEADER = f"Path,Sex,Age,Frontal/Lateral,AP/PA,{NAMES}"
FRONT = "patient00001/study1/view1_frontal.jpg"
SIDE = "patient00002/study2/view2_lateral.jpg"


def entry(path, **values):
    cells = [str(values.get(name.replace(" ", "_"), "")) for name in NAMES.split(",")]
    return ",".join([path, "Female" if "00002" in path else "Male", "67", "Frontal", "AP", *cells])


@pytest.fixture
def chexpert(tree):
    everything = dict.fromkeys((name.replace(" ", "_") for name in NAMES.split(",")[1:]), "1.0")
    tree.text(
        "train.csv",
        HEADER,
        entry(f"CheXpert-v1.0-small/train/{FRONT}", Edema="-1.0", Fracture="0.0", Pleural_Effusion="1.0"),
        entry(f"CheXpert-v1.0-small/train/{SIDE}", No_Finding="1.0", Pneumonia="-1.0", Support_Devices=""),
        entry("CheXpert-v1.0-small/train/patient00003/study1/view1_frontal.jpg", **everything),
    )
    tree.text("valid.csv", HEADER, entry("CheXpert-v1.0-small/valid/patient64541/study1/view1_frontal.jpg", Edema=1))
    tree.pictures(f"train/{FRONT}", f"train/{SIDE}", "train/patient00003/study1/view1_frontal.jpg")
    tree.pictures("valid/patient64541/study1/view1_frontal.jpg")
    return tree


def of(cases, patient):
    (case,) = [case for case in cases.values() if case.patient == patient]
    return case


def test_present_absent_and_unknown(chexpert, taken):
    told, manifest, cases = taken("chexpert")
    assert (told.images, told.patients, told.missing) == (4, 4, ())
    assert "no_finding" not in manifest.classes
    labels = of(cases, "patient00001").labels
    assert (labels["pleural_effusion"], labels["fracture"]) == (1, 0)
    assert (labels["edema"], labels["cardiomegaly"]) == (None, None)
    assert set(of(cases, "patient00003").labels.values()) == {1}


def test_a_report_without_finding_says_so_of_what_it_does_not_mention(chexpert, taken):
    _, _, cases = taken("chexpert")
    labels = of(cases, "patient00002").labels
    assert (labels["pneumonia"], labels["support_devices"]) == (None, None)
    assert {value for name, value in labels.items() if name not in ("pneumonia", "support_devices")} == {0}


def test_facts_and_splits(chexpert, taken):
    _, manifest, cases = taken("chexpert")
    side = of(cases, "patient00002")
    assert side.facts == {"study": "study2", "view": "lateral", "sex": "F", "age": "67", "projection": "AP"}
    assert of(cases, "patient64541").split == "validation"
    assert {of(cases, f"patient0000{number}").split for number in (1, 2, 3)} <= {"train", "test"}
    assert manifest.confounders == ("support_devices",)


def test_another_releases_folders_are_found_and_oddities_told(chexpert, taken):
    (chexpert.folder / "train").rename(chexpert.folder / "CheXpert-v1.0 batch 2 (train 1)")
    (chexpert.folder / "valid/patient64541/study1/view1_frontal.jpg").unlink()
    chexpert.pictures("test/patient64741/study1/view1_frontal.jpg")
    told, _, cases = taken("chexpert")
    assert told.images == 4
    assert told.missing == ("data/validation/patient64541/study1/view1_frontal.jpg",)
    assert of(cases, "patient64741").split == "unlabelled"
    assert set(of(cases, "patient64741").labels.values()) == {None}


def test_the_published_test_labels_are_taken(chexpert, taken):
    chexpert.text("test_labels.csv", f"Path,{NAMES}", "test/patient64741/study1/view1_frontal.jpg" + ",1.0" * 14)
    chexpert.pictures("test/patient64741/study1/view1_frontal.jpg")
    _, _, cases = taken("chexpert")
    assert of(cases, "patient64741").split == "test"
    assert of(cases, "patient00001").split == "train"  # nothing is drawn that is there
