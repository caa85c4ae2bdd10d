import os

import pytest

from counterscan.data.table import LARGEST, boxes_of, fold_of, read_table, table_of, text_of
from counterscan.errors import ManifestError


def write(tmp_path, text, **settings):
    (tmp_path / "labels.csv").write_text(text, **settings)
    return tmp_path / "labels.csv"


def test_semicolons_a_byte_order_mark_and_empty_lines_are_read(tmp_path):
    columns, rows = read_table(write(tmp_path, "path; label\n\na.png;x\n;\nb.png;y\n", encoding="utf-8-sig"))
    assert columns == ["path", "label"]
    assert [row["path"] for row in rows] == ["a.png", "b.png"]


def test_quoted_commas_and_short_rows_are_read(tmp_path):
    _, rows = read_table(write(tmp_path, 'path,box,view\na.png,"A:1,2,3,4"\n'))
    assert rows == [{"path": "a.png", "box": "A:1,2,3,4", "view": ""}]


def test_cells_that_are_alike_are_held_once(tmp_path):
    _, rows = read_table(write(tmp_path, "path,view\na.png,AP supine\nb.png,AP supine\n"))
    assert rows[0]["view"] is rows[1]["view"]
    assert rows[1].under({"view": 1}) == {"view": "AP supine"}


def test_boxes_have_a_finding_and_four_numbers(tmp_path):
    assert boxes_of(tmp_path, 2, "A:1,2,3,4;5,6,7,8.5") == (("A", 1, 2, 3, 4), ("", 5, 6, 7, 8.5))
    for text in ("A:1,2,3", "A:1,2,3,nan", "A:1,2,inf,4"):
        with pytest.raises(ManifestError, match="row 2 has box"):
            boxes_of(tmp_path, 2, text)


def test_a_fold_is_a_whole_number(tmp_path):
    assert [fold_of(tmp_path, 2, text) for text in ("", "3", "3.0")] == [None, 3, 3]
    for text in ("three", "nan", "inf", "-1e999"):
        with pytest.raises(ManifestError, match="row 2 has fold"):
            fold_of(tmp_path, 2, text)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "labels.csv")
    with pytest.raises(ManifestError, match="pipe or a device"):
        table_of(tmp_path / "labels.csv")


def test_what_is_too_large_for_a_manifest_is_not_read(tmp_path):
    path = write(tmp_path, "path\n")
    os.truncate(path, LARGEST + 1)
    with pytest.raises(ManifestError, match="larger than 256 MiB"):
        read_table(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column 'path'"),
        ("file,label\na.png,x\n", "no column 'path'"),
        ("path,x,x\na.png,1,1\n", "two columns 'x'"),
        ("path," + "x" * 3000 + "\na.png,1\n", "name has 3,000 letters; is the first line the header"),
        ("path,fold\na.png," + "1" * 3000, "row 2 has 3,000 letters under 'fold'"),
        ("path,label\n", "lists no images"),
        ("path,label\na.png,x,y\n", "row 2 has 3 cells"),
        ('path,label\n"a.png,x\n', "not CSV"),
    ],
)
def test_a_fault_is_one_line_that_names_the_file(tmp_path, text, words):
    with pytest.raises(ManifestError, match=words) as caught:
        read_table(write(tmp_path, text))
    assert "labels.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "labels.csv").write_bytes(b"path\n\xff\xfe\x00\x81")
    with pytest.raises(ManifestError, match="UTF-8"):
        read_table(tmp_path / "labels.csv")


def test_a_table_is_written_with_every_column_or_with_those_asked_for(tmp_path):
    rows = [{"path": "a.png", "label": 'b, "c"'}, {"path": "d.png", "age": 3}]
    assert text_of(rows) == 'path,label,age\na.png,"b, ""c""",\nd.png,,3\n'
    assert text_of(rows, ["age", "path"]) == "age,path\n,a.png\n3,d.png\n"
    assert text_of([], ["name"]) == "name\n"
    assert read_table(write(tmp_path, text_of(rows)))[1][0]["label"] == 'b, "c"'
