import pytest

from counterscan.bench.parts import Models, manifest_parts, phantom_part
from counterscan.errors import CounterscanError, ManifestError


def write(folder, column, values):
    folder.mkdir()
    rows = [f"{index}.png,{index % 2},{value}" for index, value in enumerate(values)]
    (folder / "labels.csv").write_text("\n".join([f"path,tumour,{column}", *rows]) + "\n")
    return folder


def test_each_fold_is_measured_with_rules_chosen_on_the_next(tmp_path):
    data = write(tmp_path / "a", "fold", [0, 1, 2, 0, 1, 2, ""])
    found = manifest_parts(data)
    assert [part.name for part in found] == ["fold-0", "fold-1", "fold-2"]
    assert [{case.fold for case in part.test.cases} for part in found] == [{0}, {1}, {2}]
    assert [{case.fold for case in part.validation.cases} for part in found] == [{1}, {2}, {0}]
    assert [part.fold for part in manifest_parts(data, folds="2")] == [2]
    with pytest.raises(ManifestError, match="no fold 5; it has 0, 1, 2"):
        manifest_parts(data, folds="0,5")
    with pytest.raises(ManifestError, match="write all, or numbers"):
        manifest_parts(data, folds="first")


def test_splits_decide_where_there_are_no_folds(tmp_path):
    found = manifest_parts(write(tmp_path / "a", "split", ["train", "val", "test", "test"]))
    assert [(len(part.validation), len(part.test), part.name) for part in found] == [(1, 2, "all")]
    with pytest.raises(ManifestError, match="neither two folds nor"):
        manifest_parts(write(tmp_path / "b", "split", ["train", "dev"]))


def test_at_most_so_many_images_are_spread_over_a_part(tmp_path):
    (part, _) = manifest_parts(write(tmp_path / "a", "fold", [0] * 50 + [1] * 50), most=5)
    assert [case.name for case in part.test.cases] == ["0", "12", "24", "37", "49"]


def test_models_lie_where_the_fold_says_or_where_they_are_named():
    models = Models.parse("runs/ct/{fold}/", ["student=other/{fold}"])
    assert models.place("classifier", 3) == "runs/ct/3/classifier"
    assert models.place("student", 3) == "other/3"
    assert not models.there("judge", 3)
    assert models.there("student", 3)
    assert Models("abdomen").there("classifier")
    with pytest.raises(CounterscanError, match="did you mean 'student'"):
        Models.parse("", ["studnet=x"])


def test_phantoms_to_choose_on_are_others_than_those_measured(tmp_path):
    part = phantom_part("abdomen", tmp_path / "data", n=2, size=64, seed=5)
    first, second = (one.cases[0].path.read_bytes() for one in (part.validation, part.test))
    assert first != second
    assert part.name == "all"
