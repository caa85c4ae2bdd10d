import csv
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterscan.errors import CounterscanError
from counterscan.web.viewer_index import Archive, Query, inside, plain


@pytest.fixture
def archive(tmp_path, write_run):
    write_run(tmp_path / "all" / "maps", attribution=True)
    write_run(tmp_path / "all" / "inpainting")
    write_run(tmp_path / "all" / "other", archive="elsewhere", scored=False)
    return opened(tmp_path / "all")


def opened(*folders):
    archive = Archive(folders)
    archive.refresh()
    return archive


def names(rows):
    return [row.name for row in rows]


def learn(archive):
    for folder in archive.folders.values():
        for row in folder.rows.values():
            folder.learn(row)


def test_runs_are_found_below_a_folder_and_a_case_is_shown_once(archive):
    assert [run["label"] for run in archive.told()["runs"]] == ["Inpainting", "LayerCAM", "Inpainting"]
    rows = archive.ask(Query())
    assert len(rows) == archive.told()["cases"] == 12
    assert all(row.changed for row in rows), "a method with counterfactuals leads"
    assert {other.run for other in archive.beside(archive.row("1", "case0"))} == {"0", "1"}


def test_filters_and_orders(archive):
    learn(archive)
    assert names(archive.ask(Query(run="0", state="not found"))) == ["case4"]
    assert names(archive.ask(Query(run="0", label="tumour", split="train"))) == ["case0"]
    assert names(archive.ask(Query(run="0", text="P3"))) == ["case3"]
    assert names(archive.ask(Query(run="0", column="iou", low=0.5, high=0.7))) == ["case2", "case3"]
    assert names(archive.ask(Query(run="0", sort="iou")))[0] == "case5"
    assert names(archive.ask(Query(run="0", sort="iou", down=True)))[0] == "case0"
    mixed = archive.ask(Query(sort="iou", down=True))
    assert [row.run for row in mixed[6:]] == ["2"] * 6, "what was not scored comes last"


def test_two_comes_before_ten(tmp_path, write_run):
    write_run(tmp_path / "run", n=11)
    assert names(opened(tmp_path / "run").ask(Query()))[1:3] == ["case1", "case2"]


def test_a_score_that_comes_later_is_seen(archive, tmp_path, write_run):
    assert "iou" not in archive.row("2", "case0").numbers
    (tmp_path / "all" / "other" / "scores.csv").write_text("name,slice,iou\ncase0,0,0.2\ncase0,1,0.4\n")
    archive.refresh()
    assert archive.row("2", "case0").numbers["iou"] == pytest.approx(0.3), "of slices the mean"


def test_a_job_that_has_not_ended_is_listed_by_its_folders(tmp_path, write_run):
    (write_run(tmp_path / "run") / "cases.csv").unlink()
    (tmp_path / "run" / "cases" / ".case9.part").mkdir()
    assert len(opened(tmp_path / "run").ask(Query())) == 6


def test_what_tables_do_not_say_is_read_in_the_background(archive):
    assert archive.told()["known"] < 1
    stop = threading.Event()
    thread = threading.Thread(target=archive.read_on, args=(stop,))
    thread.start()
    for _ in range(500):
        if archive.told()["known"] == 1:
            break
        stop.wait(0.01)
    stop.set()
    thread.join()
    assert archive.told()["labels"] == {"tumour": 9}


def test_a_folder_without_explanations_is_refused(tmp_path):
    with pytest.raises(CounterscanError, match="counterscan explain"):
        Archive([tmp_path])


def test_links_are_not_followed(tmp_path, write_run):
    run = write_run(tmp_path / "outside")
    (tmp_path / "dir").mkdir()
    os.symlink(run, tmp_path / "dir" / "run")
    with pytest.raises(CounterscanError):
        Archive([tmp_path / "dir"])
    os.symlink(run / "cases", tmp_path / "dir" / "cases")
    assert inside(tmp_path / "dir", "cases", "case0") is None


def test_names_in_a_table_that_lead_elsewhere_are_left_out(tmp_path, write_run):
    run = write_run(tmp_path / "run")
    with (run / "cases.csv").open("a", newline="") as file:
        csv.writer(file).writerows([["../../x"], [".."], ["a/b"], [".hidden"], ["a\0b"]])
    assert {row.name for row in opened(run).ask(Query())} <= {f"case{index}" for index in range(6)}


@given(st.text())
def test_a_plain_name_stays_in_its_folder(name):
    if plain(name):
        assert os.path.dirname(os.path.normpath(os.path.join("/folder", name))) == "/folder"
