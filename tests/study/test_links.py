"""Personal links: what is damaged is refused, before a reader is sent elsewhere."""

import pytest

from counterscan.errors import ScanError
from counterscan.study.links import FILE, read_links, write_links


def test_links_are_read_as_they_were_written(tmp_path):
    assert read_links(tmp_path) == {}
    assert write_links(tmp_path, ["ada", "eve"]) == read_links(tmp_path)


@pytest.mark.parametrize("content", [b"", b"reader;token\nada;x\n", b"reader,token\n\xff,x\n"])
def test_damaged_links_are_refused(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ScanError, match=r"links\.csv is damaged .*; restore it from a copy"):
        read_links(tmp_path)
