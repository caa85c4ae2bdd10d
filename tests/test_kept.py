"""Records that are read again: what is damaged is one line, and what is whole is what was written."""

import pytest

from counterscan.errors import CounterscanError, ScanError
from counterscan.kept import as_kept, finished_cases, read_json, read_rows


@pytest.mark.parametrize("content", [b"", b'{"a":', b"[1]", b"\xff\xfe", b"[" * 9000, b'{"a": 1' + b"0" * 5000 + b"}"])
def test_what_is_no_object_is_refused_in_one_line_that_names_the_file(tmp_path, content):
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(ScanError, match=r"run\.json is damaged") as error:
        read_json(path, "copy it again")
    assert "\n" not in str(error.value)
    assert str(error.value).endswith("; copy it again")


def test_an_object_is_read(tmp_path):
    (tmp_path / "run.json").write_text('{"a": [1]}')
    assert read_json(tmp_path / "run.json") == {"a": [1]}


def test_rows_have_their_columns_and_a_missing_cell_is_empty(tmp_path):
    path = tmp_path / "links.csv"
    path.write_text("reader,token\nada,x\ngrace\neve,y,z\n")
    expected = [("ada", "x"), ("grace", ""), ("eve", "y")]
    assert [(row["reader"], row["token"]) for row in read_rows(path, "reader", "token")] == expected
    with pytest.raises(ScanError, match="no column name"):
        read_rows(path, "name")


def test_rows_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "links.csv").write_bytes(b"reader,token\n\xff,x\n")
    with pytest.raises(ScanError, match=r"links\.csv is damaged"):
        read_rows(tmp_path / "links.csv")


def test_what_is_said_within_stays_as_it_is(tmp_path):
    with pytest.raises(CounterscanError, match=r"^another matter$"), as_kept(tmp_path):
        raise CounterscanError("another matter")


def test_a_message_repeats_a_long_name_in_part():
    long = str(CounterscanError(f"no class {'x' * 5000}; did you mean y?"))
    assert len(long) < 1000
    assert long.startswith("no class x")
    assert long.endswith("did you mean y?")


def test_finished_cases_are_those_with_an_explanation_and_no_hidden_ones(tmp_path):
    for name in ("b", "a", ".c.part"):
        (tmp_path / "cases" / name).mkdir(parents=True)
        (tmp_path / "cases" / name / "explanation.json").touch()
    (tmp_path / "cases" / "begun").mkdir()
    assert [case.name for case in finished_cases(tmp_path)] == ["a", "b"]
    assert finished_cases(tmp_path / "elsewhere") == []
