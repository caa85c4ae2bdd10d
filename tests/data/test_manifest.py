import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from counterscan.data.manifest import find_cases, read_manifest, scan_folder
from counterscan.data.table import text_of
from counterscan.data.window import Window
from counterscan.errors import ManifestError


@pytest.fixture
def dataset(tmp_path):
    def write(text, toml=""):
        (tmp_path / "labels.csv").write_text(text)
        if toml:
            (tmp_path / "dataset.toml").write_text(toml)
        return tmp_path

    return write


def test_a_label_column_means_one_class_an_image_normal_first(dataset):
    manifest = read_manifest(dataset("path,label,lossy,age\na.png,tumour,1,40\nb.png,no_tumour,0,\nc.png,,1,3\n"))
    assert manifest.classes == ("no_tumour", "tumour")
    assert manifest.exclusive
    assert manifest.normal == "no_tumour"
    assert [case.labels for case in manifest.cases] == [
        {"no_tumour": 0, "tumour": 1},
        {"no_tumour": 1, "tumour": 0},
        {"no_tumour": None, "tumour": None},
    ]
    assert manifest.cases[0].facts == {"lossy": "1", "age": "40"}
    assert [manifest.diseased(case) for case in manifest.cases] == [True, False, False]


def test_the_root_is_as_absolute_as_the_paths_wherever_it_is_read_from(dataset, monkeypatch):
    folder = dataset("path,label\na.png,tumour\n")
    monkeypatch.chdir(folder.parent)
    manifest = read_manifest(folder.name)
    assert manifest.root == folder
    assert manifest.cases[0].path.is_relative_to(manifest.root)


def test_another_column_is_the_label_where_the_dataset_says_so(dataset):
    manifest = read_manifest(dataset("path,dr,stage\na.png,1,late\nb.png,0,none\n", "label = 'stage'"))
    assert manifest.exclusive
    assert manifest.classes == ("none", "late")
    assert manifest.cases[0].labels == {"none": 0, "late": 1}
    assert manifest.cases[0].facts == {"dr": "1"}


def test_without_a_label_column_those_of_ones_and_zeros_are_classes(dataset):
    text = "path,effusion,nodule,view,blank,seed,count\na.png,1,,PA,,1,0\nb.png,0.0,1.0,AP,,0,2\n"
    manifest = read_manifest(dataset(text))
    assert manifest.classes == ("effusion", "nodule")
    assert not manifest.exclusive
    assert manifest.cases[0].labels == {"effusion": 1, "nodule": None}
    assert manifest.cases[1].labels == {"effusion": 0, "nodule": 1}
    assert set(manifest.cases[0].facts) == {"view", "blank", "seed", "count"}


def test_dataset_toml_decides_which_columns_are_classes_and_what_pixels_mean(dataset):
    toml = 'classes = ["tumour", "cyst"]\nconfounders = ["cyst"]\nwindow = [-160, 240, "HU"]\nintercept = -1024\n'
    root = dataset("path,cyst,tumour,lossy\na.png,1,0,1\n", toml)
    Image.fromarray(np.full((4, 4), 1064, np.uint16)).save(root / "a.png")
    manifest = read_manifest(root)
    assert manifest.classes == ("tumour", "cyst")
    assert not manifest.diseased(manifest.cases[0])
    assert manifest.cases[0].facts == {"lossy": "1"}
    scan = manifest.cases[0].read()
    assert (scan.pixels == 40).all()
    assert scan.window == manifest.window == Window(-160, 240, "HU")


def test_a_dataset_toml_may_lie_elsewhere(dataset, tmp_path):
    root = dataset("path,label\na.png,x\n")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "ct.toml").write_text("window = [0, 5]")
    assert read_manifest(root, tmp_path / "elsewhere" / "ct.toml").window == Window(0, 5)


def test_all_that_a_row_may_hold_is_read(dataset):
    header = "path,label,split,fold,patient_id,mask_path,twin_path,box"
    root = dataset(f'{header}\nimages/a b.png,x,train,3,p1,masks/a.png,twins/a.png,"x:1,2,3,4"\n')
    case = read_manifest(root).cases[0]
    assert (case.split, case.fold, case.patient, case.name) == ("train", 3, "p1", "a_b")
    assert case.path == root / "images" / "a b.png"
    assert (case.mask_path, case.twin_path) == (root / "masks" / "a.png", root / "twins" / "a.png")
    assert case.box == (("x", 1, 2, 3, 4),)


