"""From a data set's folder to a manifest: recognised or refused in one line, written last, and nowhere else."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from counterscan.data.draws import drawn_split
from counterscan.data.importing import PARTS, import_layout, settle_splits
from counterscan.data.layouts.base import LAYOUTS, listed, word
from counterscan.data.manifest import read_manifest
from counterscan.errors import ManifestError, UnknownName
from counterscan.train.parts import parts


@pytest.fixture
def aptos(tmp_path):
    """A data set of five eyes."""
    folder = tmp_path / "aptos"
    (folder / "train_images").mkdir(parents=True)
    (folder / "train.csv").write_text("id_code,diagnosis\n" + "".join(f"eye{n},{n}\n" for n in range(5)))
    for number in range(5):
        Image.new("RGB", (8, 8), (number * 40, 0, 0)).save(folder / f"train_images/eye{number}.png")
    return folder


def state(folder):
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_folder_elsewhere_gets_a_link_and_the_data_set_is_not_touched(aptos, tmp_path):
    before = state(aptos)
    told = import_layout("aptos2019", aptos, tmp_path / "out")
    assert str(told) == f"5 images of 5 patients: {tmp_path / 'out' / 'labels.csv'}"
    assert (tmp_path / "out/data").resolve() == aptos
    assert state(aptos) == before
    assert read_manifest(tmp_path / "out").cases[0].read().pixels.shape == (1, 3, 8, 8)


@pytest.mark.parametrize(("out", "first"), [("aptos", "train_images/eye0.png"), (".", "aptos/train_images/eye0.png")])
def test_a_folder_at_or_above_the_data_set_needs_no_link(aptos, tmp_path, out, first):
    import_layout("aptos2019", aptos, tmp_path / out)
    table = (tmp_path / out / "labels.csv").read_text().splitlines()
    assert table[0] == "path,label,split"
    assert table[1].startswith(f"{first},no_dr,")
    assert not (tmp_path / out / "data").exists()


def test_again_is_the_same_and_something_else_is_refused(aptos, tmp_path):
    out = tmp_path / "out"
    first = import_layout("aptos2019", aptos, out)
    written = (out / "labels.csv").read_bytes()
    (out / "labels.csv").unlink()  # killed before the end
    assert import_layout("aptos2019", aptos, out) == first
    assert (out / "labels.csv").read_bytes() == written
    aptos.rename(tmp_path / "moved")
    with pytest.raises(ManifestError, match="holds the manifest of something else; choose another folder for --out"):
        import_layout("aptos2019", tmp_path / "moved", out)


def test_a_manifest_of_ones_own_is_never_written_over(aptos, tmp_path):
    (aptos / "labels.csv").write_text("path,label\ntrain_images/eye0.png,mine\n")
    with pytest.raises(ManifestError, match="holds the manifest of something else"):
        import_layout("aptos2019", aptos, aptos)
    assert "mine" in (aptos / "labels.csv").read_text()


def test_missing_images_are_listed_until_they_are_there(aptos, tmp_path):
    picture = aptos / "train_images/eye3.png"
    content = picture.read_bytes()
    picture.unlink()
    told = import_layout("aptos2019", aptos, tmp_path / "out")
    assert f"1 are listed but not there, and left out: {tmp_path / 'out/missing.csv'}" in str(told)
    assert (tmp_path / "out/missing.csv").read_text() == "path\ndata/train_images/eye3.png\n"
    picture.write_bytes(content)
    assert import_layout("aptos2019", aptos, tmp_path / "out").missing == ()
    assert not (tmp_path / "out/missing.csv").exists()


def test_a_line_twice_is_one_image_and_a_contradiction_is_refused(aptos, tmp_path):
    with (aptos / "train.csv").open("a") as table:
        table.write("eye0,0\n")
    assert import_layout("aptos2019", aptos, tmp_path / "out").images == 5
    with (aptos / "train.csv").open("a") as table:
        table.write("eye0,4\n")
    with pytest.raises(ManifestError, match=r"lists data/train_images/eye0.png twice, and differently"):
        import_layout("aptos2019", aptos, tmp_path / "out")


@pytest.mark.parametrize("name", ["../../outside", "{tmp}/outside", "a/../../../outside", "x" * 300])
def test_a_table_cannot_name_a_file_elsewhere(aptos, tmp_path, name):
    Image.new("L", (8, 8)).save(tmp_path / "outside.png")
    with (aptos / "train.csv").open("a") as table:
        table.write(f"{name.format(tmp=tmp_path)},0\n")
    told = import_layout("aptos2019", aptos, tmp_path / "out")
    assert (told.images, len(told.missing)) == (5, 1)


def test_no_image_at_all_is_an_error(aptos, tmp_path):
    (aptos / "train.csv").write_text("id_code,diagnosis\nother,1\n")
    for path in (aptos / "train_images").iterdir():
        path.rename(path.with_suffix(".jpg"))
    with pytest.raises(ManifestError, match=r"missing: train_images/\*\.png"):
        import_layout("aptos2019", aptos, tmp_path / "out")


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_another_folder_is_one_line_with_what_it_lacks(name, tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    with pytest.raises(ManifestError) as told:
        import_layout(name, folder, tmp_path / "out")
    needs = [one.replace("|", " or ") for one in LAYOUTS[name].needs]
    assert str(told.value).endswith(f"which has {', '.join(needs)}; missing: {', '.join(needs)}")
    assert not (tmp_path / "out").exists()


def test_a_neighbour_is_named(aptos, tmp_path):
    with pytest.raises(ManifestError, match=f"missing: train.csv, train_images/.*; name {aptos}"):
        import_layout("aptos2019", aptos.parent, tmp_path / "out")
    with pytest.raises(ManifestError, match=r"did you mean 'aptos2019'\?"):
        import_layout("chexpert", aptos, tmp_path / "out")
    with pytest.raises(UnknownName, match=r"no layout is called 'aptos'; did you mean 'aptos2019'\?"):
        import_layout("aptos", aptos, tmp_path / "out")
    with pytest.raises(ManifestError, match="does not exist; name the folder of the data set"):
        import_layout("aptos2019", tmp_path / "none", tmp_path / "out")
    with pytest.raises(ManifestError, match="the classes of APTOS 2019 are known; leave out --classes"):
        import_layout("aptos2019", aptos, tmp_path / "out", classes=("a",))


def test_a_link_that_cannot_be_made_names_the_cure(aptos, tmp_path):
    (tmp_path / "out/data").mkdir(parents=True)
    with pytest.raises(ManifestError, match=f"give --out {aptos}, or a folder above it, and no link is needed"):
        import_layout("aptos2019", aptos, tmp_path / "out")


def test_a_table_without_its_column_is_one_line(tmp_path):
    (tmp_path / "train.csv").write_text("id,diagnosis\n")
    with pytest.raises(ManifestError, match="has no column 'id_code'; is it the file that came with"):
        listed(tmp_path / "train.csv", "id_code")
    (tmp_path / "train.csv").write_text("")
    with pytest.raises(ManifestError, match="has no column 'id_code'"):
        listed(tmp_path / "train.csv", "id_code")
    (tmp_path / "train.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ManifestError, match="cannot be read as CSV"):
        listed(tmp_path / "train.csv", "id_code")


def test_names_of_classes_need_no_quotes():
    assert [word(name) for name in ("Pleural Effusion", "Pleural_Thickening", "COVID", "AP/PA ")] == [
        "pleural_effusion",
        "pleural_thickening",
        "covid",
        "ap_pa",
    ]


ROWS = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from([*PARTS, ""])), min_size=1, max_size=30)


@settings(deadline=None, max_examples=60)
@given(ROWS)
def test_every_patient_is_in_one_split_and_the_test_part_stays(drawn):
    rows = [
        {"path": Path(f"{n}.png"), "patient_id": patient, "split": split} for n, (patient, split) in enumerate(drawn)
    ]
    withdrawn = settle_splits(rows)
    seen = {}
    for row in rows:
        if row["split"]:
            seen.setdefault(row["patient_id"], set()).add(row["split"])
    assert all(len(places) == 1 for places in seen.values())
    assert withdrawn >= 0
    assert all(row["split"] == "test" for row, (_, split) in zip(rows, drawn, strict=True) if split == "test")


def test_drawn_parts_are_those_that_training_would_draw(tmp_path):
    names = [f"eye{number}" for number in range(60)]
    (tmp_path / "train_images").mkdir()
    for name in names:
        Image.new("L", (4, 4)).save(tmp_path / f"train_images/{name}.png")
    (tmp_path / "train.csv").write_text("id_code,diagnosis\n" + "".join(f"{name},0\n" for name in names))
    (tmp_path / "plain.csv").write_text("path\n" + "".join(f"train_images/{name}.png\n" for name in names))
    plain = parts(read_manifest(tmp_path / "plain.csv"))
    import_layout("aptos2019", tmp_path, tmp_path / "out")
    for part, manifest in parts(read_manifest(tmp_path / "out")).items():
        assert [case.name for case in manifest.cases] == [case.name for case in plain[part].cases]


def test_a_volume_without_a_patient_is_drawn_by_its_name_as_training_draws_it(tmp_path):
    names = [f"scan{number}" for number in range(40)]
    rows = [{"path": f"data/{name}.nii.gz", "patient_id": ""} for name in names]
    settle_splits(rows)
    assert [row["split"] for row in rows] == [drawn_split(name) for name in names]


def test_help_names_every_layout():
    from counterscan.commands.datasets import LAYOUTS as told

    assert told.rstrip(".").split(", ") == list(LAYOUTS)
