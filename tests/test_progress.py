"""Progress off a terminal: a line now and then, and one at the end, never the same twice."""

from counterscan import progress as module
from counterscan.progress import progress


def test_short_work_ends_with_one_line(capsys):
    with progress("explain", 3, "cases") as done:
        for count in range(1, 4):
            done(count)
    assert capsys.readouterr().err == "explain: 3 of 3 cases, 0 s\n"


def test_long_work_says_how_far_it_is(capsys, monkeypatch):
    monkeypatch.setattr(module, "EVERY", 0.0)
    with progress("explain", 2) as done:
        done(1)
        done(2)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["explain: 1 of 2 images", "explain: 2 of 2 images"]