@pytest.mark.parametrize(
    ("text", "toml", "words"),
    [
        ("path,label\n../a.png,x\n", "", "row 2 has a path outside its folder"),
        ("path,label\nimages/../../a.png,x\n", "", "outside its folder"),
        ("path,label\n/etc/a.png,x\n", "", "outside its folder"),
        ("path,label\nC:\\a.png,x\n", "", "outside its folder"),
        ("path,label,mask_path\na.png,x,../m.png\n", "", "mask_path outside"),
        ("path,label\na.png,x\nb.png,x\nimages/../a.png,y\n", "", "twice, in rows 2 and 4"),
        ("path,label\na.png,tumor\n", "classes = ['tumour', 'normal']", "'tumor'.*did you mean 'tumour'"),
        ("path,tumor\na.png,1\n", "classes = ['tumour']", "no column 'tumour'.*did you mean 'tumor'"),
        ("path,tumour\na.png,yes\n", "classes = ['tumour']", "row 2 has 'yes' under 'tumour'"),
        ("path,label\na.png,\n", "", "nothing in it"),
        ("path,grade\na.png,x\n", "label = 'grad'", "no column 'grad', .*did you mean 'grade'"),
        ("path,label\n,x\n", "", "row 2 has no path"),
        ("path,label,fold\na.png,x,one\n", "", "fold 'one'"),
    ],
)
def test_a_fault_is_one_line_that_says_where(dataset, text, toml, words):
    with pytest.raises(ManifestError, match=words) as caught:
        read_manifest(dataset(text, toml))
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_table_and_a_missing_file_are_refused(tmp_path):
    with pytest.raises(ManifestError, match=r"holds no labels\.csv"):
        read_manifest(tmp_path)
    with pytest.raises(ManifestError, match="does not exist"):
        read_manifest(tmp_path / "none.csv")


def test_a_patient_in_two_splits_is_named(dataset):
    root = dataset("path,label,split,patient_id\na.png,x,train,p1\nb.png,x,test,p1\nc.png,x,test,p2\nd.png,x,test,\n")
    with pytest.warns(UserWarning, match="patient p1 is in splits test and train"):
        manifest = read_manifest(root)
    assert len(manifest.leaks("split")) == 1
    assert manifest.patients == ("p1", "p1", "p2", "d")


TABLE = "path,label,split,fold,view,patient_id\na.png,x,dev,0,PA,1\nb.png,x,dev,1,AP,2\nc.png,y,test,2,PA,3\n"


def test_splits_folds_and_columns_select(dataset):
    manifest = read_manifest(dataset(TABLE))

    def names(**chosen):
        return [case.name for case in manifest.select(**chosen).cases]

    assert names(split="dev") == ["a", "b"]
    assert names(folds=[1, 2]) == ["b", "c"]
    assert names(where="view=PA") == ["a", "c"]
    assert names(split="dev", where="view=PA,x=1") == ["a"]
    assert manifest.select(split="test").classes == ("x", "y")


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"split": "train"}, "'train'.*it has dev, test"),
        ({"folds": [7]}, "it has 0, 1, 2"),
        ({"where": "veiw=PA"}, "did you mean 'view'"),
        ({"where": "view=LAT"}, "it has AP, PA"),
        ({"where": "view"}, "column=value"),
    ],
)
def test_an_empty_selection_says_what_there_is(dataset, chosen, words):
    with pytest.raises(ManifestError, match=words):
        read_manifest(dataset(TABLE)).select(**chosen)


def test_a_folder_of_images_needs_no_table(tmp_path, dicom):
    dicom(np.zeros((4, 4), np.int16), "IM0001")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "b.PNG")
    (tmp_path / "README.md").write_text("hello")
    (tmp_path / "fake.dcm").write_text("kept, so that its failure is listed")
    (tmp_path / "c.png.part").write_text("half")
    (tmp_path / ".cache").mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / ".cache" / "hidden.png")
    manifest = find_cases(tmp_path)
    assert [case.name for case in manifest.cases] == ["IM0001", "b", "fake"]
    assert manifest.classes == ()


def test_one_door_for_images_and_manifests(dataset, tmp_path):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.png")
    assert len(find_cases(tmp_path / "a.png")) == 1
    assert len(find_cases([tmp_path / "a.png"])) == 1
    root = dataset("path,label\na.png,x\n")
    assert find_cases(root).classes == ("x",)
    assert find_cases(root / "labels.csv").classes == ("x",)
    with pytest.raises(ManifestError, match="does not exist"):
        find_cases(tmp_path / "none")


def test_an_empty_folder_says_what_to_put_there(tmp_path):
    with pytest.raises(ManifestError, match="holds no images; put"):
        scan_folder(tmp_path)
    with pytest.raises(ManifestError, match="holds no images"):
        scan_folder([])


MEASURED = """
import sys, tracemalloc
from counterscan.data.manifest import read_manifest
tracemalloc.start()
manifest = read_manifest(sys.argv[1])
assert len(manifest) == 2000
print(tracemalloc.get_traced_memory()[1])
"""  # in a process of its own: what other tests left behind allocates, too


def test_a_row_takes_little_memory(tmp_path):
    """An archive of ten thousand images is not to show in what a command takes: 2 KB a row, not 4."""
    names = [f"fact_{number}" for number in range(30)]
    rows = [
        {
            "path": f"images/{row:06d}.png",
            "patient_id": f"p-{row:06d}",
            "mask_path": f"masks/{row:06d}.png",
            "a": row % 2,
        }
        | {name: "" if (row + at) % 7 else f"{row * at % 1000 / 1000}" for at, name in enumerate(names)}
        for row in range(2000)
    ]
    (tmp_path / "labels.csv").write_text(text_of(rows))
    told = subprocess.run([sys.executable, "-c", MEASURED, tmp_path], check=True, capture_output=True, text=True)
    assert float(told.stdout) / 2000 < 2500
