"""Progress off a terminal: a line now and then, and one at the end, never the same twice."""

from counterscan import progress as module
from counterscan.progress import progress, within


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


def test_long_work_inside_says_how_far_it_is_and_is_silent_without_a_progress_around_it(capsys, monkeypatch):
    monkeypatch.setattr(module, "EVERY", 0.0)
    within(1, 10, "masks")
    assert capsys.readouterr().err == ""
    with progress("explain", 2, "cases") as done:
        within(240, 1000, "masks")
        done(1)
        within(500, 1000, "masks")
        done(2)
    within(3, 10, "masks")
    lines = [line.rpartition(",")[0] for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        "explain: 0 of 2 cases (240 of 1000 masks of the next)",
        "explain: 1 of 2 cases",
        "explain: 1 of 2 cases (500 of 1000 masks of the next)",
        "explain: 2 of 2 cases",
    ]
