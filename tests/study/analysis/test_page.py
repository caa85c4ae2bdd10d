import re
from html.parser import HTMLParser

import pytest

from counterscan.study.analysis import analyse
from counterscan.study.analysis.page import page_of

VOID = {"meta", "br", "img", "input", "link", "hr"}


class Balance(HTMLParser):
    """Fails where a tag is closed that was not opened."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def content(study, answered):
    return analyse(study, answered).to_dict()


def test_the_page_is_whole_and_needs_nothing_from_elsewhere(content):
    page = page_of(content)
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert not re.search(r"(src|href)=\"(?!#)", page)
    assert page.count("<svg") >= 15
    assert "nan" not in re.findall(r"[cxywd\d]+=\"([a-z.]+)\"", page)


def test_the_page_says_who_was_left_out_and_who_failed(content):
    page = page_of({**content, "excluded": ["dan"], "inattentive": ["eva <b>"]})
    assert "Excluded by the study's owner: dan" in page
    assert "eva &lt;b&gt;" in page


def test_every_figure_of_the_tiles_is_there(content):
    value = content["parts"][0]["figures"]["auc"]["value"]
    assert f"<strong>{value:.3f}</strong>" in page_of(content)


def test_a_study_of_one_reader_has_a_page(study, answered):
    assert "over cases" in page_of(analyse(study, [one for one in answered if one.reader == "ada"]).to_dict())
